"""Architectures among which an acquisition function is maximised."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.errors import ArchitectureError
from nas_plugins.space import SearchSpace

__all__ = ["climb", "vary"]

Evaluate = Callable[[Sequence[Architecture]], np.ndarray]

_ENOUGH = 2000
"""A space of at most so many architectures is looked at as a whole."""


def climb(
    space: SearchSpace,
    evaluate: Evaluate,
    parents: Sequence[Architecture],
    known: frozenset[Hashable],
    rng: np.random.Generator,
    *,
    num_random: int = 500,
    num_near: int = 200,
    rounds: int = 3,
) -> tuple[list[Architecture], np.ndarray]:
    """Candidates and their values: at random, near the best known, then near the best found.

    Args:
        space: Where candidates come from.
        evaluate: Values of architectures, higher is better.
        parents: The best so far.
        known: Canonical forms that are no candidates, because they were evaluated.
        rng: Source of randomness.
        num_random: Draws from the space's prior.
        num_near: Variations of parents, and in each round of the best candidates.
        rounds: Of variation.

    Returns:
        Both empty where there is nothing new.
    """
    seen = set(known)

    def new(architectures: Iterable[Architecture]) -> list[Architecture]:
        found = []
        for architecture in architectures:
            form = space.canonical(architecture)
            if form not in seen:
                seen.add(form)
                found.append(architecture)
        return found

    if space.num_assignments <= _ENOUGH:
        found = new(space.enumerate())
        return found, evaluate(found) if found else np.zeros(0)
    found = new(space.sample(rng) for _ in range(num_random))
    found += new(_near(space, parents, num_near, rng))
    values = evaluate(found) if found else np.zeros(0)
    for _ in range(rounds):
        best = [found[i] for i in np.argsort(-values, kind="stable")[:5]]
        more = new(_near(space, best, num_near, rng))
        if more:
            found, values = found + more, np.concatenate([values, evaluate(more)])
    return found, values


def _near(
    space: SearchSpace, parents: Sequence[Architecture], num: int, rng: np.random.Generator
) -> Iterable[Architecture]:
    for i in range(num if parents else 0):
        architecture = parents[i % len(parents)]
        for _ in range(rng.geometric(0.7)):
            architecture = vary(space, architecture, rng)
        yield architecture


def vary(space: SearchSpace, architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """Change one decision; a number a little, at a scale that is drawn as well."""
    mutable = space.mutable(architecture)
    if not mutable:
        return architecture
    decision = space.decisions[mutable[rng.integers(len(mutable))]]
    choice = architecture[decision.label]
    if decision.choices is None and rng.random() < 0.8:
        share = float(decision.encode(choice)[1])
        other = decision.at(share + rng.normal() * 10 ** rng.uniform(-2.5, -0.5))
    else:
        other = decision.mutate(choice, rng)
    try:
        return space.exchange(architecture, decision.label, other)
    except ArchitectureError:  # forbidden
        return space.mutate(architecture, rng)
