"""Tournament selection, for one objective or several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.pareto import pareto_front
from nas_plugins.strategies.base import Observation

__all__ = ["winner"]


def winner(sample: Sequence[Observation], rng: np.random.Generator) -> Architecture:
    """The best of a sample, the first of equals; with several objectives any of its front.

    Args:
        sample: Evaluations that did not fail.
        rng: Draws from the front.
    """
    if not isinstance(sample[0].score, tuple):
        return max(sample, key=lambda member: member.score).architecture  # type: ignore[arg-type, return-value]
    front = np.flatnonzero(pareto_front(np.array([member.score for member in sample])))
    return sample[front[rng.integers(len(front))]].architecture
