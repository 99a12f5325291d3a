"""Architectures as rows of tokens: what models of a whole architecture read and write."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Mapping
from functools import partial
from typing import NamedTuple

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
    so many bins of equal width, on its own scale; a bin stands for all values in it, and one
    that holds no whole number of an integral range is no token.

    Args:
        space: Whose decisions.
        bins: Of a numeric range, at most.

    Attributes:
        decisions: In the order of the columns.
        sizes: Tokens of each decision, shape ``(decisions,)``.
    """

    def __init__(self, space: SearchSpace, *, bins: int = 10) -> None:
        self.decisions = tuple(space.decisions.values())
        self._choices = [_choices(decision, bins) for decision in self.decisions]
        self._bins = [
            _bins(decision, bins) if choices is None else ()
            for decision, choices in zip(self.decisions, self._choices, strict=True)
        ]
        self._position = {decision.label: i for i, decision in enumerate(self.decisions)}
        self.sizes = np.array(
            [
                len(cut) if choices is None else len(choices)
                for choices, cut in zip(self._choices, self._bins, strict=True)
            ],
            dtype=int,
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
        firsts = [cut.first for cut in self._bins[position]]
        value = _place(self.decisions[position], choice)
        return max(0, bisect_right(firsts, value) - 1)

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
            tokens = range(len(self._bins[position]))
            choices = tuple(self._value(position, token, 0.5) for token in tokens)
        return np.array([*map(literal.holds, choices), False])

    def _value(self, position: int, token: int, share: float) -> Choice:
        """The value that far into a bin."""
        decision, cut = self.decisions[position], self._bins[position][token]
        value = decision.at(cut.low + share * (cut.high - cut.low))
        return min(max(value, cut.first), cut.last) if decision.integer else value


class _Bin(NamedTuple):
    """A part of a range.

    Attributes:
        low, high: Its bounds on the range's own scale, in [0, 1].
        first, last: The least and the largest whole number in it; of a range of reals, the bounds.
    """

    low: float
    high: float
    first: float
    last: float


def _bins(decision: Decision, number: int) -> tuple[_Bin, ...]:
    """Parts of equal width that hold a value, in order."""
    edges = [(i / number, (i + 1) / number) for i in range(number)]
    if not decision.integer:
        return tuple(_Bin(low, high, low, high) for low, high in edges)
    low, high = int(decision.low), int(decision.high)
    # A range may be too long for a list of its values.
    starts = [
        bisect_left(range(low, high + 1), edge, key=partial(_place_in, decision)) + low
        for edge, _ in edges
    ]
    found = zip(edges, starts, [*starts[1:], high + 1], strict=True)
    return tuple(_Bin(*edge, first, end - 1) for edge, first, end in found if first < end)


def _place(decision: Decision, choice: Choice) -> float:
    """What bins are ordered by: a whole number itself, a real on the range's scale."""
    return float(choice) if decision.integer else _place_in(decision, choice)


def _place_in(decision: Decision, choice: Choice) -> float:
    return float(decision.encode(choice)[1])


def _choices(decision: Decision, bins: int) -> tuple[Choice, ...] | None:
    """The choices that are a token each, ``None`` for a range to be cut into bins."""
    if decision.num_choices > bins and decision.choices is None:
        return None
    return tuple(decision.all_choices())
