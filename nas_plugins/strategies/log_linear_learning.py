"""Log-linear learning: decisions as players of a game with one common payoff."""

from __future__ import annotations

import math

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["LogLinearLearning"]


class LogLinearLearning(Strategy):
    """Each decision is a player, its choices are the actions, the score is everybody's payoff.

    Binary log-linear learning (Marden & Shamma 2012, Games and Economic Behavior 75, 788-808): one
    player at a time, drawn at random, tries another action while the others repeat theirs, and
    keeps it with probability ``exp(tried / t) / (exp(tried / t) + exp(before / t))``. In a game
    with a common payoff, a potential game, a profile is played in the long run in proportion to
    ``exp(payoff / t)``, so that at a low temperature ``t`` the best one is played nearly always,
    and not just any Nash equilibrium, from which no player alone would move.

    Deviations: the payoff before is the one that was told, not played again; what others have
    asked for or told is taken for a trial too; one that failed is not kept. Where an action makes
    decisions active, their players draw theirs anew.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        temperature: In the score's unit: what a trial may lose and still be kept often. Default:
            a hundredth, a point of accuracy; the paper lets it go to 0.

    Raises:
        ValueError: The temperature is not positive.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0, temperature: float = 0.01) -> None:
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature}; expected a positive number")
        self.temperature = temperature
        super().__init__(space, seed=seed)

    @property
    def profile(self) -> Architecture | None:
        """What is played now; ``None`` before the first payoff."""
        return self._profile

    def _reset(self) -> None:
        self._num_seen = 0
        self._profile: Architecture | None = None
        self._payoff = -math.inf

    def _observe(self, observation: Observation) -> None:
        self._num_seen += 1
        score = observation.score
        if not isinstance(score, float):
            return
        # Another stream than that of the proposal of the same number.
        draw = np.random.default_rng((self.seed, self._num_seen, 0, 1)).random()
        # The logistic function, which does not overflow in this form.
        if draw < 0.5 + 0.5 * math.tanh((score - self._payoff) / (2 * self.temperature)):
            self._profile, self._payoff = observation.architecture, score

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        if self._profile is None or not self.space.mutable(self._profile):
            return self.space.sample(rng)
        return self.space.mutate(self._profile, rng)
