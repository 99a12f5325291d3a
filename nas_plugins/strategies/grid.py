"""Grid search over every architecture of a space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Strategy

__all__ = ["GridSearch"]


class GridSearch(Strategy):
    """Proposal ``n`` is the ``n``-th architecture of the grid; past its end it starts again.

    Args:
        space: Where architectures come from.
        seed: Unused; the order is that of :meth:`SearchSpace.enumerate`.
        points: How many values, evenly spaced on the decision's own scale, stand for a
            numeric ``value`` that has more.
    """

    multi_objective = True

    def __init__(self, space: SearchSpace, *, seed: int = 0, points: int = 5) -> None:
        if points < 2:
            raise UnsupportedSpaceError(f"points is {points}; expected at least 2")
        self.points = points
        super().__init__(space, seed=seed)
        self._start()

    def _start(self) -> None:
        self._seen: list[Architecture] = []
        self._rest: Iterator[Architecture] = self.space.enumerate(self.points)

    def __getstate__(self) -> dict[str, Any]:
        # A generator cannot be pickled; what it gave is found again.
        return {k: v for k, v in self.__dict__.items() if k not in ("_seen", "_rest")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        while number >= len(self._seen):
            following = next(self._rest, None)
            if following is None:
                if not self._seen:
                    raise UnsupportedSpaceError(f"space {self.space.name!r} is empty")
                return self._seen[number % len(self._seen)]
            self._seen.append(following)
        return self._seen[number]
