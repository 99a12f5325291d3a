"""Avoid training the same network twice."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.strategies.base import Observation, Score, Strategy

__all__ = ["Deduplicated"]


class Deduplicated(Strategy):
    """Another strategy, whose duplicates are noticed by canonical form.

    Two ways to use it. With ``reask`` the strategy is asked again until it proposes a
    network that was not told yet; after ``max_attempts`` a duplicate is let through, so that
    a small space does not hang. Without, proposals are untouched, and the caller looks up
    :meth:`remembered` before it trains.

    Args:
        strategy: Any strategy that was told nothing yet; told everything this one is told.
        reask: Whether duplicates are drawn again.
        max_attempts: Draws per proposal.

    Raises:
        ValueError: No attempt, or a strategy that was told something, which would be lost.
    """

    def __init__(self, strategy: Strategy, *, reask: bool = True, max_attempts: int = 100) -> None:
        if max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}; expected at least 1")
        if strategy.num_told:
            raise ValueError(
                f"the strategy was told {strategy.num_told} observations; expected none: wrap it "
                "first, and tell what wraps it"
            )
        self.strategy = strategy
        self.reask = reask
        self.max_attempts = max_attempts
        self.multi_objective = strategy.multi_objective  # type: ignore[misc]
        super().__init__(strategy.space, seed=strategy.seed)

    def remembered(self, architecture: Architecture) -> Score | None:
        """The latest score of this network in any of its forms, ``None`` if it has none."""
        return self._scores.get(self.space.canonical(architecture))

    def _draw(self, number: int, attempt: int) -> Architecture:
        first = attempt * self.max_attempts
        for i in range(first, first + (self.max_attempts if self.reask else 1)):
            architecture = self.strategy.ask(number, i, pending=self._num_pending)
            if not self.reask or self.space.canonical(architecture) not in self._scores:
                break
        return architecture

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        raise NotImplementedError("proposals come from the wrapped strategy")

    def _observe(self, observation: Observation) -> None:
        self.strategy.tell(observation.architecture, observation.score, budget=observation.budget)
        self._scores[self.space.canonical(observation.architecture)] = observation.score

    def _reset(self) -> None:
        self._scores: dict[Hashable, Score | None] = {}
        self.strategy.replay([])
