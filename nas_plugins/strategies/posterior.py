"""Gaussian process regression over encoded architectures."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import ndtri

__all__ = ["Posterior", "Kernel", "normal_scores"]

_STEPS = 50
_SPREAD = 0.7
"""Prior standard deviation of a factor that tells columns of one decision apart."""


class Kernel:
    r"""Squared exponential with a relevance for each column, built up from factors.

    .. math:: k(x, x') = \sigma^2 \exp\left(-\tfrac12 \sum_c w_c (x_c - x'_c)^2\right),
        \qquad \log w = F \theta

    Over one-hot columns the exponent counts the decisions that differ, each with a weight of its
    own (an exponentiated Hamming distance); over numeric ones it is the usual kernel. Columns
    share factors ``theta``, so that a few dozen observations are enough to learn them.
    They, the signal ``sigma^2`` and the noise maximise the posterior density of targets
    (Rasmussen & Williams 2006, eq. 5.8 and 5.9, with normal priors on the logarithms).

    Args:
        main: Factor of each column that is its decision's, shape ``(columns,)``.
        further: Any other factors, 0 or 1, shape ``(columns, factors)``.
    """

    def __init__(self, main: np.ndarray, further: np.ndarray) -> None:
        num_main = int(main.max(initial=-1)) + 1
        self._factors = np.hstack([np.eye(num_main)[main], further])
        # Two architectures that differ in every decision are at distance 2 beforehand.
        self._mean = np.concatenate(
            [np.full(num_main, np.log(2 / max(num_main, 1))), np.zeros(further.shape[1] + 2)]
        )
        self._mean[-1] = np.log(0.1)  # of the noise; targets have unit variance
        self._spread = np.ones_like(self._mean)
        self._spread[num_main:-2] = _SPREAD

    def fit(self, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Logarithms of all parameters: the factors, then signal and noise.

        Rounded, so that differences in the last bit between machines do not come through.

        Args:
            rows: Shape ``(observations, columns)``.
            targets: Shape ``(observations,)``, about zero, of unit variance.
        """
        squares = (rows.T[:, :, None] - rows.T[:, None, :]) ** 2 / 2
        found = minimize(
            self._loss,
            self._mean,
            args=(squares, targets),
            jac=True,
            method="L-BFGS-B",
            bounds=[(mean - 5, mean + 5) for mean in self._mean],
            options={"maxiter": _STEPS},
        )
        return np.round(found.x, 2)

    def _loss(
        self, parameters: np.ndarray, squares: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Negative log posterior density up to a constant, and its gradient."""
        weights, signal, noise = self.unpack(parameters)
        covariance = signal * np.exp(-np.tensordot(weights, squares, 1))
        factor = (cholesky(covariance + noise * np.eye(len(targets)), lower=True), True)
        inverse = cho_solve(factor, np.eye(len(targets)))
        solved = inverse @ targets
        away = (parameters - self._mean) / self._spread
        loss = targets @ solved / 2 + np.log(np.diag(factor[0])).sum() + away @ away / 2
        outer = (inverse - np.outer(solved, solved)) / 2  # derivative by the covariance
        by_exponent = outer * covariance
        by_column = -weights * np.tensordot(squares, by_exponent, 2)
        likelihood = [*(self._factors.T @ by_column), by_exponent.sum(), noise * np.trace(outer)]
        return float(loss), likelihood + away / self._spread

    def unpack(self, parameters: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Weights of columns, signal and noise variance."""
        weights = np.exp(self._factors @ parameters[:-2])
        return weights, float(np.exp(parameters[-2])), float(np.exp(parameters[-1]))


class Posterior:
    """The posterior, given parameters that were fitted before.

    Rasmussen & Williams 2006, algorithm 2.1, with mean zero.

    Args:
        kernel: Of the covariance.
        parameters: As :meth:`Kernel.fit` returns them.
        rows: Shape ``(observations, columns)``.
        targets: Shape ``(observations,)``.
    """

    def __init__(
        self, kernel: Kernel, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> None:
        weights, self._signal, noise = kernel.unpack(parameters)
        self._scale = np.sqrt(weights / 2)
        self._rows = rows * self._scale
        covariance = self._covariance(self._rows) + noise * np.eye(len(rows))
        self._factor = cholesky(covariance, lower=True)
        self._solved = cho_solve((self._factor, True), targets)

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noiseless value, each of shape ``(len(rows),)``."""
        across = self._covariance(rows * self._scale)
        explained = solve_triangular(self._factor, across.T, lower=True)
        variance = self._signal - (explained**2).sum(0)
        return across @ self._solved, np.sqrt(np.maximum(variance, 0.0))

    def _covariance(self, scaled: np.ndarray) -> np.ndarray:
        return self._signal * np.exp(-cdist(scaled, self._rows, "sqeuclidean"))


def normal_scores(scores: np.ndarray) -> np.ndarray:
    """Quantiles of the standard normal distribution at the scores' ranks; equal for equals."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return ndtri((counts.cumsum() - counts / 2)[inverse] / len(scores))
