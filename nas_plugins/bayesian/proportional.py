"""Configurations drawn in proportion to their expected improvement."""

from __future__ import annotations

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.bayesian.acquisition import acquisition
from nas_plugins.bayesian.gaussian_process import GaussianProcess
from nas_plugins.space import SearchSpace

__all__ = ["ProportionalImprovement"]


class ProportionalImprovement(GaussianProcess):
    """What Hyperband draws at random is drawn in proportion to its expected improvement.

    Bertrand, Ardon, Perrot & Bloch 2017, "Hyperparameter optimization of deep neural networks:
    combining Hyperband with Bayesian model selection": under Hyperband's brackets a whole
    batch is drawn from the model at once, so that it is spread over what is promising and
    not gathered at the maximum. It is used below a host's brackets: HpBandSter's with
    ``optimizer="architecture"``, or Optuna's ``HyperbandPruner``, where the model learns from
    the trials that were not pruned, and takes the others for the worst.

    Deviations: the continuous density is taken at ``num_candidates`` draws from the space's
    prior, whose expected improvements are normalised to sum to one. Scores of several budgets
    are used as :class:`GaussianProcess` says.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        num_initial: Random proposals, until so many have a score.
        num_candidates: Draws from the prior, of which one is taken.
        max_observations: That the process is fitted to.
        refit_every: See :class:`GaussianProcess`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        num_initial: int = 10,
        num_candidates: int = 500,
        max_observations: int = 400,
        refit_every: int = 5,
    ) -> None:
        if num_candidates < 1:
            raise ValueError(f"num_candidates is {num_candidates}; expected at least 1")
        self.num_candidates = num_candidates
        super().__init__(
            space,
            seed=seed,
            num_initial=num_initial,
            max_observations=max_observations,
            refit_every=refit_every,
        )

    def _draw(self, number: int, attempt: int) -> Architecture:
        rng = np.random.default_rng((self.seed, number, attempt))  # each draws for itself
        return self._choose(rng, 0) if self.has_model else self._begin(number, rng)

    def _choose(self, rng: np.random.Generator, place: int) -> Architecture:
        drawn = [self.space.sample(rng) for _ in range(self.num_candidates)]
        rows = self.inputs.rows(drawn)
        logarithms = acquisition("ei", self.model, self.incumbent, rows, 0)(rows).numpy()
        shares = np.exp(np.round(logarithms - logarithms.max(), 6))
        ends = np.cumsum(shares) / shares.sum()
        return drawn[min(int(np.searchsorted(ends, rng.random())), len(drawn) - 1)]
