"""Markov chains that move together, all walkers of a half at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["stretch_chains"]


def stretch_chains(
    log_density: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    num_steps: int,
    rng: np.random.Generator,
    *,
    burn_in: int = 0,
    thin: int = 1,
    scale: float = 2.0,
) -> np.ndarray:
    """Samples of a density by the affine invariant stretch move.

    Goodman & Weare 2010, Communications in Applied Mathematics and Computational Science 5,
    equation 10; in halves that take turns, as Foreman-Mackey et al. 2013, arXiv:1202.3665,
    algorithm 3 (emcee, whose loop over single walkers takes longer than our densities do).

    Args:
        log_density: Of rows ``(walkers, parameters)``, shape ``(walkers,)``; ``-inf`` where
            nothing is.
        start: Walkers' first places, an even number of at least two for each parameter; the
            density of none is 0, and they lie in no common hyperplane.
        num_steps: Moves of each walker.
        rng: Draws all random numbers.
        burn_in: Moves at the beginning that do not count.
        thin: Every so many moves count.
        scale: Greatest stretch, ``a`` of the papers.

    Returns:
        Shape ``(walkers * ((num_steps - burn_in) // thin), parameters)``.
    """
    places = start.copy()
    densities = log_density(places)
    half = len(places) // 2
    kept = []
    for step in range(1, num_steps + 1):
        order = rng.permutation(len(places))
        for moved, others in ((order[:half], order[half:]), (order[half:], order[:half])):
            stretch = ((scale - 1) * rng.random(half) + 1) ** 2 / scale
            partners = places[others[rng.integers(half, size=half)]]
            proposed = partners + stretch[:, None] * (places[moved] - partners)
            found = log_density(proposed)
            gain = (places.shape[1] - 1) * np.log(stretch) + found - densities[moved]
            taken = np.log(rng.random(half)) < gain
            places[moved[taken]] = proposed[taken]
            densities[moved[taken]] = found[taken]
        if step > burn_in and (step - burn_in) % thin == 0:
            kept.append(places.copy())
    return np.concatenate(kept)
