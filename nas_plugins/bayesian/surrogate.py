"""The Gaussian process that is fitted to what was observed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels import CategoricalKernel
from botorch.models.transforms import Standardize
from gpytorch.kernels import ConstantKernel, Kernel, MaternKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.models import ExactGP
from gpytorch.priors import LogNormalPrior
from torch import Tensor

__all__ = ["conditioned", "fitted", "kernel_of", "process", "tamed"]

_MAX_STEPS = 50
"""Of L-BFGS: the marginal likelihood has long flat valleys, whose ends are worth little."""


def process(x: Tensor, y: Tensor, kernel: Kernel) -> SingleTaskGP:
    """A Gaussian process whose hyper-parameters are yet to be fitted.

    Args:
        x: Shape ``(observations, columns)``.
        y: Shape ``(observations,)``, higher is better.
        kernel: Without a scale of its own.
    """
    scaled = ScaleKernel(kernel).to(x)
    return SingleTaskGP(x, y[:, None], covar_module=scaled, outcome_transform=Standardize(m=1))


_FAR = 100.0
"""Interquartile ranges below the lower quartile at which a score counts as a failure."""


def tamed(scores: Tensor) -> Tensor:
    """Scores, those of failures (NaN) and of what diverged being the worst of the others.

    Args:
        scores: Shape ``(observations,)``, higher is better, at least one of them known.
    """
    known = scores[~scores.isnan()]
    low, high = known.quantile(torch.tensor([0.25, 0.75]).to(known))
    if high > low:
        known = known[known >= low - _FAR * (high - low)]
    return torch.where(scores >= known.min(), scores, known.min())


M = TypeVar("M", bound=ExactGP)


def fitted(make: Callable[[], M]) -> M:
    """The model that is made, its hyper-parameters those of the largest marginal likelihood.

    Where that fails the priors' own have to do. What is drawn is the same each time, and
    torch's generators are left as they are.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few or equal scores, and of steps that ran out
        torch.manual_seed(0)
        model = make()
        try:
            options = {"options": {"maxiter": _MAX_STEPS}}
            likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
            fit_gpytorch_mll(likelihood, optimizer_kwargs=options, max_attempts=1)
        except ModelFittingError:
            pass
        with torch.no_grad():
            for parameter in model.parameters():
                # Where the search for them ends depends on last bits, which differ by machine.
                parameter.copy_(_rounded(parameter))
    model.eval()
    return model


def _rounded(values: Tensor) -> Tensor:
    """To two decimals, or to two digits where that would leave less: a noise may be 1e-4."""
    tens = values.abs().clamp(1e-12, 0.1).log10().floor()
    scale = 10.0 ** (1 - tens)
    return (values * scale).round() / scale


def conditioned(make: Callable[[], M], like: M) -> M:
    """The model that is made, with the hyper-parameters of one that was fitted before."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few or equal scores
        model = make()
        for parameter, known in zip(model.parameters(), like.parameters(), strict=True):
            parameter.copy_(known)
    model.eval()
    return model


def kernel_of(columns: Sequence[int], categorical: Sequence[int]) -> Kernel:
    """Of some columns: Matern 5/2 over ordered columns times a Hamming kernel over categories.

    Each column has a length scale of its own, as in Snoek et al. 2012, with the prior that
    Hvarfner et al. 2024 (arXiv:2402.02229) scale to the number of columns.
    """
    ordered = [i for i in columns if i not in categorical]
    others = [i for i in columns if i in categorical]
    kernels = [make(of) for make, of in ((_matern, ordered), (_hamming, others)) if of]
    if not kernels:
        return ConstantKernel()
    return kernels[0] if len(kernels) == 1 else kernels[0] * kernels[1]


def _matern(columns: list[int]) -> Kernel:
    return MaternKernel(nu=2.5, **_scales(columns))


def _hamming(columns: list[int]) -> Kernel:
    return CategoricalKernel(**_scales(columns))


def _scales(columns: list[int]) -> dict[str, object]:
    prior = LogNormalPrior(2**0.5 + torch.tensor(len(columns)).log().item() / 2, 3**0.5)
    return {
        "ard_num_dims": len(columns),
        "active_dims": tuple(columns),
        "lengthscale_prior": prior,
    }
