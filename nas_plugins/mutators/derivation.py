"""From what was learned about each decision to the best architectures of the space."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Mapping

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.errors import NasPluginsError, ScoreError
from nas_plugins.mutators.base import Evaluate
from nas_plugins.space import SearchSpace

__all__ = ["RankingError", "Worths", "active", "best_first", "distinct", "ranked"]

Worths = Mapping[str, Mapping[Choice, float]]
"""Decision to choice to what it is worth, a logarithm; only differences within one matter."""


class RankingError(NasPluginsError, ValueError):
    """There is nothing to rank architectures by."""


def best_first(space: SearchSpace, worths: Worths, num: int) -> list[Architecture]:
    """The ``num`` best architectures, where the best takes the best choice at every decision.

    An architecture costs what it loses at its decisions, each against the best choice
    there. With the same decisions active in all architectures that is the order of their
    product of probabilities; where a choice brings further decisions with it, it is not
    held against it that these are uncertain too.

    Args:
        space: Its forbidden clauses are respected, and no two architectures are canonically
            equal.
        worths: Of every active decision; one that is missing takes its default.
        num: How many; fewer come back where there are no more.
    """
    costs = {label: _costs(of) for label, of in worths.items()}
    order = list(space.decisions.values())
    tie = itertools.count()
    # The further an assignment, the earlier among equals: the first comes without detours.
    heap: list[tuple[float, int, int, dict[str, Choice]]] = [(0.0, 0, next(tie), {})]

    def in_order() -> Iterable[Architecture]:
        while heap:
            cost, minus_position, _, chosen = heapq.heappop(heap)
            position = -minus_position
            while position < len(order) and not order[position].is_active(chosen):
                position += 1
            if position == len(order):
                architecture = Architecture(chosen)
                if architecture in space:
                    yield architecture
                continue
            decision = order[position]
            for choice, more in costs.get(decision.label, {decision.default: 0.0}).items():
                longer = {**chosen, decision.label: choice}
                heapq.heappush(heap, (cost + more, -position - 1, next(tie), longer))

    return distinct(space, in_order(), num)


def _costs(worths: Mapping[Choice, float]) -> dict[Choice, float]:
    best = max(worths.values())
    return {
        choice: best - worth if worth > -math.inf else math.inf for choice, worth in worths.items()
    }


def active(space: SearchSpace, choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """The active decisions' choices, the default where one is missing; not validated."""
    chosen: dict[str, Choice] = {}
    for label, decision in space.decisions.items():
        if decision.is_active(chosen):
            chosen[label] = choices.get(label, decision.default)
    return chosen


def distinct(
    space: SearchSpace, architectures: Iterable[Architecture], num: int | None = None
) -> list[Architecture]:
    """The first ``num`` that are different networks, in the order given."""
    seen = set()
    found: list[Architecture] = []
    for architecture in architectures:
        if num is not None and len(found) == num:
            break
        form = space.canonical(architecture)
        if form not in seen:
            seen.add(form)
            found.append(architecture)
    return found


def ranked(architectures: Iterable[Architecture], evaluate: Evaluate) -> list[Architecture]:
    """Best first by ``evaluate``; equals keep their order.

    Raises:
        ScoreError: A score is not finite.
    """
    scored = []
    for architecture in architectures:
        score = float(evaluate(architecture))
        if not math.isfinite(score):
            raise ScoreError(
                f"evaluate gave {score} for architecture {architecture.id}; expected a finite "
                "number"
            )
        scored.append((score, architecture))
    return [architecture for _, architecture in sorted(scored, key=lambda pair: -pair[0])]
