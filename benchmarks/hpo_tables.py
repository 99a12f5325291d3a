"""Tables of trainings in which hyper-parameter searches are replayed.

FC-Net (Klein & Hutter 2019, arXiv:1905.04970): 62,208 configurations of nine hyper-parameters
on four data sets, four trainings each. A search sees the logarithm of one training's validation
error. The table at hand has no learning curves: one fidelity, 100 epochs.

NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326; the 12-epoch trainings: arXiv:2009.00437):
15,625 cells, trained for 12 and for 200 epochs, each with a schedule of its own. So the short
training is a lower fidelity, and whoever goes on after it begins anew. A search sees the
validation accuracy of one of the trainings.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace

from nas_plugins import Architecture, SearchSpace, spaces
from nas_plugins.spaces.nas_bench_201 import EDGES

__all__ = ["FCNET", "NB201", "FCNet", "NB201Table", "Table", "load"]

FCNET = (
    "naval_propulsion",
    "parkinsons_telemonitoring",
    "protein_structure",
    "slice_localization",
)
NB201 = {"cifar10": "c10valid", "cifar100": "c100", "imagenet16-120": "in16"}


class Table(Protocol):
    """What a replay needs.

    Attributes:
        space: What is searched.
        epochs: Lengths of training, ascending.
        full_s: Median seconds of a training of the last of these.
    """

    space: SearchSpace
    epochs: tuple[int, ...]
    full_s: float

    def row(self, architecture: Architecture) -> int:
        """Where a configuration stands."""

    def train(self, row: int, epochs: int, rng: np.random.Generator) -> tuple[float, float]:
        """Score, higher is better, and seconds of one of its trainings."""

    def regret(self, row: int) -> float:
        """How much worse its mean over the longest trainings is than the best mean."""


class FCNet:
    """One data set of FC-Net; regret is that of the mean squared error."""

    epochs = (100,)

    def __init__(self, path: str, dataset: str) -> None:
        with np.load(path, allow_pickle=False) as file:
            self._choices: dict[str, list[Any]] = json.loads(str(file["choices_json"]))
            self._errors = file[f"{dataset}_valid_mse"].astype(float)  # (configurations, 4)
            runtimes = file[f"{dataset}_runtime_s"].astype(float)
        self.full_s = float(np.nanmedian(runtimes))
        self._runtimes = np.nan_to_num(runtimes, nan=self.full_s)
        self._means = self._errors.mean(axis=1)
        numbers = {n: all(not isinstance(c, str) for c in of) for n, of in self._choices.items()}
        self.space = SearchSpace(
            ConfigurationSpace(
                {n: Categorical(n, of, ordered=numbers[n]) for n, of in self._choices.items()}
            )
        )

    def row(self, architecture: Architecture) -> int:
        places = [of.index(architecture[name]) for name, of in self._choices.items()]
        return int(np.ravel_multi_index(places, [len(of) for of in self._choices.values()]))

    def train(self, row: int, epochs: int, rng: np.random.Generator) -> tuple[float, float]:
        which = rng.integers(4)
        return -float(np.log10(self._errors[row, which])), float(self._runtimes[row, which])

    def regret(self, row: int) -> float:
        return float(self._means[row] - self._means.min())


class NB201Table:
    """One data set of NAS-Bench-201; regret is in points of validation accuracy."""

    epochs = (12, 200)

    def __init__(self, path: str, dataset: str) -> None:
        name = NB201[dataset]
        with np.load(path, allow_pickle=False) as file:
            self._short = file[f"hp12_{name}_valid"].astype(float)
            self._long = file[f"hp200_{name}_valid_seeds"].astype(float)  # (cells, 3), some NaN
            self._seconds = file[f"hp200_{name}_train_time_s"].astype(float)
            operations = [str(name) for name in file["op_names"]]
            rows = enumerate(file["ops"])
            self._rows = {tuple(operations[i] for i in cell): row for row, cell in rows}
        self._means = np.nanmean(self._long, axis=1)
        self.full_s = float(np.median(self._seconds))
        self.space = spaces.load("nas_bench_201")

    def row(self, architecture: Architecture) -> int:
        return self._rows[tuple(str(architecture[f"cell/{edge}"]) for edge in EDGES)]

    def train(self, row: int, epochs: int, rng: np.random.Generator) -> tuple[float, float]:
        seconds = float(self._seconds[row]) * epochs / self.epochs[-1]
        if epochs == self.epochs[0]:
            return float(self._short[row]) / 100, seconds
        made = self._long[row][np.isfinite(self._long[row])]
        return float(rng.choice(made)) / 100, seconds

    def regret(self, row: int) -> float:
        return float(self._means.max() - self._means[row])


_loaded: dict[tuple[str, str], Table] = {}


def load(path: str, dataset: str) -> Table:
    """Read once in each process."""
    if (path, dataset) not in _loaded:
        make = FCNet if dataset in FCNET else NB201Table
        _loaded[path, dataset] = make(path, dataset)
    return _loaded[path, dataset]
