"""MO-ASHA: which trainings with several objectives are worth going on with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas_plugins.errors import NasPluginsError
from nas_plugins.pareto import non_dominated_ranks

__all__ = ["MOASHA", "HalvingError"]


class HalvingError(NasPluginsError, ValueError):
    """The rungs of a successive halving cannot be made."""


class MOASHA:
    """Multi-objective asynchronous successive halving, in the form that stops trainings.

    Schmucker et al. 2021, arXiv:2106.12639, section 3; the stopping form is that of Salinas
    et al. 2021, arXiv:2106.05680. A training that reaches a rung (1, 3, 9, … epochs) is
    compared with all that reached it before, at the same point of theirs. It goes on if it is
    among the best ``1 / reduction_factor``, and so does the first to arrive. The order is that
    of non-dominated sorting; within a front it is an epsilon-net: the best in the first
    objective, then always the point that is farthest from those before it.
    Reference: awslabs/syne-tune ``schedulers/multiobjective/moasha.py``, one bracket.

    Deviations: distances are taken after each objective was scaled to the range of its front,
    because the objectives have different units. ``spare_front`` is ours.

    Args:
        min_resource: The first rung (reference: 1), in whatever is counted, say epochs.
        reduction_factor: Ratio of one rung to the one before, and of those that arrive to
            those that go on (reference: 3).
        max_resource: Length of a whole training, at which nothing is left to stop. Default:
            unknown; rungs then go on for ever.
        spare_front: Never stop a training that nobody dominates at its rung. With a front
            longer than ``1 / reduction_factor`` of the trials, the paper's rule has to stop
            parts of it.

    Raises:
        HalvingError: The numbers make no rungs.

    Example:
        >>> rule = MOASHA()
        >>> [rule.rung(resource) for resource in (1, 2, 3, 8, 9)]
        [0, 0, 1, 1, 2]
        >>> rule.stops((0.5, -2.0), [(0.6, -1.0), (0.7, -3.0), (0.4, -1.5)])
        True
    """

    def __init__(
        self,
        *,
        min_resource: int = 1,
        reduction_factor: float = 3.0,
        max_resource: int | None = None,
        spare_front: bool = False,
    ) -> None:
        if min_resource < 1 or reduction_factor <= 1:
            raise HalvingError(
                f"min_resource is {min_resource} and reduction_factor {reduction_factor}; "
                "expected at least 1, and more than 1"
            )
        self.min_resource = min_resource
        self.reduction_factor = reduction_factor
        self.max_resource = max_resource
        self.spare_front = spare_front

    def rung(self, resource: int) -> int | None:
        """The highest rung that a training has reached; ``None`` before the first and at its end.

        Args:
            resource: What was spent, from 1.
        """
        if resource < self.min_resource:
            return None
        if self.max_resource is not None and resource >= self.max_resource:
            return None
        rung = 0
        while self.min_resource * self.reduction_factor ** (rung + 1) <= resource:
            rung += 1
        return rung

    def stops(self, point: Sequence[float], peers: Sequence[Sequence[float]]) -> bool:
        """Whether a training that arrives at a rung is not worth going on with.

        Args:
            point: What it has reached, one number for each objective; higher is better. It
                stops if one of them is not finite.
            peers: What the others had reached at the rung, shape ``(peers, objectives)``.
        """
        if not all(map(math.isfinite, point)):
            return True
        if not len(peers):
            return False
        points = np.array([*peers, point], dtype=float)
        ranks = non_dominated_ranks(points)
        if self.spare_front and ranks[-1] == 0:
            return False
        front = np.flatnonzero(ranks == ranks[-1])
        place = (ranks < ranks[-1]).sum() + _epsilon_net(points[front])[-1]
        return bool(place / len(points) > 1 / self.reduction_factor)


def _epsilon_net(front: np.ndarray) -> np.ndarray:
    """Place of each point in an order that covers the front early.

    Clarkson 2006, "Nearest-neighbor searching and metric space dimensions", section 3.2.

    Args:
        front: Shape ``(points, objectives)``.
    """
    extent = np.ptp(front, axis=0)
    scaled = (front - front.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    places = np.full(len(front), -1)
    chosen = int(np.argmax(front[:, 0]))
    distances = np.full(len(front), np.inf)
    for place in range(len(front)):
        places[chosen] = place
        distances = np.minimum(distances, np.linalg.norm(scaled - scaled[chosen], axis=1))
        chosen = int(np.argmax(np.where(places < 0, distances, -1.0)))
    return places
