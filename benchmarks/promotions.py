"""Successive halving on the digits, by each host: epochs that promoted trainings did not repeat.

    python -m benchmarks.promotions --host optuna
    python -m benchmarks.promotions --host hpbandster

and, for NNI, what an experiment in this directory has done:

    nas-plugins nni-config --space nas_bench_201 --space-option channels=4 \
        --space-option num_cells=1 --hyperband 3 --epochs 9 --trials 13 halved
    nnictl create --config halved/config.yml
    python -m benchmarks.promotions --host nni --directory ~/nni-experiments/ID
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import optuna

from benchmarks.report import add_json, report
from lightning_modules import DigitsDataModule, train_child
from lightning_modules.callbacks import OptunaPruningCallback
from nas_plugins import Budget, SearchSpace, spaces
from nas_plugins.optuna import PromotePruned, RandomArchitectureSampler, suggest

EPOCHS, ETA = 9, 3


def in_optuna(space: SearchSpace, directory: Path, trials: int, seed: int) -> list[tuple[int, int]]:
    """Epochs that each trial has behind it, and those of them that it found in a checkpoint."""
    data = DigitsDataModule(batch_size=64)

    def objective(trial: optuna.Trial) -> float:
        result = train_child(
            space,
            suggest(trial, space),
            data,
            budget=Budget(epochs=EPOCHS),
            seed=seed,
            callbacks=[OptunaPruningCallback(trial)],
            directory=directory,
            accelerator="cpu",
        )
        return result.score

    study = optuna.create_study(
        direction="maximize",
        sampler=RandomArchitectureSampler(space, seed=seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=ETA),
    )
    study.optimize(objective, n_trials=trials, callbacks=[PromotePruned(ETA)])
    return [
        (len(t.intermediate_values), t.user_attrs.get("epochs_saved", 0))
        for t in study.trials
        if t.state.is_finished()  # else it waits to go on
    ]


def in_hpbandster(space: SearchSpace, directory: Path, seed: int) -> list[tuple[int, int]]:
    """The same of each run of one Hyperband: three brackets."""
    from nas_plugins.hpbandster import run

    result = run(
        space,
        strategy="random",
        num_iterations=3,
        max_budget=EPOCHS,
        eta=ETA,
        seed=seed,
        training={"accelerator": "cpu"},
        directory=directory / "run",
    )
    return [(round(r.budget), r.info["epochs_saved"]) for r in result.get_all_runs()]


def in_nni(directory: Path) -> list[tuple[int, int]]:
    """The same of each trial of an experiment that was run."""
    from nas_plugins.nni import report as rows_of

    values = [row["value"] for row in rows_of(str(directory)) if row["score"] is not None]
    return [(round(v["epochs"]), round(v["epochs_saved"])) for v in values]


def summary(host: str, runs: list[tuple[int, int]]) -> dict[str, Any]:
    whole, saved = (sum(column) for column in zip(*runs, strict=True))
    return {
        "host": host,
        "runs": len(runs),
        "promoted": sum(found > 0 for _, found in runs),
        "epochs of all runs": whole,
        "epochs trained": whole - saved,
        "epochs_saved": saved,
        "share": f"{saved / whole:.1%}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.promotions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", choices=["optuna", "hpbandster", "nni"], required=True)
    parser.add_argument("--directory", type=Path, help="of NNI's experiment")
    parser.add_argument("--trials", type=int, default=40, help="of Optuna (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.host == "nni" and arguments.directory is None:
        parser.error("--host nni needs --directory")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = spaces.load("nas_bench_201", channels=4, num_cells=1, in_channels=1)
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.host == "optuna":
            runs = in_optuna(space, Path(temporary), arguments.trials, arguments.seed)
        elif arguments.host == "hpbandster":
            runs = in_hpbandster(space, Path(temporary), arguments.seed)
        else:
            runs = in_nni(arguments.directory)
    report([summary(arguments.host, runs)], arguments.json)


if __name__ == "__main__":
    main()
