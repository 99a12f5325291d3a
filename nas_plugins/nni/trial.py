"""A trial of an NNI experiment: ``python -m nas_plugins.nni.trial --space NAME``.

Builds and trains the child of the architecture that NNI hands over, reports its validation
accuracy after each epoch and at the end, and draws it beside the trial's logs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_plugins.architecture import Architecture
from nas_plugins.nni.reporting import (
    failing_loudly,
    receive_architecture,
    receive_epochs,
    report_score,
)
from nas_plugins.space import SearchSpace

if TYPE_CHECKING:
    from lightning_modules import ImageDataModule

__all__ = ["data_of", "experiment_directory", "main", "train_and_report", "trial_parser"]

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one trial."""
    options = trial_parser(__doc__).parse_args(arguments)
    from nas_plugins.spaces import load

    space = load(options.space, **options.space_options)
    architecture = receive_architecture(space)
    epochs = receive_epochs()
    if epochs is None:
        with failing_loudly(architecture):
            train_and_report(space, architecture, options)
    else:  # NNI's Hyperband takes a failure that is reported for its own
        options.epochs = epochs
        train_and_report(space, architecture, options, experiment_directory() / "children")


def train_and_report(
    space: SearchSpace,
    architecture: Architecture,
    options: argparse.Namespace,
    checkpoints: Path | None = None,
) -> None:
    """Draw an architecture, train its child and report what it is worth.

    Args:
        space: Where the architecture is from.
        architecture: What is trained.
        options: As :func:`trial_parser` reads them.
        checkpoints: Where trainings are kept, and shorter ones of the same child are gone on
            with; ``epochs`` and ``epochs_saved`` are then reported as well. Default: the trial's
            own directory.

    Raises:
        InfeasibleError: It costs more than it may.
    """
    from lightning_modules import train_child
    from lightning_modules.callbacks import NNIReportCallback
    from lightning_modules.training import child_cost
    from nas_plugins.budget import Budget
    from nas_plugins.estimators.worth import Worth

    directory, data = _output_directory(), data_of(options)
    worth = Worth.read(options.targets, options.limits, options.latency_table)
    count = partial(child_cost, space, data)
    costs = worth.costs(architecture, count) if worth.counts_costs else {}
    _draw(space, architecture, directory / "architecture.svg")
    result = train_child(
        space,
        architecture,
        data,
        budget=Budget(epochs=options.epochs, data_fraction=options.data_fraction),
        seed=options.seed,
        callbacks=[NNIReportCallback(architecture=architecture)],
        directory=checkpoints or directory / "checkpoints",
        accelerator=options.accelerator,
        inherit=_parent(options.inherit),
        **options.module_options,
    )
    score = worth.reward(result.score, costs)
    metrics = {**result.metrics, "accuracy": result.score, **costs}
    if checkpoints is not None:
        metrics.update(epochs=options.epochs, epochs_saved=result.epochs_saved)
    report_score(architecture, score, metrics)


def _output_directory() -> Path:
    """Where this trial leaves its files."""
    return Path(os.environ.get("NNI_OUTPUT_DIR", "nni_trial"))


def experiment_directory() -> Path:
    """What all trials of this experiment share; outside NNI the trial's own directory."""
    output = _output_directory()
    experiment = os.environ.get("NNI_EXP_ID")
    found = [parent for parent in output.resolve().parents if parent.name == experiment]
    return found[0] if found else output


def data_of(options: argparse.Namespace) -> ImageDataModule:
    """The images that the options name."""
    from lightning_modules.catalogue import data_module

    return data_module(options.data, directory=options.data_dir, **options.data_options)


def _parent(path: Path | None) -> Any:
    """A checkpoint, or of a folder of trained children the nearest."""
    if path is None or not path.is_dir():
        return path
    from lightning_modules import NearestChild

    return NearestChild(path)


def _draw(space: SearchSpace, architecture: Architecture, path: Path) -> None:
    """Draw the architecture; a picture that fails is no reason for the trial to."""
    try:
        from nas_plugins.drawing import draw

        path.parent.mkdir(parents=True, exist_ok=True)
        draw(space, architecture, path)
    except Exception:
        _logger.warning("Architecture %s could not be drawn", architecture.id, exc_info=True)


def trial_parser(description: str | None) -> argparse.ArgumentParser:
    """Reads what shapes the training of a child."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--space", required=True, help="name, module:callable or file.py:callable")
    parser.add_argument("--space-options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--epochs", type=int, default=4, help="per trial (default: %(default)s)")
    parser.add_argument("--data-fraction", type=float, default=1.0, help="of the training data")
    parser.add_argument(
        "--data",
        default="digits",
        help="name as of nas-plugins search, or package.module:callable (default: %(default)s)",
    )
    parser.add_argument("--data-dir", help="where the images lie; not for the digits")
    parser.add_argument("--data-options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument(
        "--module-options", type=json.loads, default={}, metavar="JSON", help="of ChildClassifier"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument(
        "--inherit",
        type=Path,
        metavar="PATH",
        help="begin with the weights of a supernet's or a child's checkpoint, or of the nearest "
        "child in a folder, such as the experiment's",
    )
    parser.add_argument("--accelerator", default="auto", help="of Lightning's Trainer")
    parser.add_argument("--latency-table", type=Path, help="adds latency_ms to the costs")
    parser.add_argument(
        "--targets",
        type=json.loads,
        default={},
        metavar="JSON",
        help="cost to target of the reward",
    )
    parser.add_argument(
        "--limits", type=json.loads, default={}, metavar="JSON", help="cost to the most it may be"
    )
    return parser


if __name__ == "__main__":
    main()
