"""Architectures as rows of tokens: what models of a whole architecture read and write."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

from nas_plugins.architecture import Choice
from nas_plugins.decision import Decision, Literal
from nas_plugins.space import SearchSpace

__all__ = ["INACTIVE", "Tokens"]

INACTIVE = -1
"""Token of a decision that the architecture has not."""


class Tokens:
    """Numbers for the choices of a space's decisions, in the space's order.

    A discrete choice is one token. A numeric range with more than ``bins`` values is cut into
    so many bins of equal width, on its own scale; a bin stands for all values in it.

    Args:
        space: Whose decisions.
        bins: Of a numeric range.

    Attributes:
        decisions: In the order of the columns.
        sizes: Tokens of each decision, shape ``(decisions,)``.
    """

    def __init__(self, space: SearchSpace, *, bins: int = 10) -> None:
        self.decisions = tuple(space.decisions.values())
        self._choices = [_choices(decision, bins) for decision in self.decisions]
        self._bins = bins
        self._position = {decision.label: i for i, decision in enumerate(self.decisions)}
        self.sizes = np.array(
            [bins if choices is None else len(choices) for choices in self._choices], dtype=int
        )

    def row(self, architecture: Mapping[str, Choice]) -> np.ndarray:
        """Tokens of an architecture, shape ``(decisions,)``, ``INACTIVE`` where it has none."""
        return np.array(
            [
                self.token(i, architecture[decision.label])
                if decision.label in architecture
                else INACTIVE
                for i, decision in enumerate(self.decisions)
            ],
            dtype=int,
        )

    def token(self, position: int, choice: Choice) -> int:
        """Token of a legal choice at the decision in this column."""
        choices = self._choices[position]
        if choices is not None:
            return choices.index(choice)
        unit = float(self.decisions[position].encode(choice)[1])
        return min(int(unit * self._bins), self._bins - 1)

    def choice(self, position: int, token: int, rng: np.random.Generator) -> Choice:
        """The choice a token stands for; in a bin, a uniform draw on the range's scale."""
        choices = self._choices[position]
        if choices is not None:
            return choices[token]
        return self._value(position, token, rng.random())

    def word(self, position: int, token: int) -> Hashable:
        """What is equal for equal choices, at whichever decisions; a bin is of its own."""
        choices = self._choices[position]
        if choices is None:
            return self.decisions[position].label, token
        return type(choices[token]), choices[token]

    def active(self, position: int, rows: np.ndarray) -> np.ndarray:
        """Which architectures have the decision in this column, by the tokens before it.

        Of a bin that a condition cuts, the middle counts.

        Args:
            position: Column.
            rows: Shape ``(architectures, decisions)``.
        """
        active = np.zeros(len(rows), dtype=bool)
        for clause in self.decisions[position].condition:
            holds = np.ones(len(rows), dtype=bool)
            for literal in clause:
                before = self._position[literal.label]
                holds &= self._passing(before, literal)[rows[:, before]]
            active |= holds
        return active

    def _passing(self, position: int, literal: Literal) -> np.ndarray:
        """Which tokens a literal lets pass; the last entry, no, is that of ``INACTIVE``."""
        choices = self._choices[position]
        if choices is None:
            choices = tuple(self._value(position, token, 0.5) for token in range(self._bins))
        return np.array([*map(literal.holds, choices), False])

    def _value(self, position: int, token: int, share: float) -> Choice:
        """The value that far into a bin."""
        return self.decisions[position].at((token + share) / self._bins)


def _choices(decision: Decision, bins: int) -> tuple[Choice, ...] | None:
    """The choices that are a token each, ``None`` for a range to be cut into bins."""
    if decision.num_choices > bins and decision.choices is None:
        return None
    return tuple(decision.all_choices())
