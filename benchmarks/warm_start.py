"""What an earlier study on another data set is worth, replayed on the FC-Net tables.

The earlier study is 100 trainings by regularized evolution. ``multi_task`` gets it as a task;
``gp`` knows nothing of it; ``gp, best first`` begins with its three best configurations, as
``multi_task`` does, and knows no more. Median immediate regret after so many trainings, and the
trainings after which the median is, and stays, as low as that of ``gp`` at the end.

    python -m benchmarks.warm_start --table fcnet_final.npz --seeds 5 --json FILE
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.hpo_tables import FCNET, load
from benchmarks.report import add_json, report
from nas_plugins.strategies import Observation, Strategy, create

SEARCHES = ("gp", "gp, best first", "multi_task")
NUM_EARLIER = 100
NUM_FIRST = 3


def study(
    strategy: Strategy, dataset: str, path: str, seed: int, num: int
) -> tuple[list[Observation], list[float]]:
    """A strategy that may have been told something; regret of the incumbent after each training."""
    table, rng = load(path, dataset), np.random.default_rng(seed)
    history: list[Observation] = []
    regrets: list[float] = []
    best = -np.inf
    for _ in range(num):
        architecture = strategy.ask()
        row = table.row(architecture)
        score, _ = table.train(row, table.epochs[-1], rng)
        strategy.tell(architecture, score)
        history.append(Observation(architecture, score))
        regrets.append(table.regret(row) if score > best else regrets[-1])
        best = max(best, score)
    return history, regrets


class BestFirst:
    """A strategy whose first proposals are given."""

    def __init__(self, strategy: Strategy, first: list[Any]) -> None:
        self._strategy = strategy
        self._first = list(first)

    def ask(self) -> Any:
        return self._first.pop(0) if self._first else self._strategy.ask()

    def tell(self, architecture: Any, score: float) -> None:
        self._strategy.tell(architecture, score)


def replay(seed: int, *, path: str, earlier: str, dataset: str, name: str, num: int) -> list[float]:
    """One search after, or without, one earlier study."""
    space = load(path, dataset).space
    evolution = create("regularized_evolution", space, seed=seed, population_size=10, sample_size=3)
    known, _ = study(evolution, earlier, path, seed, NUM_EARLIER)
    task = [(o.architecture, o.score) for o in known]
    searcher: Any
    if name == "multi_task":
        searcher = create(name, space, seed=seed, tasks=[task], num_initial=NUM_FIRST)
    else:
        searcher = create("gp", space, seed=seed)
    if name == "gp, best first":
        searcher = create("gp", space, seed=seed, num_initial=NUM_FIRST)
        ranked = dict.fromkeys(a for a, _ in sorted(task, key=lambda pair: -pair[1]))
        searcher = BestFirst(searcher, list(ranked)[:NUM_FIRST])
    return study(searcher, dataset, path, seed, num)[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.warm_start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", required=True, help="FC-Net as .npz")
    parser.add_argument("--seeds", type=int, default=5, help="searches each (%(default)s)")
    parser.add_argument("--trainings", type=int, default=25, help="of a search (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for earlier, dataset in zip(FCNET, [*FCNET[1:], FCNET[0]], strict=True):
            goal = 0.0
            for name in SEARCHES:
                run = partial(
                    replay,
                    path=arguments.table,
                    earlier=earlier,
                    dataset=dataset,
                    name=name,
                    num=arguments.trainings,
                )
                found = np.array(list(pool.map(run, range(arguments.seeds))))
                medians = np.median(found, axis=0)
                goal = float(medians[-1]) if name == "gp" else goal
                rows.append(_row(earlier, dataset, name, medians, goal, arguments.seeds))
            report(rows, arguments.json)


def _row(
    earlier: str, dataset: str, name: str, medians: np.ndarray, goal: float, seeds: int
) -> dict[str, Any]:
    above = np.flatnonzero(medians > goal)
    needed = int(above[-1]) + 2 if len(above) else 1
    row: dict[str, Any] = {"earlier": earlier, "dataset": dataset, "search": name}
    for count in (3, 5, 10, 15, 20, len(medians)):
        row[f"regret_{count}"] = float(f"{medians[count - 1]:.3g}")
    row["goal"] = float(f"{goal:.3g}")
    row["trainings_to_goal"] = needed if needed <= len(medians) else None
    return {**row, "seeds": seeds}


if __name__ == "__main__":
    main()
