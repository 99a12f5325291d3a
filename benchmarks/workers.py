"""Searches with several workers in simulated time, replayed on NAS-Bench-201's table.

Each worker asks when it is free and trains for as long as the table says; results are told in
order of completion. So the strategy sees what it would see in a study: a proposal's number, and
a history that lacks what is under way. Asking takes no time here.

Mean test accuracy of what has the highest reward: ``same_time`` after as many seconds for all,
four times what the most workers take for what one worker trains; ``same_cost`` after as many
trainings. ``speedup`` is how much sooner than one worker at its end the mean is as high.

``bohb`` is the model of HpBandSter's BOHB, on one budget since the table has one: what remains
of it without early stopping.

    python -m benchmarks.workers --table nb201.npz --workers 1,4,16,32 --seeds 100 \
        --strategies random,regularized_evolution,predictor,bohb
"""

from __future__ import annotations

import argparse
import heapq
import logging
import math
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np

from benchmarks.nb201 import OPTIONS, load_space, load_table
from benchmarks.report import add_json, report
from nas_plugins import Architecture, SearchSpace
from nas_plugins.estimators.tabular import TabularNB201
from nas_plugins.strategies import REGISTRY, create

_LONGER = 4


class Searcher(Protocol):
    """What is used of a strategy."""

    def ask(self, number: int) -> Architecture: ...

    def tell(self, architecture: Architecture, score: float) -> None: ...


class BOHB:
    """HpBandSter's config generator behind the two methods; it draws from numpy's global state."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        from hpbandster.optimizers.config_generators.bohb import BOHB as Generator

        # Its kernel of width zero divides by it, and says so at length.
        logging.getLogger("hpbandster").setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore")
        space.config_space.seed(seed)
        np.random.seed(seed)
        self._generator = Generator(space.config_space, logger=logging.getLogger("hpbandster"))

    def ask(self, number: int) -> Architecture:
        return Architecture(self._generator.get_config(1.0)[0])

    def tell(self, architecture: Architecture, score: float) -> None:
        from hpbandster.core.dispatcher import Job

        job = Job((0, 0, 0), config=dict(architecture), budget=1.0)
        job.result = {"loss": -score}
        self._generator.new_result(job)


def simulate(
    searcher: Searcher, table: TabularNB201, num_workers: int, until_s: float
) -> list[tuple[float, float]]:
    """When the incumbent changed, and its test accuracy; by seconds of simulated time."""
    running: list[tuple[float, int, Architecture]] = []
    trace: list[tuple[float, float]] = []
    clock, number, best = 0.0, 0, -math.inf
    while True:
        while len(running) < num_workers:
            architecture = searcher.ask(number)
            heapq.heappush(
                running, (clock + table.query(architecture).seconds, number, architecture)
            )
            number += 1
        clock, _, architecture = heapq.heappop(running)
        if clock > until_s:
            return trace
        result = table.query(architecture)
        searcher.tell(architecture, result.reward)
        if result.reward > best:
            best = result.reward
            trace.append((clock, result.test_accuracy))


def run(
    seed: int, *, path: str, strategy: str, num_workers: int, until_s: float
) -> list[tuple[float, float]]:
    space = load_space()
    searcher: Searcher
    if strategy == "bohb":
        searcher = BOHB(space, seed)
    else:
        searcher = create(strategy, space, seed=seed, **OPTIONS.get(strategy, {}))
    return simulate(searcher, load_table(path, "cifar10", "cifar10"), num_workers, until_s)


def accuracy(traces: list[list[tuple[float, float]]], at_s: np.ndarray) -> np.ndarray:
    """Test accuracy of each trace's incumbent at some times, 0 before there is one.

    Returns:
        Shape ``(traces, times)``.
    """
    rows = []
    for trace in traces:
        times, tests = np.array([(0.0, 0.0), *trace]).T
        rows.append(tests[np.searchsorted(times, at_s, side="right") - 1])
    return np.array(rows)


def horizon_s(total_s: float, num_workers: int) -> float:
    """How long so many workers are simulated."""
    return min(total_s, _LONGER * total_s / num_workers)


def rows_of(
    strategy: str, traces: Mapping[int, list[list[tuple[float, float]]]], total_s: float
) -> list[dict[str, Any]]:
    """A row for each number of workers."""
    goal = accuracy(traces[1], np.array([total_s])).mean() if 1 in traces else math.inf
    shared_s = horizon_s(total_s, max(traces))
    rows = []
    for num_workers, found in traces.items():
        at = accuracy(found, np.array([shared_s, total_s / num_workers]))
        error = at.std(0) / len(found) ** 0.5
        grid = np.linspace(0, horizon_s(total_s, num_workers), 2001)[1:]
        reached = grid[accuracy(found, grid).mean(0) >= goal]
        rows.append(
            {
                "strategy": strategy,
                "workers": num_workers,
                "same_time_s": round(shared_s),
                "same_time": round(float(at[:, 0].mean()), 3),
                "se": round(float(error[0]), 3),
                "same_cost_s": round(total_s / num_workers),
                "same_cost": round(float(at[:, 1].mean()), 3),
                "cost_se": round(float(error[1]), 3),
                "speedup": round(float(total_s / reached[0]), 1) if len(reached) else None,
                "seeds": len(found),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "random,regularized_evolution,reinforce,ppo,predictor,bohb"
    parser.add_argument("--table", required=True, help="NAS-Bench-201 as .npz")
    parser.add_argument("--strategies", default=default, help=f"bohb, or of {','.join(REGISTRY)}")
    parser.add_argument("--workers", default="1,4,16,32", help="(%(default)s)")
    parser.add_argument("--total-s", type=float, default=12_000, help="of one worker (%(default)s)")
    parser.add_argument("--seeds", type=int, default=100, help="searches each (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    workers = [int(number) for number in arguments.workers.split(",")]
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for strategy in arguments.strategies.split(","):
            traces = {}
            for number in workers:
                one = partial(
                    run,
                    path=arguments.table,
                    strategy=strategy,
                    num_workers=number,
                    until_s=horizon_s(arguments.total_s, number),
                )
                traces[number] = list(pool.map(one, range(arguments.seeds)))
            rows += rows_of(strategy, traces, arguments.total_s)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
