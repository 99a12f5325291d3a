"""Regularized (aging) evolution."""

from __future__ import annotations

from collections import deque

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy
from nas_plugins.strategies.tournament import winner

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution(Strategy):
    """Tournament selection, mutation only, and the oldest dies.

    Real et al. 2019, arXiv:1802.01548, algorithm 1: the population is a queue of the
    ``population_size`` latest evaluations. While it is filling, proposals are random. Then
    ``sample_size`` members are drawn with replacement, and the best is mutated.

    Deviations: a mutation is :meth:`SearchSpace.mutate`, one decision of any kind, where the
    paper picks hidden-state or operation mutation first; the two coincide up to the odds of
    the kinds. The identity, one of the paper's mutations, is off
    unless asked for. A failed evaluation does not enter the population. With several objectives,
    which the paper has not, the parent is drawn from the sample's Pareto front.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        population_size: Members alive (paper: P = 100).
        sample_size: Members in a tournament (paper: S = 25).
        identity_probability: Chance that the child is its parent, evaluated again; the
            paper lists the identity among its mutations.
    """

    multi_objective = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        population_size: int = 100,
        sample_size: int = 25,
        identity_probability: float = 0.0,
    ) -> None:
        if not 1 <= sample_size <= population_size:
            raise ValueError(
                f"sample_size is {sample_size} and population_size {population_size}; expected "
                "1 <= sample_size <= population_size"
            )
        if not 0 <= identity_probability < 1:
            raise ValueError(
                f"identity_probability is {identity_probability}; expected it in [0, 1)"
            )
        self.population_size = population_size
        self.sample_size = sample_size
        self.identity_probability = identity_probability
        super().__init__(space, seed=seed)

    def _reset(self) -> None:
        self._population: deque[Observation] = deque(maxlen=self.population_size)

    def _observe(self, observation: Observation) -> None:
        if observation.score is not None:
            self._population.append(observation)

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        if len(self._population) < self.population_size:
            return self.space.sample(rng)
        drawn = rng.integers(self.population_size, size=self.sample_size)
        parent = winner([self._population[i] for i in drawn], rng)
        if self.identity_probability and rng.random() < self.identity_probability:
            return parent
        if not self.space.mutable(parent):  # the space's only architecture
            return parent
        return self.space.mutate(parent, rng)
