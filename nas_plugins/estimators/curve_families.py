"""Parametric families of learning curves, and their fits by least squares.

Domhan, Springenberg & Hutter 2015, "Speeding up automatic hyperparameter optimization of deep
neural networks by extrapolation of learning curves", IJCAI, table 1. Of ``ilog2`` the logarithm is
that of ``x + 1``, which the first epoch has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

__all__ = ["FAMILIES", "Family", "best_fit"]


@dataclass(frozen=True)
class Family:
    """One formula.

    Attributes:
        curve: Of epochs ``(..., epochs)`` counted from 1 and parameters, each ``(..., 1)``.
        start: Parameters from which least squares begins.
    """

    curve: Callable[..., np.ndarray]
    start: tuple[float, ...]


FAMILIES: dict[str, Family] = {
    "vapor_pressure": Family(
        lambda x, a, b, c: np.exp(a + b / x + c * np.log(x)), (-0.6, -0.6, 0.03)
    ),
    "pow3": Family(lambda x, c, a, alpha: c - a * x**-alpha, (0.84, 0.52, 0.5)),
    "log_log_linear": Family(lambda x, a, b: np.log(a * np.log(x) + b), (0.2, 1.5)),
    "hill3": Family(lambda x, y, eta, k: y * x**eta / (k**eta + x**eta), (0.6, 0.6, 0.5)),
    "log_power": Family(lambda x, a, b, c: a / (1 + (x / np.exp(b)) ** c), (0.8, 0.5, -0.5)),
    "pow4": Family(lambda x, c, a, b, alpha: c - (a * x + b) ** -alpha, (0.9, 2.0, 1.0, 0.8)),
    "mmf": Family(lambda x, a, b, k, d: a - (a - b) / (1 + (k * x) ** d), (0.8, 0.1, 0.5, 1.0)),
    "exp4": Family(lambda x, c, a, b, alpha: c - np.exp(-a * x**alpha + b), (0.8, 0.8, 0.0, 0.5)),
    "janoschek": Family(
        lambda x, a, b, k, d: a - (a - b) * np.exp(-k * x**d), (0.8, 0.1, 0.5, 0.7)
    ),
    "weibull": Family(
        lambda x, a, b, k, d: a - (a - b) * np.exp(-((k * x) ** d)), (0.8, 0.1, 0.5, 0.7)
    ),
    "ilog2": Family(lambda x, c, a: c - a / np.log(x + 1), (0.8, 0.4)),
}  # fmt: skip


def best_fit(
    family: Family, epochs: np.ndarray, values: np.ndarray, horizon: float
) -> np.ndarray | None:
    """Parameters of least squares, ``None`` where the family does not take to the curve.

    Args:
        family: The formula.
        epochs: Shape ``(epochs,)``.
        values: Shape ``(epochs,)``.
        horizon: Where the fit has to be a number, too.
    """

    def residuals(parameters: np.ndarray) -> np.ndarray:
        found = family.curve(epochs, *parameters) - values
        return np.nan_to_num(found, nan=1e3, posinf=1e3, neginf=-1e3)

    with np.errstate(all="ignore"):
        solution = least_squares(residuals, family.start, max_nfev=500)
        fitted = family.curve(np.append(epochs, horizon), *solution.x)
    usable = np.isfinite(fitted).all() and np.isfinite(solution.x).all()
    return solution.x if usable else None
