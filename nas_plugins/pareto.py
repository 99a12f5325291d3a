"""Pareto dominance among points with several objectives; higher is better in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["crowding_distances", "non_dominated_ranks", "pareto_front"]


def pareto_front(points: ArrayLike) -> np.ndarray:
    """Which points no other dominates: is nowhere worse than and somewhere better.

    Equal points do not dominate each other. Takes ``n log n`` for two objectives, and ``n``
    times the length of the front for more.

    Args:
        points: Shape ``(n, objectives)``.

    Returns:
        Boolean mask, shape ``(n,)``.

    Example:
        >>> pareto_front([[0.9, 1.0], [0.8, 2.0], [0.8, 1.0]])
        array([ True,  True, False])
    """
    unique, copies = np.unique(_points(points), axis=0, return_inverse=True)
    descending = unique[::-1]  # no point is dominated by a later one
    front = np.zeros(len(unique), dtype=bool)
    if descending.shape[1] == 2:
        highest = np.maximum.accumulate(descending[:, 1])
        front[:1] = True
        front[1:] = descending[1:, 1] > highest[:-1]
    else:
        remaining = np.arange(len(unique))
        while remaining.size:
            first = remaining[0]
            front[first] = True
            remaining = remaining[(descending[remaining] > descending[first]).any(axis=1)]
    return front[::-1][copies.reshape(-1)]


def non_dominated_ranks(points: ArrayLike) -> np.ndarray:
    """Number of the front each point is on: 0 is the Pareto front, 1 that of the rest, …

    Deb et al. 2002, doi:10.1109/4235.996017, section III-A.

    Args:
        points: Shape ``(n, objectives)``.

    Returns:
        Integers, shape ``(n,)``.
    """
    array = _points(points)
    ranks = np.full(len(array), -1)
    rank = 0
    while (left := np.flatnonzero(ranks < 0)).size:
        ranks[left[pareto_front(array[left])]] = rank
        rank += 1
    return ranks


def crowding_distances(points: ArrayLike) -> np.ndarray:
    """How far apart the neighbours of each point are, as a share of the range, summed.

    Deb et al. 2002, section III-B. The points are those of one front; the best and the worst
    of an objective are infinitely far from what is beyond them. An objective in which all are
    equal tells nothing and adds nothing.

    Args:
        points: Shape ``(n, objectives)``.

    Returns:
        Distances, shape ``(n,)``; higher is less crowded.
    """
    array = _points(points)
    distances = np.zeros(len(array))
    for values in array.T if len(array) else ():
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        if ordered[-1] > ordered[0]:
            distances[order[[0, -1]]] = np.inf
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    return distances


def _points(points: ArrayLike) -> np.ndarray:
    array = np.asarray(points, dtype=float)
    if array.ndim != 2:
        raise ValueError(f"points have shape {array.shape}; expected (points, objectives)")
    return array
