"""What evaluating a candidate is expected to bring: BoTorch's acquisition functions by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from botorch.acquisition import (
    AcquisitionFunction,
    LogExpectedImprovement,
    UpperConfidenceBound,
)
from botorch.acquisition.analytic import LogProbabilityOfImprovement
from botorch.acquisition.max_value_entropy_search import qMaxValueEntropy
from botorch.models.model import Model
from torch import Tensor

__all__ = ["ACQUISITIONS", "acquire"]

KAPPA = 2.0
"""Deviations above the mean that ``ucb`` looks at."""


def _improvement(make: Callable[..., AcquisitionFunction]) -> Callable[..., AcquisitionFunction]:
    return lambda model, incumbent, candidates: make(model, best_f=incumbent)


ACQUISITIONS: Mapping[str, Callable[[Model, Tensor, Tensor], AcquisitionFunction]] = {
    "ei": _improvement(LogExpectedImprovement),
    "pi": _improvement(LogProbabilityOfImprovement),
    "ucb": lambda model, incumbent, candidates: UpperConfidenceBound(model, beta=KAPPA**2),
    "mes": lambda model, incumbent, candidates: qMaxValueEntropy(model, candidates),
}
"""Name to function of model, incumbent's mean and candidates ``(candidates, columns)``.

``ei`` and ``pi`` are logarithms, which rank alike: expected improvement and its probability
(Snoek et al. 2012, eq. 1-2); ``ucb`` is GP-UCB's mean plus ``KAPPA`` deviations (eq. 3);
``mes`` is entropy search by the information about the maximum's value (Wang & Jegelka 2017,
arXiv:1703.01968), where Hennig & Schuler 2012 have its place.
"""


@torch.no_grad()
def acquire(name: str, model: Model, incumbent: Tensor, candidates: Tensor, seed: int) -> Tensor:
    """Values of candidates, higher is better, shape ``(candidates,)``.

    Args:
        name: Of ``ACQUISITIONS``.
        model: Fitted.
        incumbent: The best mean so far.
        candidates: Shape ``(candidates, columns)``.
        seed: Of the samples that ``mes`` takes; torch's own generators are left alone.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        function = ACQUISITIONS[name](model, incumbent, candidates)
        values: Tensor = function(candidates[:, None, :])
    return values
