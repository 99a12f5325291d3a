"""Architectures as the rows of numbers that a Gaussian process over mixed spaces takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from nas_plugins.architecture import Choice
from nas_plugins.decision import ALWAYS, INPUT_SEPARATOR, Decision
from nas_plugins.space import SearchSpace

__all__ = ["Inputs"]

Column = Callable[[Mapping[str, Choice]], float]


class Inputs:
    """Columns for the decisions of a space.

    A decision whose choices have no order is one column of category numbers, in which
    *inactive* is a category of its own. One whose choices are numbers, or ordered, is one
    column in [0, 1], on the decision's own scale; where it may be inactive it is 0.5 then,
    and a column of two categories says so. Of ``inputs`` each possible input is a column of
    two categories.

    Args:
        space: Whose decisions.
        last: A decision over a range of numbers that is the last column.

    Attributes:
        categorical: Columns of categories.
        size: Number of columns.
    """

    def __init__(self, space: SearchSpace, *, last: str | None = None) -> None:
        self._columns: list[Column] = []
        self.categorical: list[int] = []
        for label, decision in space.decisions.items():
            if label != last:
                self._add(decision)
        if last is not None:
            self._columns.append(_position(space.decisions[last]))

    @property
    def size(self) -> int:
        return len(self._columns)

    def row(self, architecture: Mapping[str, Choice]) -> np.ndarray:
        """Shape ``(size,)``."""
        return np.array([column(architecture) for column in self._columns])

    def rows(self, architectures: Iterable[Mapping[str, Choice]]) -> Tensor:
        """Shape ``(architectures, size)``, float64."""
        found = [self.row(architecture) for architecture in architectures]
        return torch.as_tensor(np.array(found).reshape(len(found), self.size))

    def _add(self, decision: Decision) -> None:
        label = decision.label
        if decision.verb == "inputs" and "edges" in decision.meta:
            for edge in decision.meta["edges"]:
                self._add_category(_connects(label, str(edge)))
        elif decision.is_ordered:
            self._columns.append(_position(decision))
            if decision.condition != ALWAYS:
                self._add_category(lambda architecture: float(label in architecture))
        else:
            codes = {choice: float(i) for i, choice in enumerate(decision.choices or ())}
            self._add_category(lambda a: codes[a[label]] if label in a else float(len(codes)))

    def _add_category(self, column: Column) -> None:
        self.categorical.append(len(self._columns))
        self._columns.append(column)


def _position(decision: Decision) -> Column:
    """Where a choice stands in its range, or among its fellows."""
    label = decision.label
    if decision.choices is None:
        return lambda a: float(decision.encode(a[label])[1]) if label in a else 0.5
    fellows = decision.choices_in_order
    last = max(1, len(fellows) - 1)
    places = {choice: i / last for i, choice in enumerate(fellows)}
    return lambda a: places[a[label]] if label in a else 0.5


def _connects(label: str, edge: str) -> Column:
    return lambda a: float(label in a and edge in str(a[label]).split(INPUT_SEPARATOR))
