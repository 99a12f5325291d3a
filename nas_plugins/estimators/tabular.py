"""What an architecture is worth, read from a published table instead of trained."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nas_plugins.architecture import Choice
from nas_plugins.errors import ArchitectureError, NasPluginsError
from nas_plugins.spaces.nas_bench_201 import EDGES

__all__ = ["BudgetSpentError", "Replay", "TableError", "TabularNB201", "TabularResult"]

DATASETS = {"cifar10": "c10", "cifar100": "c100", "imagenet16-120": "in16"}
"""Name of a data set to how the table's columns call it."""


class TableError(NasPluginsError, ValueError):
    """A table is absent, or not what was expected."""


class BudgetSpentError(NasPluginsError, RuntimeError):
    """The next training would exceed the budget of a replay."""


class TabularResult(NamedTuple):
    """One row of a table.

    Attributes:
        reward: Validation accuracy in percent after 12 epochs: what a search sees.
        test_accuracy: Test accuracy in percent after 200 epochs: what it is judged by.
        seconds: Simulated time of the 12-epoch training.
    """

    reward: float
    test_accuracy: float
    seconds: float


class TabularNB201:
    """NAS-Bench-201: every one of its 15,625 cells, trained and measured beforehand.

    Dong & Yang 2020, arXiv:2001.00326; Dong et al. 2021, arXiv:2009.00437 for the 12-epoch
    schedule. As in the papers' comparison, a search sees CIFAR-10 (trained on one half,
    validated on the other) whatever data set its result is judged on.

    Args:
        path: ``.npz`` with the columns ``ops`` (architecture, edge; index into
            ``op_names``), ``hp12_*_valid``, ``hp200_*_test`` and ``hp200_*_train_time_s``.
        dataset: Where test accuracy is from: ``cifar10``, ``cifar100``, ``imagenet16-120``.
        search_dataset: Where reward and seconds are from.

    Raises:
        TableError: No such file, not such a table, or an unknown data set.
    """

    def __init__(
        self, path: str | Path, dataset: str = "cifar10", *, search_dataset: str = "cifar10"
    ) -> None:
        self.dataset = dataset
        self.search_dataset = search_dataset
        judged, searched = _column(dataset), _column(search_dataset)
        if searched == "c10":
            searched = "c10valid"
        reward = f"hp12_{searched}_valid"
        test, seconds = f"hp200_{judged}_test", f"hp200_{searched}_train_time_s"
        columns = _read(Path(path), ["ops", "op_names", reward, test, seconds])
        # The training time is that of 200 epochs, all equally long.
        self._results = np.stack(
            [columns[reward], columns[test], columns[seconds].astype(float) * 12 / 200], axis=1
        ).astype(float)  # (architectures, 3)
        names = [str(name) for name in columns["op_names"]]
        self._index = {
            tuple(names[i] for i in operations): row
            for row, operations in enumerate(columns["ops"])
        }

    def query(self, architecture: Mapping[str, Choice]) -> TabularResult:
        """What the table says of an architecture of ``spaces.load("nas_bench_201")``.

        Raises:
            ArchitectureError: Not in the table.
        """
        operations = tuple(architecture.get(f"cell/{edge}") for edge in EDGES)
        row = self._index.get(operations)
        if row is None:
            raise ArchitectureError(
                f"architecture {dict(architecture)} is not in the NAS-Bench-201 table; expected "
                f"one of its operations at each of {[f'cell/{edge}' for edge in EDGES]}"
            )
        return TabularResult(*(float(value) for value in self._results[row]))


class Replay:
    """A search under a budget of simulated seconds, or of trainings.

    Args:
        table: Answers the queries.
        budget_s: Simulated seconds of training that may be spent, 12,000 in the paper.
        num_trainings: Trainings that may be made.

    Attributes:
        spent_s: Simulated seconds so far.
        num_trained: Trainings so far.
        best: Result of the highest reward so far; the first of equals.
        best_architecture: What that is the result of.
    """

    def __init__(
        self,
        table: TabularNB201,
        *,
        budget_s: float | None = None,
        num_trainings: int | None = None,
    ) -> None:
        if budget_s is None and num_trainings is None:
            raise ValueError("a replay without an end; expected budget_s or num_trainings")
        self.table = table
        self.budget_s = budget_s
        self.num_trainings = num_trainings
        self.spent_s = 0.0
        self.num_trained = 0
        self.best: TabularResult | None = None
        self.best_architecture: Mapping[str, Choice] | None = None

    def train(self, architecture: Mapping[str, Choice]) -> TabularResult:
        """Spend the time of one training and return its result.

        Raises:
            BudgetSpentError: This training would exceed the budget; nothing was spent.
        """
        result = self.table.query(architecture)
        if self.num_trained == self.num_trainings or (
            self.budget_s is not None and self.spent_s + result.seconds > self.budget_s
        ):
            raise BudgetSpentError(
                f"budget of {self.budget_s} s, {self.num_trainings} trainings is spent: "
                f"{self.spent_s:.0f} s, {self.num_trained} trainings"
            )
        self.spent_s += result.seconds
        self.num_trained += 1
        if self.best is None or result.reward > self.best.reward:
            self.best, self.best_architecture = result, architecture
        return result


def _column(dataset: str) -> str:
    if dataset not in DATASETS:
        raise TableError(f"unknown data set {dataset!r}; expected one of {list(DATASETS)}")
    return DATASETS[dataset]


def _read(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    expected = "expected the NAS-Bench-201 table as .npz (see TabularNB201 for its columns)"
    if not path.is_file():
        raise TableError(f"no file {path}; {expected}")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if not missing:
                return {name: file[name] for name in names}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise TableError(f"{path} cannot be read ({error}); {expected}") from error
    raise TableError(f"{path} lacks {missing}; {expected}")
