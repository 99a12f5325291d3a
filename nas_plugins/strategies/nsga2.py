"""Evolution for several objectives: NSGA-II."""

from __future__ import annotations

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.pareto import crowding_distances, non_dominated_ranks
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["NSGA2"]


class NSGA2(Strategy):
    """Elitist evolution whose parents are few-dominated and far apart.

    Deb et al. 2002, doi:10.1109/4235.996017, section III-C: of the parents and their
    ``population_size`` offspring those survive that lie on the first fronts, and of the last
    front that fits in part, those with the largest crowding distance. A parent is the better
    of two drawn at random, by front and then by distance; a child is the crossover of two
    parents, mutated. The first generation is random. One objective is the case in which each
    front is one score.

    Deviations: the space's uniform crossover and :meth:`SearchSpace.mutate` stand for the
    paper's operators on bits and reals; of the two children of a crossover one is made. A
    mutation of each decision with a probability is that number of mutations of a random
    decision. A generation ends with the score that completes it, whoever was asked for it
    and when, so that workers need not wait for each other. A failed evaluation does not
    enter a generation.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        population_size: Parents, and offspring in a generation (paper: N = 100).
        crossover_probability: Chance that a child has two parents (paper: 0.9).
        mutation_probability: Of each decision; default one over their number, as the paper.
    """

    multi_objective = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        population_size: int = 100,
        crossover_probability: float = 0.9,
        mutation_probability: float | None = None,
    ) -> None:
        if population_size < 2:
            raise ValueError(f"population_size is {population_size}; expected at least 2")
        for name, chance in (
            ("crossover_probability", crossover_probability),
            ("mutation_probability", mutation_probability),
        ):
            if chance is not None and not 0 <= chance <= 1:
                raise ValueError(f"{name} is {chance}; expected it in [0, 1]")
        self.population_size = population_size
        self.crossover_probability = crossover_probability
        self.mutation_probability = mutation_probability
        super().__init__(space, seed=seed)

    def _reset(self) -> None:
        self._members: list[tuple[Architecture, tuple[float, ...]]] = []  # parents, offspring
        self._num_parents = 0
        self._ranks = self._distances = np.zeros(0)  # of the parents

    def _observe(self, observation: Observation) -> None:
        score = observation.score
        if score is None:
            return
        point = score if isinstance(score, tuple) else (score,)
        self._members.append((observation.architecture, point))
        if len(self._members) == self._num_parents + self.population_size:
            self._select()

    def _select(self) -> None:
        """The best of parents and offspring are the next parents."""
        points = np.array([point for _, point in self._members])
        ranks = non_dominated_ranks(points)
        distances = np.zeros(len(points))
        for rank in range(ranks.max() + 1):
            on_front = ranks == rank
            distances[on_front] = crowding_distances(points[on_front])
        kept = np.lexsort((-distances, ranks))[: self.population_size]
        self._members = [self._members[i] for i in kept]
        self._ranks, self._distances = ranks[kept], distances[kept]
        self._num_parents = len(kept)

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        if self._num_parents == 0:
            return self.space.sample(rng)
        child = self._parent(rng)
        if rng.random() < self.crossover_probability:
            child = self.space.crossover(child, self._parent(rng), rng)
        if num_mutable := len(self.space.mutable(child)):
            chance = self.mutation_probability
            times = rng.binomial(num_mutable, 1 / num_mutable if chance is None else chance)
            child = self.space.mutate(child, rng, times=times)
        return child

    def _parent(self, rng: np.random.Generator) -> Architecture:
        """The better of two by the crowded comparison; of equals the first drawn."""
        first, second = rng.integers(self._num_parents, size=2)
        order = [(self._ranks[i], -self._distances[i]) for i in (first, second)]
        return self._members[second if order[1] < order[0] else first][0]
