"""Hyper-parameters of small regression networks, searched on the FC-Net tables.

Klein & Hutter 2019, arXiv:1905.04970: 62,208 configurations of nine hyper-parameters on four data
sets, four trainings each. A search sees the logarithm of one training's validation error, and
pays its runtime; the configuration that it saw best is judged by its immediate regret, the
mean error of its four trainings over the smallest mean of the table. Looked at after so many
seconds as that many trainings of median runtime take.

    python -m benchmarks.fcnet --table fcnet_final.npz --seeds 50 \
        --strategies random,regularized_evolution,predictor,gp,tpe,optuna_random
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import optuna
from ConfigSpace import Categorical, ConfigurationSpace

from benchmarks.report import add_json, report
from benchmarks.samplers import NAMES, make_sampler
from nas_plugins import Architecture, SearchSpace
from nas_plugins.optuna import suggest

DATASETS = (
    "naval_propulsion",
    "parkinsons_telemonitoring",
    "protein_structure",
    "slice_localization",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "regularized_evolution": {"population_size": 10, "sample_size": 3},
}
"""Everything else runs with its defaults."""


class Table:
    """One data set's errors and runtimes, each ``(configurations, 4)``."""

    def __init__(self, path: str, dataset: str) -> None:
        with np.load(path, allow_pickle=False) as file:
            choices = json.loads(str(file["choices_json"]))
            self._errors = file[f"{dataset}_valid_mse"].astype(float)
            runtimes = file[f"{dataset}_runtime_s"].astype(float)
        self.median_s = float(np.nanmedian(runtimes))
        self._runtimes = np.nan_to_num(runtimes, nan=self.median_s)
        self._choices: dict[str, list[Any]] = choices
        self._means = self._errors.mean(axis=1)
        numbers = {name: all(not isinstance(c, str) for c in of) for name, of in choices.items()}
        self.space = SearchSpace(
            ConfigurationSpace(
                {n: Categorical(n, of, ordered=numbers[n]) for n, of in choices.items()}
            )
        )

    def row(self, architecture: Architecture) -> int:
        """Where a configuration stands."""
        places = [of.index(architecture[name]) for name, of in self._choices.items()]
        return int(np.ravel_multi_index(places, [len(of) for of in self._choices.values()]))

    def train(self, row: int, rng: np.random.Generator) -> tuple[float, float]:
        """Error and seconds of one of its trainings."""
        which = rng.integers(4)
        return float(self._errors[row, which]), float(self._runtimes[row, which])

    def regret(self, row: int) -> float:
        """Of its mean error."""
        return float(self._means[row] - self._means.min())


def search(seed: int, *, path: str, dataset: str, strategy: str, at: list[int]) -> list[float]:
    """Regret of the incumbent at each moment."""
    table = _loaded(path, dataset)
    sampler = make_sampler(strategy, table.space, seed, **OPTIONS.get(strategy, {}))
    study = optuna.create_study(direction="minimize", sampler=sampler)
    rng = np.random.default_rng(seed)
    moments = [count * table.median_s for count in at]
    regrets: list[float] = []
    spent, best, incumbent = 0.0, np.inf, 0
    while len(regrets) < len(moments):
        trial = study.ask()
        row = table.row(suggest(trial, table.space))
        error, seconds = table.train(row, rng)
        spent += seconds
        while len(regrets) < len(moments) and spent > moments[len(regrets)]:
            regrets.append(table.regret(incumbent) if np.isfinite(best) else np.nan)
        study.tell(trial, float(np.log10(error)))
        if error < best:
            best, incumbent = error, row
    return regrets


_cache: dict[tuple[str, str], Table] = {}


def _loaded(path: str, dataset: str) -> Table:
    """Read once in each process."""
    if (path, dataset) not in _cache:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        _cache[path, dataset] = Table(path, dataset)
    return _cache[path, dataset]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fcnet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", required=True, help="FC-Net as .npz")
    parser.add_argument(
        "--strategies", default="random,regularized_evolution,predictor,tpe", help=str(NAMES)
    )
    parser.add_argument("--datasets", default=",".join(DATASETS), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=50, help="searches each (%(default)s)")
    parser.add_argument("--at", default="10,25,50,100", help="median trainings (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    at = [int(count) for count in arguments.at.split(",")]
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for dataset in arguments.datasets.split(","):
            for strategy in arguments.strategies.split(","):
                run = partial(
                    search, path=arguments.table, dataset=dataset, strategy=strategy, at=at
                )
                found = np.array(list(pool.map(run, range(arguments.seeds))))  # (seeds, moments)
                row: dict[str, Any] = {"dataset": dataset, "strategy": strategy}
                for i, count in enumerate(at):
                    row[f"median_regret_{count}"] = float(f"{np.nanmedian(found[:, i]):.3g}")
                rows.append({**row, "seeds": arguments.seeds})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
