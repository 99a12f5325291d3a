"""A trial where a supernet comes first: ``python -m nas_plugins.nni.supernet_trial``.

When :class:`~nas_plugins.nni.supernet_tuner.SupernetTuner` asks for the supernet, trains it and
reports which architectures it ranks best; else builds, trains and reports one child as
:mod:`nas_plugins.nni.trial` does, with fresh or inherited weights.

The supernet lies in the experiment's directory (``supernet/last.ckpt``), so that a trial that
was cut off and one that repeats it go on from the last epoch, and children find their weights.
Beside it, ``prior.json`` is what any other search can start from, and ``alphas.svg`` shows what
was learned.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import nni

from lightning_modules import train_supernet
from nas_plugins.nni.metric import ERROR, SUPERNET, is_of_supernet
from nas_plugins.nni.reporting import failing_loudly
from nas_plugins.nni.search_space import architecture_of
from nas_plugins.nni.trial import data_of, experiment_directory, train_and_report, trial_parser
from nas_plugins.prior import Prior
from nas_plugins.space import SearchSpace

__all__ = ["checkpoint", "main", "supernet_parser"]

_MAX_REPORTED = 1000  # architectures in a metric, which lies in NNI's database


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one trial."""
    options = supernet_parser().parse_args(arguments)
    from nas_plugins.spaces import load

    space = load(options.space, **options.space_options)
    parameters = nni.get_next_parameter() or {SUPERNET: options.mutator}  # outside NNI
    if is_of_supernet(parameters):
        try:
            nni.report_final_result({SUPERNET: _search(space, options).to_dict()})
        except Exception as error:
            nni.report_final_result({ERROR: f"{type(error).__name__}: {error}"})
            raise
        return
    architecture = architecture_of(space, parameters)
    with failing_loudly(architecture):
        if options.inherit_weights:
            options.inherit = checkpoint()
        train_and_report(space, architecture, options)


def _search(space: SearchSpace, options: argparse.Namespace) -> Prior:
    """Train the supernet, or go on with it, and say what was found."""
    data = data_of(options)
    data = data.prepared_for(data_fraction=options.data_fraction * data.data_fraction)
    module = train_supernet(
        space,
        options.mutator,
        data,
        epochs=options.supernet_epochs,
        seed=options.seed,
        checkpoint=checkpoint(),
        accelerator=options.accelerator,
        mutator_options=options.mutator_options,
    )
    prior = module.prior(data, num=options.num_ranked)
    prior.write(checkpoint().with_name("prior.json"))
    if module.search.history[-1]:  # else nothing was learned but weights
        module.search.draw_alphas(checkpoint().with_name("alphas.svg"))
    return Prior(prior.scores[: max(options.num_ranked, _MAX_REPORTED)], prior.probabilities)


def checkpoint() -> Path:
    """Where this experiment's supernet lies, for all its trials."""
    return experiment_directory() / "supernet" / "last.ckpt"


def supernet_parser() -> argparse.ArgumentParser:
    """Reads what shapes the trainings of supernet and children."""
    parser = trial_parser(__doc__)
    parser.add_argument("--mutator", required=True, help="method that searches the supernet")
    parser.add_argument("--mutator-options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--supernet-epochs", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument(
        "--num-ranked", type=int, default=10, help="architectures to rank (default: %(default)s)"
    )
    parser.add_argument(
        "--inherit-weights",
        action="store_true",
        help="children start with the supernet's weights instead of fresh ones",
    )
    return parser


if __name__ == "__main__":
    main()
