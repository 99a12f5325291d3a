"""E2: where a training will end, from its first epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import emcee
import numpy as np
from scipy.special import ndtr

from nas_plugins.errors import ScoreError
from nas_plugins.estimators.curve_families import FAMILIES, Family, best_fit

__all__ = ["CurveModel", "Extrapolation"]


@dataclass(frozen=True)
class Extrapolation:
    """What is believed of a curve at its last epoch.

    Attributes:
        means: The curve there by each sample of the posterior, shape ``(samples,)``.
        deviations: Of the noise around it, by each sample, shape ``(samples,)``.
    """

    means: np.ndarray
    deviations: np.ndarray

    @property
    def mean(self) -> float:
        """Of the value that will be observed."""
        return float(self.means.mean())

    @property
    def deviation(self) -> float:
        """Of the value that will be observed: of what is not known, and of noise."""
        return float(np.sqrt(self.means.var() + (self.deviations**2).mean()))

    def probability_above(self, value: float) -> float:
        """That a value will be exceeded."""
        return float(ndtr((self.means - value) / self.deviations).mean())


class CurveModel:
    """Eleven families of curves, weighted, their parameters sampled from the posterior.

    Domhan, Springenberg & Hutter 2015, IJCAI, section 3: the mean of an epoch is
    ``sum_k w_k f_k(epoch)`` with normal noise; uninformative priors, but for the curve being
    higher at the last epoch than at the first and weights not being negative; Markov chains
    (Foreman-Mackey et al. 2013, emcee) begin at each family's fit by least squares with equal
    weights.

    Deviations: a family that does not take to a curve is left out of it, as in the published
    code; the noise has the prior 1 / deviation; curves that end outside the bounds are excluded.
    Values of another range than accuracies' are scaled by ``bounds``.

    Args:
        num_steps: Of each chain (published code: 2500).
        burn_in: Steps at the beginning that do not count (published code: 500).
        num_walkers: Chains (published code: 100).
        bounds: Least and greatest value that a curve may have.
        seed: Of the chains.

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        *,
        num_steps: int = 2500,
        burn_in: int = 500,
        num_walkers: int = 100,
        bounds: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
    ) -> None:
        if not 0 <= burn_in < num_steps:
            raise ValueError(
                f"burn_in is {burn_in} and num_steps {num_steps}; expected 0 <= burn_in < num_steps"
            )
        if not bounds[0] < bounds[1]:
            raise ValueError(f"bounds are {bounds}; expected the least value, then the greatest")
        if num_walkers < 98:
            raise ValueError(
                f"num_walkers is {num_walkers}; expected at least 98, two for each parameter"
            )
        self.num_steps = num_steps
        self.burn_in = burn_in
        self.num_walkers = num_walkers
        self.bounds = bounds
        self.seed = seed

    def extrapolate(self, values: Sequence[float], horizon: int) -> Extrapolation:
        """The belief of the value after ``horizon`` epochs.

        Args:
            values: After each epoch so far, higher is better; at least three.
            horizon: The last epoch, counted from 1.

        Raises:
            ScoreError: A value is not a finite number within the bounds.
            ValueError: Too few values, or a horizon that is not ahead of them.
        """
        scaled = self._scaled(values, horizon)
        epochs = np.arange(1.0, len(scaled) + 1)
        posterior = _Posterior(epochs, scaled, horizon)
        rng = np.random.default_rng(self.seed)
        sampler = emcee.EnsembleSampler(
            self.num_walkers, posterior.num_parameters, posterior, vectorize=True
        )
        start = emcee.State(
            posterior.around_the_fits(self.num_walkers, rng),
            random_state=np.random.RandomState(rng.integers(2**32)).get_state(),
        )
        with np.errstate(all="ignore"):
            sampler.run_mcmc(start, self.num_steps, skip_initial_state_check=True)
            samples = sampler.get_chain(discard=self.burn_in, thin=10, flat=True)
            means = posterior.curves(samples, np.array([float(horizon)]))[:, 0]
        low, high = self.bounds
        span = high - low
        return Extrapolation(low + span * means, span * np.exp(samples[:, 0]))

    def _scaled(self, values: Sequence[float], horizon: int) -> np.ndarray:
        curve = np.asarray(values, dtype=float)
        if len(curve) < 3 or horizon <= len(curve):
            raise ValueError(
                f"{len(curve)} values and horizon {horizon}; expected at least three values and "
                "a horizon beyond them"
            )
        low, high = self.bounds
        wrong = curve[~((curve >= low) & (curve <= high))]
        if len(wrong):
            raise ScoreError(
                f"the curve has the value {wrong[0]}; expected all in [{low}, {high}]: give the "
                "bounds of your score as bounds=(least, greatest)"
            )
        return (curve - low) / (high - low)


class _Posterior:
    """Logarithm of the posterior density at ``(walkers, parameters)``.

    A row is the logarithm of the noise's deviation, the weights, then each family's parameters.
    """

    def __init__(self, epochs: np.ndarray, values: np.ndarray, horizon: int) -> None:
        self._epochs, self._values = epochs, values
        # The horizon is appended, so that one evaluation tells whether the curve rises.
        self._grid = np.append(epochs, float(horizon))
        fits = [(family, best_fit(family, epochs, values)) for family in FAMILIES.values()]
        self._fits: list[tuple[Family, np.ndarray]] = [(f, p) for f, p in fits if p is not None]
        self.num_parameters = 1 + len(self._fits) + sum(len(p) for _, p in self._fits)

    def around_the_fits(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Where chains begin, shape ``(num, parameters)``: at the fits, a little apart."""
        count = len(self._fits)
        middle = np.concatenate(
            [[0.0], np.full(count, 1.0 / count), *(parameters for _, parameters in self._fits)]
        )
        with np.errstate(all="ignore"):
            residuals = self.curves(middle[None], self._epochs)[0] - self._values
        middle[0] = np.log(max(float(np.sqrt((residuals**2).mean())), 1e-3))
        return middle + 1e-4 * rng.standard_normal((num, len(middle)))

    def curves(self, rows: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """The weighted curves, shape ``(rows, epochs)``."""
        count = len(self._fits)
        total = np.zeros((len(rows), len(epochs)))
        at = 1 + count
        for i, (family, fitted) in enumerate(self._fits):
            parameters = rows[:, at : at + len(fitted)].T[:, :, None]
            total += rows[:, 1 + i, None] * family.curve(epochs, *parameters)
            at += len(fitted)
        return total

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        count, number = len(self._fits), len(self._epochs)
        curves = self.curves(rows, self._grid)
        deviation = np.exp(rows[:, 0])
        squares = ((curves[:, :-1] - self._values) ** 2).sum(axis=1)
        density = -0.5 * squares / deviation**2 - number * rows[:, 0]
        allowed = (
            np.isfinite(density)
            & (rows[:, 1 : 1 + count] >= 0).all(axis=1)
            & (curves[:, -1] > curves[:, 0])
            & (curves[:, -1] <= 1)
            & (deviation < 1)
        )
        return np.where(allowed, density, -np.inf)
