"""What the candidates of a supernet cost, in the expectation over its probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nas_plugins.architecture import Choice
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.space import SearchSpace

__all__ = ["CostTable", "ExpectedCost"]

CostTable = Mapping[str, Mapping[Choice, float]]
"""Decision to choice to cost, say milliseconds; as read from JSON, choices may be strings."""


class ExpectedCost:
    """Sum over decisions of what their choices cost, as the probabilities of both have it.

    Cai et al. 2019 (ProxylessNAS), arXiv:1812.00332, eq. 4. A decision that exists only
    under a condition counts by the condition's probability. That is exact where conditions
    are single parents, as nesting and depths make them; alternatives ("or") and
    conjunctions are taken for independent.

    Args:
        space: The space.
        table: Costs; decisions and choices that it lacks cost nothing. The constant of a
            :class:`~nas_plugins.estimators.latency_table.LatencyTable` is part of the sum.

    Raises:
        UnsupportedSpaceError: The table names what the space has not.
    """

    def __init__(self, space: SearchSpace, table: CostTable) -> None:
        self._decisions = space.decisions
        self._constant = table.constant_ms if isinstance(table, LatencyTable) else 0.0
        self._table: dict[str, dict[Choice, float]] = {}
        for label, costs in table.items():
            if label not in self._decisions:
                raise UnsupportedSpaceError(
                    f"the cost table has {label!r}, which is no decision of space {space.name!r}"
                )
            known = {str(choice): choice for choice in self._decisions[label].all_choices()}
            unknown = [choice for choice in costs if str(choice) not in known]
            if unknown:
                raise UnsupportedSpaceError(
                    f"the cost table has {unknown[0]!r} at {label!r}; expected one of {list(known)}"
                )
            self._table[label] = {known[str(choice)]: cost for choice, cost in costs.items()}

    def of(self, architecture: Mapping[str, Choice]) -> float:
        """What one architecture costs."""
        return self._constant + sum(
            costs.get(architecture[label], 0.0)
            for label, costs in self._table.items()
            if label in architecture
        )

    def expected(
        self, choices: Mapping[str, Sequence[Choice]], probabilities: Mapping[str, Tensor]
    ) -> Tensor:
        """Differentiable in the probabilities.

        Args:
            choices: Decision to its choices.
            probabilities: Decision to their probabilities, shape ``(choices,)``.
        """
        total = torch.tensor(self._constant)
        presence: dict[str, Tensor | float] = {}
        for label, costs in self._table.items():
            if label not in choices:
                continue
            p = probabilities[label]
            chance = self._presence(label, choices, probabilities, presence)
            cost = p.new_tensor([costs.get(choice, 0.0) for choice in choices[label]])
            total = total.to(p) + chance * (p * cost).sum()
        return total

    def _presence(
        self,
        label: str,
        choices: Mapping[str, Sequence[Choice]],
        probabilities: Mapping[str, Tensor],
        known: dict[str, Tensor | float],
    ) -> Tensor | float:
        """Probability that a decision exists."""
        if label not in known:
            absent: Tensor | float = 1.0
            for clause in self._decisions[label].condition:
                present: Tensor | float = 1.0
                for literal in clause:
                    if literal.label not in choices:
                        raise UnsupportedSpaceError(
                            f"whether {label!r} exists depends on {literal.label!r}, for which "
                            "the supernet has no gate: the expected cost is not known"
                        )
                    p = probabilities[literal.label]
                    holds = [float(literal.holds(c)) for c in choices[literal.label]]
                    parent = self._presence(literal.label, choices, probabilities, known)
                    present = present * parent * (p * p.new_tensor(holds)).sum()
                absent = absent * (1.0 - present)
            known[label] = 1.0 - absent
        return known[label]
