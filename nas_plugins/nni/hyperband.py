"""NNI's Hyperband, as it works in NNI 3.0."""

from __future__ import annotations

from typing import Any

import numpy as np
from nni.algorithms.hpo.hyperband_advisor import Hyperband

__all__ = ["MendedHyperband"]


class MendedHyperband(Hyperband):
    """NNI's own Hyperband with a seed, and without two faults of NNI 3.0.

    Li et al. 2018, arXiv:1603.06560, algorithm 1; ``R`` epochs are the longest training.

    The first fault ends it at the first result: NNI asks whether the parameters' id is below a
    number, and Hyperband's ids are text. The cure can go when ``is_created_in_previous_exp``
    takes text. The second begins a new bracket now and then where the one at hand should have
    promoted: the end of a training waits in a queue of its own, and the request that follows it
    may overtake it. One queue keeps them in order; that can go when ``enqueue_command`` does.

    Args:
        optimize_mode: ``maximize`` or ``minimize``.
        R: Largest budget.
        eta: Of so many trainings one is promoted, to so many times the budget.
        seed: Of the architectures.
    """

    def __init__(
        self, optimize_mode: str = "maximize", R: int = 60, eta: int = 3, seed: int = 0
    ) -> None:
        super().__init__(optimize_mode, R, eta)
        self._seed = seed

    def handle_update_search_space(self, data: Any) -> None:
        super().handle_update_search_space(data)
        self.random_state = np.random.RandomState(self._seed)

    def enqueue_command(self, command: Any, data: Any) -> None:
        self.default_command_queue.put((command, data))

    def is_created_in_previous_exp(self, param_id: Any) -> bool:
        return not isinstance(param_id, str) and super().is_created_in_previous_exp(param_id)
