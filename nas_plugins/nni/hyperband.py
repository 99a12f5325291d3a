"""NNI's Hyperband, as it works in NNI 3.0."""

from __future__ import annotations

from typing import Any

import numpy as np
from nni.algorithms.hpo.hyperband_advisor import Hyperband

__all__ = ["MendedHyperband"]


class MendedHyperband(Hyperband):
    """NNI's own Hyperband with a seed, and without the error that ends it at the first result.

    Li et al. 2018, arXiv:1603.06560, algorithm 1; ``R`` epochs are the longest training. NNI 3.0
    asks of each result whether its parameters' id is below a number, and Hyperband's ids are
    text; the cure can go when its ``is_created_in_previous_exp`` takes text.

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

    def is_created_in_previous_exp(self, param_id: Any) -> bool:
        return not isinstance(param_id, str) and super().is_created_in_previous_exp(param_id)
