"""Searches replayed on NAS-Bench-201's table, through an Optuna study in memory.

Each search sees 12-epoch validation accuracies on CIFAR-10 and pays 12-epoch training
times; what it found best is judged by test accuracy after 200 epochs on each data set, as in
the paper's comparison (Dong & Yang 2020, arXiv:2001.00326, table 5).

    python -m benchmarks.nb201 --table nb201.npz --strategies regularized_evolution,random \
        --datasets cifar10,cifar100,imagenet16-120 --seeds 500 --budget-s 12000
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import optuna

from benchmarks.report import add_json, report
from benchmarks.samplers import NAMES, make_sampler
from nas_plugins import SearchSpace, spaces
from nas_plugins.estimators.tabular import DATASETS, BudgetSpentError, Replay, TabularNB201
from nas_plugins.optuna import suggest

# As in the paper's comparison; everything else runs with its defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "regularized_evolution": {"population_size": 10, "sample_size": 3}
}


def search(space: SearchSpace, replay: Replay, strategy: str, seed: int) -> None:
    """One study, until the budget of the replay is spent."""
    sampler = make_sampler(strategy, space, seed, **OPTIONS.get(strategy, {}))
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        try:
            return replay.train(suggest(trial, space)).reward
        except BudgetSpentError as error:
            study.stop()
            raise optuna.TrialPruned(str(error)) from error

    study.optimize(objective)


def judge(
    seed: int,
    *,
    table: str,
    strategy: str,
    datasets: list[str],
    budget_s: float | None,
    trainings: int | None,
) -> tuple[list[float], int]:
    """Test accuracy on each data set of what one search found, and its trainings."""
    tables, space = _loaded(table, tuple(datasets))
    replay = Replay(tables[0], budget_s=budget_s, num_trainings=trainings)
    search(space, replay, strategy, seed)
    if replay.best_architecture is None:
        raise SystemExit(f"--budget-s {budget_s} is too small for one training")
    found = [t.query(replay.best_architecture).test_accuracy for t in tables]
    return found, replay.num_trained


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nb201",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", required=True, help="NAS-Bench-201 as .npz")
    parser.add_argument("--strategies", default="regularized_evolution,random", help=str(NAMES))
    parser.add_argument("--datasets", default=",".join(DATASETS), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=500, help="searches each (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (%(default)s)")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--budget-s", type=float, help="simulated seconds of training (12000)")
    end.add_argument("--trainings", type=int, help="number of trainings instead")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.budget_s is None and arguments.trainings is None:
        arguments.budget_s = 12_000.0
    datasets = arguments.datasets.split(",")
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for strategy in arguments.strategies.split(","):
            run = partial(
                judge,
                table=arguments.table,
                strategy=strategy,
                datasets=datasets,
                budget_s=arguments.budget_s,
                trainings=arguments.trainings,
            )
            results = list(pool.map(run, range(arguments.seeds)))
            found = np.array([accuracies for accuracies, _ in results])  # (seeds, data sets)
            rows += [
                {
                    "strategy": strategy,
                    "dataset": dataset,
                    "mean": round(float(found[:, i].mean()), 3),
                    "std": round(float(found[:, i].std()), 3),
                    "seeds": arguments.seeds,
                    "trainings": round(float(np.mean([n for _, n in results])), 1),
                }
                for i, dataset in enumerate(datasets)
            ]
    report(rows, arguments.json)


_cache: dict[tuple[str, tuple[str, ...]], tuple[list[TabularNB201], SearchSpace]] = {}


def _loaded(table: str, datasets: tuple[str, ...]) -> tuple[list[TabularNB201], SearchSpace]:
    """Tables and space, read once in each process."""
    if (table, datasets) not in _cache:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        tables = [TabularNB201(table, dataset) for dataset in datasets]
        _cache[table, datasets] = tables, spaces.load("nas_bench_201")
    return _cache[table, datasets]


if __name__ == "__main__":
    main()
