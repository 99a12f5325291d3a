"""Particle swarm optimisation."""

from __future__ import annotations

import numpy as np

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import Decision
from nas_plugins.errors import ArchitectureError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy
from nas_plugins.strategies.options import check_at_least

__all__ = ["ParticleSwarm"]


class ParticleSwarm(Strategy):
    """Particles fly on, drawn towards the best place of their own and that of the swarm.

    Kennedy & Eberhart 1995, with the constriction of Clerc & Kennedy 2002. Decisions without an
    order have one coordinate for each choice, which are what a choice is drawn in proportion
    to (after Strasser et al. 2016, "A new discrete particle swarm optimization algorithm").

    Deviations: a particle's velocity is the way between its last two places as they were
    told, so that the swarm is a function of its history; a place told is that of the choices
    made, all or nothing, where Strasser et al. keep the shares; every choice keeps a small
    share, so that none is lost to a swarm that agrees. Observations go to particles in
    turn, in order of completion; one that failed leaves the particle where it is.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        population_size: Particles.
        inertia: Share of the velocity that is kept (Clerc & Kennedy: 0.7298).
        attraction: Greatest pull of either best place (Clerc & Kennedy: 1.4962).

    Raises:
        ValueError: No particle.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        population_size: int = 20,
        inertia: float = 0.7298,
        attraction: float = 1.4962,
    ) -> None:
        check_at_least(1, population_size=population_size)
        check_at_least(0, inertia=inertia, attraction=attraction)
        self.population_size = population_size
        self.inertia = inertia
        self.attraction = attraction
        super().__init__(space, seed=seed)

    def _reset(self) -> None:
        self._num_seen = 0
        self._places: dict[int, np.ndarray] = {}
        self._velocities: dict[int, np.ndarray] = {}
        self._best: dict[int, tuple[float, np.ndarray]] = {}
        self._leader: tuple[float, np.ndarray] | None = None

    def _observe(self, observation: Observation) -> None:
        particle = self._num_seen % self.population_size
        self._num_seen += 1
        score = observation.score
        if not isinstance(score, float):
            return
        place = self._place(observation.architecture)
        before = self._places.get(particle, place)
        self._velocities[particle], self._places[particle] = place - before, place
        if particle not in self._best or score > self._best[particle][0]:
            self._best[particle] = score, place
        if self._leader is None or score > self._leader[0]:
            self._leader = score, place

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        particle = number % self.population_size
        place = self._places.get(particle)
        if place is None or self._leader is None:
            return self.space.sample(rng)
        own, swarm = self._best[particle][1], self._leader[1]
        pulls = self.attraction * rng.random((2, len(place)))
        velocity = self.inertia * self._velocities[particle]
        velocity = velocity + pulls[0] * (own - place) + pulls[1] * (swarm - place)
        return self._architecture(place + velocity, rng)

    # -- places -------------------------------------------------------------------------

    def _place(self, architecture: Architecture) -> np.ndarray:
        """Coordinates in [0, 1]; in the middle where a decision is not active."""
        parts = [
            _coordinates(decision, architecture.get(label))
            for label, decision in self.space.decisions.items()
        ]
        return np.concatenate(parts)

    def _architecture(self, place: np.ndarray, rng: np.random.Generator) -> Architecture:
        choices: dict[str, Choice] = {}
        at = 0
        for label, decision in self.space.decisions.items():
            size = 1 if decision.is_ordered else len(decision.choices or ())
            choices[label] = _choice(decision, place[at : at + size], rng)
            at += size
        try:
            return self.space.complete(choices)
        except ArchitectureError:  # forbidden
            return self.space.sample(rng)


_NOISE = 0.02
"""Added to the shares of choices, so that none is lost to a swarm that agrees."""


def _coordinates(decision: Decision, choice: Choice | None) -> np.ndarray:
    if decision.choices is None:
        return np.array([0.5 if choice is None else decision.encode(choice)[1]])
    if choice is None:
        size = 1 if decision.is_ordered else len(decision.choices)
        return np.full(size, 0.5 if decision.is_ordered else 1 / size)
    if decision.is_ordered:
        index = decision.choices_in_order.index(choice)
        return np.array([(index + 0.5) / len(decision.choices)])
    index = decision.choices.index(choice)
    return np.eye(len(decision.choices))[index]


def _choice(decision: Decision, place: np.ndarray, rng: np.random.Generator) -> Choice:
    if decision.choices is not None and not decision.is_ordered:
        shares = np.clip(place, 0, None) + _NOISE
        return decision.choices[int(rng.choice(len(shares), p=shares / shares.sum()))]
    unit = float(np.clip(place[0], 0, 1))
    if decision.choices is not None:
        fellows = decision.choices_in_order
        return fellows[min(int(unit * len(fellows)), len(fellows) - 1)]
    return decision.at(unit)
