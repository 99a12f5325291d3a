"""What a search from the command line is after: accuracy, weighed or limited by costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas_plugins import Architecture
from nas_plugins.cli import OptionError, named_values
from nas_plugins.estimators.cost import Cost
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.estimators.objectives import mnasnet_reward, require

__all__ = ["Worth"]

COUNTED = ("parameters", "multiply_adds", "bits")
MEASURED = "latency_ms"


@dataclass(frozen=True)
class Worth:
    """Costs of an architecture, and what they make of its accuracy.

    Args:
        count: The architecture's counted cost.
        table: Adds ``latency_ms`` to the costs.
        targets: Name of a cost to the target of MnasNet's reward.
        limits: Name of a cost to the most it may be.

    Raises:
        OptionError: A target or limit is of no known cost, or not above 0.
    """

    count: Callable[[Architecture], Cost]
    table: LatencyTable | None
    targets: Mapping[str, float]
    limits: Mapping[str, float]

    def __post_init__(self) -> None:
        known = [*COUNTED, *([MEASURED] if self.table else [])]
        for name, value in [*self.targets.items(), *self.limits.items()]:
            if name not in known:
                remedy = "; give --latency-table" if name == MEASURED else ""
                raise OptionError(f"no cost {name!r}; expected one of {known}{remedy}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise OptionError(f"{name} is {value!r}; expected a number above 0")

    @classmethod
    def of(cls, options: argparse.Namespace, count: Callable[[Architecture], Cost]) -> Worth:
        """As ``--latency-table``, ``--target`` and ``--limit`` say."""
        table = LatencyTable.read(options.latency_table) if options.latency_table else None
        return cls(count, table, named_values(options.target), named_values(options.limit))

    @property
    def settings(self) -> dict[str, Any]:
        """What scores depend on, ``None`` where it was not given; JSON-able."""
        return {
            "latency_table": self.table.to_dict() if self.table else None,
            "targets": self.targets or None,
            "limits": self.limits or None,
        }

    @property
    def name(self) -> str:
        """Of what a trial is worth."""
        return "reward" if self.targets else "validation accuracy"

    def costs(self, architecture: Architecture) -> dict[str, float]:
        """Name to cost.

        Raises:
            InfeasibleError: One is above its limit.
        """
        costs: dict[str, float] = dict(self.count(architecture).to_dict())
        if "bits" not in {**self.targets, **self.limits}:
            del costs["bits"]  # that of the parameters over again
        if self.table is not None:
            costs[MEASURED] = self.table.of(architecture)
        require(costs, self.limits)
        return costs

    def reward(self, accuracy: float, costs: Mapping[str, float]) -> float:
        return mnasnet_reward(accuracy, costs, self.targets)

    def accuracy(self, reward: float, costs: Mapping[str, float]) -> float:
        """That a reward was made of, up to rounding."""
        return reward / self.reward(1.0, costs)
