"""What evaluating a candidate is expected to bring: BoTorch's acquisition functions by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    LogExpectedImprovement,
    UpperConfidenceBound,
)
from botorch.acquisition.analytic import LogProbabilityOfImprovement
from botorch.acquisition.max_value_entropy_search import qLowerBoundMaxValueEntropy
from botorch.models.model import Model
from torch import Tensor

__all__ = ["ACQUISITIONS", "acquisition", "best_place", "seeded"]

T = TypeVar("T")

KAPPA = 2.0
"""Deviations above the mean that ``ucb`` looks at."""


def _improvement(make: Callable[..., AcquisitionFunction]) -> Callable[..., AcquisitionFunction]:
    return lambda model, incumbent, candidates: make(model, best_f=incumbent)


ACQUISITIONS: Mapping[str, Callable[[Model, Tensor, Tensor], AcquisitionFunction]] = {
    "ei": _improvement(LogExpectedImprovement),
    "pi": _improvement(LogProbabilityOfImprovement),
    "ucb": lambda model, incumbent, candidates: UpperConfidenceBound(model, beta=KAPPA**2),
    "mes": lambda model, incumbent, candidates: qLowerBoundMaxValueEntropy(model, candidates),
}
"""Name to function of model, incumbent's mean and rows from all over the space.

``ei`` and ``pi`` are logarithms, which rank alike: expected improvement and its probability
(Snoek et al. 2012, eq. 1-2); ``ucb`` is GP-UCB's mean plus ``KAPPA`` deviations (eq. 3);
``mes`` is entropy search by the information about the maximum's value (Wang & Jegelka 2017,
arXiv:1703.01968), where Hennig & Schuler 2012 have its place; in the closed form of Moss et al.
2021, arXiv:2102.03324.
"""


def acquisition(
    name: str, model: Model, incumbent: Tensor, somewhere: Tensor, seed: int
) -> Callable[[Tensor], Tensor]:
    """Function of candidates ``(candidates, columns)`` to values ``(candidates,)``.

    Higher is better. Values of several calls can be compared.

    Args:
        name: Of ``ACQUISITIONS``.
        model: Fitted.
        incumbent: The best mean so far.
        somewhere: Rows from all over the space, shape ``(rows, columns)``: ``mes`` samples the
            maximum's value over them.
        seed: Of these samples; torch's own generators are left alone.
    """
    return seeded(lambda: ACQUISITIONS[name](model, incumbent, somewhere), seed)


def seeded(make: Callable[[], AcquisitionFunction], seed: int) -> Callable[[Tensor], Tensor]:
    """An acquisition function of rows, which samples by a seed alone."""

    def quietly(call: Callable[[], T]) -> T:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            return call()

    function = quietly(make)
    return lambda rows: quietly(lambda: function(rows[:, None, :]))


def best_place(values: np.ndarray, place: int = 0) -> int:
    """Index of the largest value, or of the next ones; the last of them if there are fewer.

    Last bits, which differ from machine to machine, do not count.
    """
    largest = float(np.abs(values).max()) or 1.0
    order = np.argsort(-np.round(values / largest, 9), kind="stable")
    return int(order[min(place, len(order) - 1)])
