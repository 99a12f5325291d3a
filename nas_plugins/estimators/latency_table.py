"""Latency as a sum over decisions, one number for each choice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nas_plugins.architecture import Choice
from nas_plugins.errors import NasPluginsError

__all__ = ["Agreement", "LatencyTable", "LatencyTableError", "fit_table"]


class LatencyTableError(NasPluginsError, ValueError):
    """A latency table cannot be read or made."""


@dataclass(frozen=True)
class Agreement:
    """How well a table predicts latencies that were measured end to end.

    Attributes:
        num_architectures: Compared.
        mean_absolute_ms: Mean of abs(predicted - measured).
        mean_relative: Mean of abs(predicted - measured) / measured.
        bias_ms: Mean of predicted - measured.
        r2: Share of the measured variance that is predicted; below 0 is worse than the mean.
        pearson: Linear correlation.
        kendall: Rank correlation, tau-b.
    """

    num_architectures: int
    mean_absolute_ms: float
    mean_relative: float
    bias_ms: float
    r2: float
    pearson: float
    kendall: float

    @classmethod
    def between(cls, predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Agreement:
        """Compare two sequences of at least one latency; correlations of constants are NaN."""
        predicted, measured = np.asarray(predicted_ms, float), np.asarray(measured_ms, float)
        off = predicted - measured
        spread = float(((measured - measured.mean()) ** 2).sum())
        return cls(
            num_architectures=len(measured),
            mean_absolute_ms=float(np.abs(off).mean()),
            mean_relative=float(np.abs(off / measured).mean()),
            bias_ms=float(off.mean()),
            r2=1 - float((off**2).sum()) / spread if spread else math.nan,
            pearson=_correlation(predicted - predicted.mean(), measured - measured.mean()),
            kendall=_correlation(_signs(predicted), _signs(measured)),
        )

    def to_dict(self) -> dict[str, float]:
        """JSON-able form."""
        return asdict(self)


@dataclass(frozen=True)
class LatencyTable(Mapping[str, Mapping[Choice, float]]):
    """Milliseconds of each decision's choices, and of what no decision changes.

    A mapping of decision to choice to milliseconds, so that it goes wherever costs are
    wanted, such as ``latency_ms`` of :class:`~nas_plugins.mutators.ProxylessNAS`.

    Args:
        latency_ms: Decision to choice, as text, to milliseconds.
        constant_ms: Of the rest of the network.
        conditions: What the table was made under; JSON-able.
    """

    latency_ms: Mapping[str, Mapping[str, float]]
    constant_ms: float = 0.0
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, label: str) -> Mapping[Choice, float]:
        return self.latency_ms[label]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self.latency_ms)

    def __len__(self) -> int:
        return len(self.latency_ms)

    def of(self, architecture: Mapping[str, Choice]) -> float:
        """Milliseconds of an architecture.

        Raises:
            LatencyTableError: A decision of the table is taken by a choice it lacks, or none of
                its decisions is the architecture's.
        """
        if self.latency_ms and architecture and not self.latency_ms.keys() & architecture.keys():
            raise LatencyTableError(
                f"the latency table is of {list(self.latency_ms)[:5]}, of which the architecture "
                "has none: it was measured for another space"
            )
        total = self.constant_ms
        for label, costs in self.latency_ms.items():
            if label not in architecture:
                continue
            choice = str(architecture[label])
            if choice not in costs:
                raise LatencyTableError(
                    f"the latency table has no {choice!r} at {label!r}; it has {list(costs)}"
                )
            total += costs[choice]
        return total

    def agreement(
        self, architectures: Sequence[Mapping[str, Choice]], measured_ms: Sequence[float]
    ) -> Agreement:
        """How well the table predicts what was measured end to end."""
        return Agreement.between([self.of(a) for a in architectures], measured_ms)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "conditions": dict(self.conditions),
            "constant_ms": self.constant_ms,
            "latency_ms": {label: dict(costs) for label, costs in self.latency_ms.items()},
        }

    @classmethod
    def of_dict(cls, content: Mapping[str, Any]) -> LatencyTable:
        """Read what :meth:`to_dict` made."""
        table = {
            str(label): {str(choice): float(ms) for choice, ms in costs.items()}
            for label, costs in content["latency_ms"].items()
        }
        return cls(table, float(content["constant_ms"]), dict(content.get("conditions", {})))

    def write(self, path: str | Path) -> None:
        """Write as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> LatencyTable:
        """Read what :meth:`write` wrote.

        Raises:
            LatencyTableError: No such file, or no such table in it.
        """
        expected = "expected a file that 'nas-plugins latency' or LatencyTable.write made"
        try:
            return cls.of_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LatencyTableError(
                f"{path} is no latency table ({type(error).__name__}: {error}); {expected}"
            ) from error


def fit_table(
    architectures: Sequence[Mapping[str, Choice]],
    measured_ms: Sequence[float],
    *,
    conditions: Mapping[str, Any] | None = None,
) -> LatencyTable:
    """The table whose sums are closest to measured latencies, by least squares.

    For latencies that come without the networks, and for spaces in which a choice changes
    the work of other modules, as the number of channels does. How additive a device is, the
    :meth:`~LatencyTable.agreement` on other architectures tells. Only differences between
    choices can be known; of equal fits it is the one of least norm.

    Args:
        architectures: As many as the table has numbers, better several times as many.
        measured_ms: Their latencies.
        conditions: Stated in the table.

    Raises:
        LatencyTableError: Lengths differ, or there is nothing.
    """
    if len(architectures) != len(measured_ms) or not len(measured_ms):
        raise LatencyTableError(
            f"{len(architectures)} architectures and {len(measured_ms)} latencies; expected as "
            "many of one as of the other, and at least one"
        )
    columns: dict[tuple[str, str], int] = {}
    chosen = [
        [
            columns.setdefault((label, str(choice)), len(columns))
            for label, choice in architecture.items()
        ]
        for architecture in architectures
    ]
    indicators = np.zeros((len(chosen), len(columns)))  # (architectures, numbers of the table)
    for row, of_architecture in enumerate(chosen):
        indicators[row, of_architecture] = 1.0
    measured = np.asarray(measured_ms, float)
    # About the means, so that the constant is free and what is in every architecture is 0.
    centre = indicators.mean(0)
    solution = np.linalg.lstsq(indicators - centre, measured - measured.mean(), rcond=None)[0]
    table: dict[str, dict[str, float]] = {}
    for (label, choice), column in columns.items():
        table.setdefault(label, {})[choice] = float(solution[column])
    constant = float(measured.mean() - centre @ solution)
    return LatencyTable(table, constant, dict(conditions or {}))


def _signs(values: np.ndarray) -> np.ndarray:
    """Which of each two is larger, shape ``(values, values)``."""
    return np.sign(values[:, None] - values[None, :])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    norm = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / norm if norm else math.nan
