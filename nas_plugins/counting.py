"""Exact number of architectures of a conditional space, without enumerating them.

Model counting by conditioning: independent groups of decisions multiply; within a group a
decision that others depend on is split over its choices, and choices with the same effect
are counted once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

from nas_plugins.architecture import Choice
from nas_plugins.decision import ALWAYS, Condition, Decision

__all__ = ["count_assignments"]

Residual = tuple[tuple[str, Condition], ...]
"""Undecided decisions with what remains of their conditions, in topological order."""


def count_assignments(decisions: Mapping[str, Decision]) -> int | float:
    """Number of complete assignments, forbidden clauses aside.

    Returns:
        An exact integer, or ``math.inf`` when a real-valued decision can be active.
    """
    cache: dict[Residual, int | float] = {}

    def count(residual: Residual) -> int | float:
        total: int | float = 1
        for group in _independent_groups(residual):
            if group not in cache:
                cache[group] = count_group(group)
            total *= cache[group]
        return total

    def count_group(group: Residual) -> int | float:
        label = next(label for label, condition in group if condition == ALWAYS)
        decision = decisions[label]
        rest = tuple(item for item in group if item[0] != label)
        if not rest:
            return decision.num_choices
        if decision.num_choices == math.inf:
            return math.inf
        branches: dict[Residual, int] = {}
        for choice, alike in _pieces(decision, rest):
            branch = _settle(rest, label, choice)
            branches[branch] = branches.get(branch, 0) + alike
        return sum(times * count(branch) for branch, times in branches.items())

    return count(tuple((label, d.condition) for label, d in decisions.items()))


def _pieces(decision: Decision, rest: Residual) -> Iterator[tuple[Choice, int]]:
    """Choices, each with how many pass the same conditions: of a range one for each part."""
    if decision.choices is not None:
        yield from ((choice, 1) for choice in decision.choices)
        return
    low, end = int(decision.low), int(decision.high) + 1
    cuts: set[float] = {low, end}
    for _, condition in rest:
        for literal in (one for clause in condition for one in clause):
            if literal.label != decision.label:
                continue
            if literal.values is None:
                cuts |= {math.floor(literal.above) + 1} if literal.above > -math.inf else set()
                cuts |= {math.ceil(literal.below)} if literal.below < math.inf else set()
            else:
                numbers = [v for v in literal.values if not isinstance(v, str)]
                cuts |= {edge for v in numbers for edge in (math.ceil(v), math.floor(v) + 1)}
    places = sorted(int(cut) for cut in cuts if low <= cut <= end)
    yield from ((start, stop - start) for start, stop in pairwise(places))


def _settle(residual: Residual, label: str, choice: object) -> Residual:
    """What remains after ``label`` took ``choice``; ``None`` stands for inactive."""
    remaining: list[tuple[str, Condition]] = []
    settled: dict[str, object] = {label: choice}
    for other, condition in residual:
        clauses = []
        for clause in condition:
            open_literals = []
            for literal in clause:
                if literal.label not in settled:
                    open_literals.append(literal)
                    continue
                value = settled[literal.label]
                if value is None or not literal.holds(value):  # type: ignore[arg-type]
                    break
            else:
                clauses.append(tuple(open_literals))
        if not clauses:
            settled[other] = None
        else:
            remaining.append((other, ALWAYS if () in clauses else tuple(clauses)))
    return tuple(remaining)


def _independent_groups(residual: Residual) -> list[Residual]:
    root = {label: label for label, _ in residual}

    def find(label: str) -> str:
        while root[label] != label:
            root[label] = root[root[label]]
            label = root[label]
        return label

    for label, condition in residual:
        for clause in condition:
            for literal in clause:
                root[find(label)] = find(literal.label)
    groups: dict[str, list[tuple[str, Condition]]] = {}
    for item in residual:
        groups.setdefault(find(item[0]), []).append(item)
    return [tuple(group) for group in groups.values()]
