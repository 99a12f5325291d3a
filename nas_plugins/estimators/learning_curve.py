"""Where a training will end, from its first epochs."""

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
    code; the noise has the prior 1 / deviation, below the span of the bounds; curves that end above
    the bounds are excluded. Where nothing fits at all, the last value is believed, give or take the
    jumps between epochs. Values of another range than accuracies' are scaled by ``bounds``.

    All families rise, so that of a curve that falls only noise is left as an explanation: the
    belief is wide and lies around what was reached, not below. A training that gets worse therefore
    goes on for as long as its early values were near the best one's; many do recover.

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
        if not 0 <= burn_in <= num_steps - 10:
            raise ValueError(
                f"burn_in is {burn_in} and num_steps {num_steps}; expected 0 <= burn_in, and ten "
                "steps more"
            )
        if not bounds[0] < bounds[1]:
            raise ValueError(f"bounds are {bounds}; expected the least value, then the greatest")
        least = 2 * (1 + sum(1 + len(family.start) for family in FAMILIES.values()))
        if num_walkers < least:
            raise ValueError(
                f"num_walkers is {num_walkers}; expected at least {least}, two for each parameter"
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
        rng = np.random.default_rng(self.seed)
        posterior = _Posterior(np.arange(1.0, len(scaled) + 1), scaled, horizon)
        start = posterior.start(self.num_walkers, rng)
        if start is None:
            return self._unscaled(scaled[-1:], np.array([_jumps(scaled)]))
        sampler = emcee.EnsembleSampler(
            self.num_walkers, posterior.num_parameters, posterior, vectorize=True
        )
        random_state = np.random.RandomState(rng.integers(2**32)).get_state()
        with np.errstate(all="ignore"):
            sampler.run_mcmc(
                emcee.State(start, random_state=random_state),
                self.num_steps,
                skip_initial_state_check=True,
            )
            samples = sampler.get_chain(discard=self.burn_in, thin=10, flat=True)
            means = posterior.curves(samples, np.array([float(horizon)]))[:, 0]
        return self._unscaled(means, np.exp(samples[:, 0]))

    def _unscaled(self, means: np.ndarray, deviations: np.ndarray) -> Extrapolation:
        low, high = self.bounds
        return Extrapolation(low + (high - low) * means, (high - low) * deviations)

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
        fits = [(f, best_fit(f, epochs, values, horizon)) for f in FAMILIES.values()]
        self._fits: list[tuple[Family, np.ndarray]] = [(f, p) for f, p in fits if p is not None]
        self.num_parameters = 1 + len(self._fits) + sum(len(p) for _, p in self._fits)

    def start(self, num: int, rng: np.random.Generator) -> np.ndarray | None:
        """Where chains begin, shape ``(num, parameters)``: at the fits, a little apart.

        With equal weights, or those of the families that may be by themselves; ``None`` where
        none may be, as of a curve that falls.
        """
        count = len(self._fits)
        if not count:
            return None
        parameters = np.concatenate([fitted for _, fitted in self._fits])
        alone = [self._row(weights, parameters) for weights in np.eye(count)]
        able = np.isfinite(self(np.stack(alone)))
        for weights in (np.full(count, 1 / count), able / max(1, able.sum())):
            middle = self._row(weights, parameters)
            if np.isfinite(self(middle[None]))[0]:
                return self._around(middle, num, rng)
        return None

    def _around(self, middle: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
        """Rows near one that is possible, and possible themselves."""
        rows = np.tile(middle, (num, 1))
        weights = slice(1, 1 + len(self._fits))
        for scale in (1e-4, 1e-6, 1e-8):
            drawn = middle + scale * rng.standard_normal(rows.shape)
            drawn[:, weights] = np.abs(drawn[:, weights])
            better = np.isfinite(self(drawn)) & (rows == middle).all(axis=1)
            rows[better] = drawn[better]
        return rows

    def _row(self, weights: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """With the deviation of what remains."""
        row = np.concatenate([[0.0], weights, parameters])
        with np.errstate(all="ignore"):
            residuals = self.curves(row[None], self._epochs)[0] - self._values
        row[0] = np.log(np.clip(np.sqrt((residuals**2).mean()), 1e-3, 0.9))
        return row

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
        weights = rows[:, 1 : 1 + len(self._fits)]
        possible = (weights >= 0).all(axis=1) & (rows[:, 0] < 0)  # the noise is below the span
        density = np.full(len(rows), -np.inf)
        density[possible] = self._density(rows[possible])
        return density

    def _density(self, rows: np.ndarray) -> np.ndarray:
        """Of rows whose weights and noise are possible."""
        with np.errstate(all="ignore"):
            curves = self.curves(rows, self._grid)
            squares = ((curves[:, :-1] - self._values) ** 2).sum(axis=1)
            density = -0.5 * squares * np.exp(-2 * rows[:, 0]) - len(self._epochs) * rows[:, 0]
        first, last = curves[:, 0], curves[:, -1]
        return np.where(np.isfinite(density) & (last > first) & (last <= 1), density, -np.inf)


def _jumps(values: np.ndarray) -> float:
    """Deviation of the steps from one epoch to the next, not zero."""
    return max(float(np.diff(values).std()), 1e-3)
