"""Neuroevolution of augmenting topologies."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.neat.genome import Genome
from nas_plugins.neat.space import GENOME, GenomeSpace
from nas_plugins.neat.variation import crossover, distance
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["NEAT"]

_STAGNANT_POPULATION = 20


@dataclass(eq=False)
class Species:
    """Genomes that are alike, the fittest first.

    Attributes:
        representative: Whom a newcomer has to be like.
        members: Genomes and their fitness.
        best: Highest fitness ever.
        improved: Generation of the highest fitness.
        quota: Its offspring in the next generation.
    """

    representative: Genome
    members: list[tuple[Genome, float]] = field(default_factory=list)
    best: float = -np.inf
    improved: int = 0
    quota: int = 0

    @property
    def shared_fitness(self) -> float:
        """Sum over the members of their fitness shared among as many: the mean."""
        return float(np.mean([fitness for _, fitness in self.members]))


class NEAT(Strategy):
    """Networks grow from a minimal one, and what is new is protected in a species of its own.

    Stanley & Miikkulainen 2002, sections 3 and 4.1: the first generation has no hidden node
    and random weights. Of each generation, genomes are put into species by compatibility
    distance to a random member of the last generation's; fitness is shared within a species,
    and species have offspring in proportion. A quarter is mutated only, the rest crossed over
    and for the most part mutated, see :class:`~nas_plugins.neat.variation.Mutation` and
    :func:`~nas_plugins.neat.variation.crossover`. The champion of a species of more than five
    is kept unchanged, and evaluated again. A species that has not improved for 15 generations
    has no offspring; when nothing has improved for 20, only the two best species have.

    A fitness is a score of at least 0; where scores can be negative, the worst of a generation
    counts 0. The offspring of a generation are numbered, and any ``population_size`` proposals
    in a row cover all the numbers, so that workers may ask ahead of the results. A generation
    ends with the score that completes it, whoever was asked for it; failed evaluations
    do not count.

    Deviations: innovation numbers are made of what they mark, see
    :class:`~nas_plugins.neat.genome.Gene`. If every species is stagnant the two best go on. What
    the paper leaves open is as in the authors' program: the best fifth of a species and one more
    reproduce, one in five crossed over is not mutated unless its parents are the same, two in five
    take the mean of matching weights, and the smaller of two equally fit parents counts as the
    fitter.

    Args:
        space: Genomes to search.
        seed: Source of all randomness.
        population_size: Genomes in a generation (paper: 150; for the hardest task 1000).
        excess, disjoint, weights: c1, c2, c3 of the compatibility distance (paper: 1, 1, 0.4;
            hardest task: c3 = 3).
        threshold: Largest distance within a species (paper: 3; hardest task: 4).
        add_connection: Chance of a new connection (paper: 0.05; hardest task: 0.3).
        add_node: Chance of a new node (paper: 0.03).
        mutate_only: Share of offspring with one parent (paper: 0.25).
        interspecies: Chance that the second parent is of another species (paper: 0.001).
        keep_disabled: Chance that a gene disabled in a parent is disabled (paper: 0.75).
        crossover_only: Share of offspring with two parents that are not mutated.
        average: Share of crossovers that take the mean of matching weights.
        survival: Share of a species that may reproduce.
        max_stagnation: Generations a species may go on without improvement (paper: 15).
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        population_size: int = 150,
        excess: float = 1.0,
        disjoint: float = 1.0,
        weights: float = 0.4,
        threshold: float = 3.0,
        add_connection: float = 0.05,
        add_node: float = 0.03,
        mutate_only: float = 0.25,
        interspecies: float = 0.001,
        keep_disabled: float = 0.75,
        crossover_only: float = 0.2,
        average: float = 0.4,
        survival: float = 0.2,
        max_stagnation: int = 15,
    ) -> None:
        if not isinstance(space, GenomeSpace):
            raise UnsupportedSpaceError(
                f"NEAT evolves genomes, and space {space.name!r} has other decisions; expected a "
                "nas_plugins.neat.GenomeSpace"
            )
        if population_size < 2:
            raise ValueError(f"population_size is {population_size}; expected at least 2")
        self.population_size = population_size
        self.threshold = threshold
        self.mutate_only = mutate_only
        self.interspecies = interspecies
        self.keep_disabled = keep_disabled
        self.crossover_only = crossover_only
        self.average = average
        self.survival = survival
        self.max_stagnation = max_stagnation
        self._coefficients = {"excess": excess, "disjoint": disjoint, "weights": weights}
        self._mutation = replace(space.decision.mutation, node=add_node, connection=add_connection)
        super().__init__(space, seed=seed)

    @property
    def generation(self) -> int:
        """How many generations are complete."""
        return self._generation

    @property
    def species(self) -> list[Species]:
        """Of the last complete generation."""
        return self._species

    # -- state --------------------------------------------------------------------------

    def _reset(self) -> None:
        self._generation = 0
        self._evaluated: list[tuple[Genome, float]] = []
        self._species: list[Species] = []
        self._ends: list[int] = []  # slots of offspring, summed up over the species
        self._best, self._improved = -np.inf, 0

    def _observe(self, observation: Observation) -> None:
        if observation.score is None:
            return
        genome = Genome.from_json(observation.architecture[GENOME])
        self._evaluated.append((genome, observation.score))  # type: ignore[arg-type]
        if len(self._evaluated) == self.population_size:
            self._generation += 1
            self._speciate(np.random.default_rng((self.seed, self._generation)))
            self._share_offspring()
            self._evaluated = []

    def _speciate(self, rng: np.random.Generator) -> None:
        """Put each genome into the first species it is like, or into one of its own."""
        for species in self._species:
            species.representative = species.members[rng.integers(len(species.members))][0]
            species.members = []
        lowest = min(0.0, min(fitness for _, fitness in self._evaluated))
        for genome, fitness in self._evaluated:
            for species in self._species:
                if distance(genome, species.representative, **self._coefficients) < self.threshold:
                    break
            else:
                species = Species(genome)
                self._species.append(species)
            species.members.append((genome, fitness - lowest))
            if fitness > species.best:
                species.best, species.improved = fitness, self._generation
            if fitness > self._best:
                self._best, self._improved = fitness, self._generation
        self._species = [species for species in self._species if species.members]
        for species in self._species:
            species.members.sort(key=_rank)

    def _share_offspring(self) -> None:
        """Offspring in proportion to shared fitness, the largest remainders rounded up."""
        fertile = [s for s in self._species if self._generation - s.improved < self.max_stagnation]
        if not fertile or self._generation - self._improved >= _STAGNANT_POPULATION:
            fertile = sorted(self._species, key=lambda s: -s.members[0][1])[:2]
            self._improved = self._generation  # they have as long to improve
            for species in fertile:
                species.improved = self._generation
        shares = np.array([species.shared_fitness for species in fertile])
        if not shares.any():
            shares[:] = 1.0
        exact = shares / shares.sum() * self.population_size
        quotas = exact.astype(int)
        missing = self.population_size - quotas.sum()
        quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
        for species in self._species:
            species.quota = 0
        for species, quota in zip(fertile, quotas, strict=True):
            species.quota = int(quota)
        self._ends = list(accumulate(species.quota for species in self._species))

    # -- proposals ----------------------------------------------------------------------

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        if self._generation == 0:
            return self.space.sample(rng)
        slot = number % self.population_size
        place = bisect_right(self._ends, slot)
        species = self._species[place]
        if slot == self._ends[place] - 1 and len(species.members) > 5:
            child = species.members[0][0]
        else:
            child = self._offspring(species, rng)
        return Architecture({GENOME: child.to_json()})

    def _offspring(self, species: Species, rng: np.random.Generator) -> Genome:
        first = self._parent(species, rng)
        if rng.random() < self.mutate_only:
            return self._mutation(first[0], self._generation, rng)
        if rng.random() < self.interspecies:
            species = self._species[rng.integers(len(self._species))]
        fitter, other = sorted((first, self._parent(species, rng)), key=_rank)
        average = rng.random() < self.average
        child = crossover(
            fitter[0], other[0], rng, keep_disabled=self.keep_disabled, average=average
        )
        if fitter[0] != other[0] and rng.random() < self.crossover_only:
            return child
        return self._mutation(child, self._generation, rng)

    def _parent(self, species: Species, rng: np.random.Generator) -> tuple[Genome, float]:
        """Any of the species' best."""
        num_parents = 1 + int(self.survival * len(species.members))
        return species.members[rng.integers(num_parents)]


def _rank(member: tuple[Genome, float]) -> tuple[float, int]:
    """The fitter first, of equals the one with fewer genes."""
    return -member[1], len(member[0].genes)
