"""A score and costs together: one reward, several objectives, or limits.

Functions of plain numbers, so that they serve in every host's objective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_plugins.errors import NasPluginsError

__all__ = ["InfeasibleError", "mnasnet_reward", "objectives", "require", "violations"]

Costs = Mapping[str, float]
"""Name of a cost, such as ``latency_ms``, to what an architecture costs; lower is better."""


class InfeasibleError(NasPluginsError, ValueError):
    """An architecture costs more than it may; a host's trial that raises this has failed."""


def mnasnet_reward(
    score: float, costs: Costs, targets: Costs, *, alpha: float = -0.07, beta: float = -0.07
) -> float:
    """The score times ``(cost / target)^w`` for each target, higher is better.

    Tan et al. 2019 (MnasNet), arXiv:1807.11626, eq. 2-3: ``w`` is ``alpha`` up to the target
    and ``beta`` beyond. With the defaults the target is soft: twice the latency is worth 5 %
    of accuracy. ``alpha=0, beta=-1`` makes it hard: being faster earns nothing, being slower
    costs in proportion. Several targets are this package's; the paper has latency alone.

    Args:
        score: Such as an accuracy; not negative.
        costs: At least those with a target, above 0.
        targets: Name of a cost to its target.
        alpha: Exponent up to the target.
        beta: Exponent beyond it.

    Raises:
        ValueError: The score is negative; a cost is missing, or it or its target is not above 0.

    Example:
        >>> round(mnasnet_reward(0.75, {"latency_ms": 156.0}, {"latency_ms": 78.0}), 4)
        0.7145
    """
    if targets and score < 0:
        raise ValueError(f"score is {score}; expected at least 0, as an accuracy is")
    reward = score
    for name, target in targets.items():
        ratio = _known(costs, name) / target if target > 0 else 0.0
        if not ratio > 0:
            raise ValueError(
                f"cost {name!r} is {costs[name]} and its target {target}; expected both above 0"
            )
        reward *= ratio ** (alpha if ratio <= 1 else beta)
    return reward


def objectives(score: float, costs: Costs, names: Sequence[str]) -> tuple[float, ...]:
    """The score and the negated costs: what a strategy for several objectives is told.

    Args:
        score: Higher is better.
        costs: Lower is better.
        names: Those that count, in order.
    """
    return (score, *(-_known(costs, name) for name in names))


def violations(costs: Costs, limits: Costs) -> dict[str, float]:
    """By which share each limit is exceeded; 0 and below is within it, as Optuna has it.

    Args:
        costs: At least those with a limit.
        limits: Name of a cost to the most it may be, above 0.
    """
    return {name: _known(costs, name) / limit - 1.0 for name, limit in limits.items()}


def require(costs: Costs, limits: Costs) -> None:
    """Raise unless every cost is within its limit; call it before any training.

    Raises:
        InfeasibleError: Names the cost.
    """
    for name, excess in violations(costs, limits).items():
        if excess > 0:
            raise InfeasibleError(
                f"{name} is {costs[name]}, {excess:.0%} above its limit of {limits[name]}"
            )


def _known(costs: Costs, name: str) -> float:
    if name not in costs:
        raise ValueError(f"no cost {name!r} among {sorted(costs)}")
    return costs[name]
