"""What a search is after: accuracy, weighed or limited by costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_plugins.architecture import Architecture
from nas_plugins.errors import NasPluginsError
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.estimators.objectives import mnasnet_reward, require

if TYPE_CHECKING:
    from nas_plugins.estimators.cost import Cost

__all__ = ["ObjectiveError", "Worth"]

COUNTED = ("parameters", "multiply_adds", "bits")
MEASURED = "latency_ms"


class ObjectiveError(NasPluginsError, ValueError):
    """A target or a limit is of no known cost, or not above 0."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Costs of an architecture, and what they make of its accuracy.

    Args:
        targets: Name of a cost to the target of MnasNet's reward.
        limits: Name of a cost to the most it may be.
        table: Adds ``latency_ms`` to the costs ``parameters``, ``multiply_adds`` and ``bits``.

    Raises:
        ObjectiveError: A target or limit is of no known cost, or not above 0.
    """

    targets: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    table: LatencyTable | None = None

    def __post_init__(self) -> None:
        known = [*COUNTED, *([MEASURED] if self.table is not None else [])]
        for name, value in [*self.targets.items(), *self.limits.items()]:
            if name not in known:
                remedy = "; it needs a latency table" if name == MEASURED else ""
                raise ObjectiveError(f"no cost {name!r}; expected one of {known}{remedy}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ObjectiveError(f"{name} is {value!r}; expected a number above 0")

    @classmethod
    def read(
        cls,
        targets: Mapping[str, float],
        limits: Mapping[str, float],
        latency_table: str | Path | None,
    ) -> Worth:
        """With the table in a file."""
        table = None if latency_table is None else LatencyTable.read(latency_table)
        return cls(targets=targets, limits=limits, table=table)

    @property
    def counts_costs(self) -> bool:
        """Whether costs make a difference, or are at least measured."""
        return bool(self.targets or self.limits or self.table is not None)

    @property
    def settings(self) -> dict[str, Any]:
        """What scores depend on, ``None`` where it was not given; JSON-able."""
        return {
            "latency_table": self.table.to_dict() if self.table is not None else None,
            "targets": self.targets or None,
            "limits": self.limits or None,
        }

    @property
    def name(self) -> str:
        """Of what a trial is worth."""
        return "reward" if self.targets else "validation accuracy"

    def costs(
        self, architecture: Architecture, count: Callable[[Architecture], Cost]
    ) -> dict[str, float]:
        """Name to cost.

        Args:
            architecture: What is to be trained.
            count: Counts its cost.

        Raises:
            InfeasibleError: One is above its limit.
        """
        costs: dict[str, float] = dict(count(architecture).to_dict())
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
