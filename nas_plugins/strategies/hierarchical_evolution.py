"""Evolution of hierarchical architectures, whose population only grows."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from functools import lru_cache

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy
from nas_plugins.strategies.tournament import winner

__all__ = ["HierarchicalEvolution", "level_by_level"]

_BETWEEN_LEVELS = re.compile("/|<-")


class HierarchicalEvolution(Strategy):
    """Tournament selection, mutation only, and nobody dies.

    Liu et al. 2018, arXiv:1711.00436, section 3. The first ``population_size`` proposals are
    each the space's default architecture, trivial where the space means it so, after
    ``num_initial_mutations`` mutations. Then the best of a random ``tournament_fraction`` of
    all that was evaluated is mutated. A mutation draws the level, the motif in it, the node,
    the node before it, and changes the operation between the two: over any space, each part
    of a decision's label in turn, see :func:`level_by_level`.

    Deviations: a mutation draws another operation, never the same once more. A tournament has
    at least two members. A failed evaluation does not enter the population. With several
    objectives, which the paper has not, the parent is drawn from the tournament's Pareto front.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        population_size: Proposals before the first tournament (paper: 200).
        num_initial_mutations: Of the default architecture (paper: 1000); 0 starts from random
            architectures instead.
        tournament_fraction: Share of the population in a tournament (paper: 0.05).
    """

    multi_objective = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        population_size: int = 200,
        num_initial_mutations: int = 1000,
        tournament_fraction: float = 0.05,
    ) -> None:
        if population_size < 2:
            raise ValueError(f"population_size is {population_size}; expected at least 2")
        if num_initial_mutations < 0:
            raise ValueError(
                f"num_initial_mutations is {num_initial_mutations}; expected at least 0"
            )
        if not 0 < tournament_fraction <= 1:
            raise ValueError(f"tournament_fraction is {tournament_fraction}; expected it in (0, 1]")
        self.population_size = population_size
        self.num_initial_mutations = num_initial_mutations
        self.tournament_fraction = tournament_fraction
        super().__init__(space, seed=seed)

    def _reset(self) -> None:
        self._population: list[Observation] = []

    def _observe(self, observation: Observation) -> None:
        if observation.score is not None:
            self._population.append(observation)

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        starting = len(self._population) < self.population_size
        if starting and not self.num_initial_mutations:
            return self.space.sample(rng)
        parent = self.space.default() if starting else self._parent(rng)
        if not self.space.mutable(parent):  # the space's only architecture
            return parent
        times = self.num_initial_mutations if starting else 1
        return self.space.mutate(parent, rng, times=times, odds=level_by_level)

    def _parent(self, rng: np.random.Generator) -> Architecture:
        size = max(2, round(self.tournament_fraction * len(self._population)))
        drawn = rng.choice(len(self._population), size, replace=False)
        return winner([self._population[i] for i in drawn], rng)


@lru_cache(maxsize=1024)
def level_by_level(labels: tuple[str, ...]) -> list[float]:
    """Probability of each label when its parts are drawn one after another, each uniformly.

    Example:
        >>> level_by_level(("motif/1<-0", "motif/2<-0", "motif/2<-1", "depth"))
        [0.25, 0.125, 0.125, 0.5]
    """
    paths = [(*_BETWEEN_LEVELS.split(label), "") for label in labels]  # "": ends here
    branches = defaultdict(set)
    for path in paths:
        for depth, part in enumerate(path):
            branches[path[:depth]].add(part)
    return [
        1 / math.prod(len(branches[path[:depth]]) for depth in range(len(path))) for path in paths
    ]
