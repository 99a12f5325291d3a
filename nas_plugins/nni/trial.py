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
from pathlib import Path
from typing import Any

from nas_plugins.architecture import Architecture
from nas_plugins.nni.reporting import failing_loudly, receive_architecture, report_score
from nas_plugins.space import SearchSpace

__all__ = ["main"]

_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one trial."""
    options = _parser().parse_args(arguments)
    from nas_plugins.spaces import load

    space = load(options.space, **options.space_options)
    architecture = receive_architecture(space)
    with failing_loudly(architecture):
        directory = Path(os.environ.get("NNI_OUTPUT_DIR", "nni_trial"))
        _draw(space, architecture, directory / "architecture.svg")
        result = _train(space, architecture, directory, options)
        report_score(architecture, result.score, result.metrics)


def _train(
    space: SearchSpace, architecture: Architecture, directory: Path, options: argparse.Namespace
) -> Any:
    from lightning_modules import train_child
    from lightning_modules.callbacks import NNIReportCallback
    from lightning_modules.catalogue import data_module
    from nas_plugins.budget import Budget

    return train_child(
        space,
        architecture,
        data_module(options.data, directory=options.data_dir, **options.data_options),
        budget=Budget(epochs=options.epochs, data_fraction=options.data_fraction),
        seed=options.seed,
        callbacks=[NNIReportCallback(architecture=architecture)],
        directory=directory / "checkpoints",
        accelerator=options.accelerator,
        inherit=_parent(options.inherit),
        **options.module_options,
    )


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nas_plugins.nni.trial", description=__doc__)
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
    return parser


if __name__ == "__main__":
    main()
