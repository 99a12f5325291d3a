"""Architectures as rows of numbers, and the kernel over them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from nas_plugins.architecture import Choice
from nas_plugins.decision import Decision
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.posterior import Kernel

__all__ = ["Encoding"]

_RANGE = 4.0
"""Width of a numeric range beside two choices that differ, which are 1 apart."""


class Encoding:
    """Rows of numbers for architectures of a space, and the kernel over them.

    A decision's columns are those of :meth:`SearchSpace.encode`; discrete choices that have an
    order, or are numbers, have one more, their position.

    Args:
        space: Whose architectures.

    Attributes:
        kernel: Its factors are one for each decision, and one for each choice that is shared
            by all decisions with the same choices.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._decisions = tuple(space.decisions.values())
        self._known = {d.label: _vectors(d) for d in self._decisions}
        main: list[int] = []
        names: list[Hashable] = []
        for i, decision in enumerate(self._decisions):
            num_columns = len(self._vector(decision, decision.default))
            main += [i] * num_columns
            names += [(decision.choices or decision.label, j) for j in range(num_columns)]
        distinct = list(dict.fromkeys(names))
        further = np.array([[name == other for other in distinct] for name in names], dtype=float)
        self.kernel = Kernel(np.array(main, dtype=int), further.reshape(len(names), -1))

    def rows(self, architectures: Sequence[Mapping[str, Choice]]) -> np.ndarray:
        """Shape ``(architectures, columns)``."""
        return np.array(
            [
                np.concatenate([self._vector(d, a.get(d.label)) for d in self._decisions])
                for a in architectures
            ]
        )

    def _vector(self, decision: Decision, choice: Choice | None) -> np.ndarray:
        known = self._known[decision.label]
        return known[choice] if choice in known else _vector(decision, choice)


def _vectors(decision: Decision) -> dict[Choice | None, np.ndarray]:
    """Columns of every choice of a discrete decision, and of its absence."""
    choices = (None, *(decision.choices or ()))
    return {choice: _vector(decision, choice) for choice in choices}


def _vector(decision: Decision, choice: Choice | None) -> np.ndarray:
    encoded = decision.encode(choice)
    if decision.choices is None:
        return encoded * [1.0, _RANGE]
    if not decision.is_ordered:
        return encoded
    ordered = decision.choices_in_order
    position = 0 if choice is None else ordered.index(choice)
    return np.append(encoded, _RANGE * position / max(1, len(ordered) - 1))
