"""NNI's Hyperband, as it works in NNI 3.0."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from nni.algorithms.hpo.hyperband_advisor import Hyperband
from nni.runtime.env_vars import dispatcher_env_vars

from nas_plugins.errors import NasPluginsError

__all__ = ["MendedHyperband"]


class MendedHyperband(Hyperband):
    """NNI's own Hyperband with a seed, and without three faults of NNI 3.0.

    Li et al. 2018, arXiv:1603.06560, algorithm 1; ``R`` epochs are the longest training.

    The first fault ends it at the first result: NNI asks whether the parameters' id is below a
    number, and Hyperband's ids are text. The cure can go when ``is_created_in_previous_exp``
    takes text. The second begins a new bracket now and then where the one at hand should have
    promoted: the end of a training waits in a queue of its own, and the request that follows it
    may overtake it. One queue keeps them in order; that can go when ``enqueue_command`` does.
    The third ends it where more trainings of a rung fail than may: one without a score counts
    as the worst here, until ``inform_trial_end`` takes fewer scores than it promotes.

    It cannot be resumed: NNI keeps no brackets, and takes trials that a stop cut off for some
    of the new ones.

    Args:
        optimize_mode: ``maximize`` or ``minimize``.
        R: Largest budget.
        eta: Of so many trainings one is promoted, to so many times the budget.
        seed: Of the architectures.

    Raises:
        NasPluginsError: ``nnictl resume``.
    """

    def __init__(
        self, optimize_mode: str = "maximize", R: int = 60, eta: int = 3, seed: int = 0
    ) -> None:
        if dispatcher_env_vars.NNI_MODE == "resume":
            raise NasPluginsError(
                "NNI's Hyperband cannot be resumed: its brackets are not stored. Start a new "
                "experiment with: nas-plugins nni-config --hyperband"
            )
        super().__init__(optimize_mode, R, eta)
        self._seed = seed
        self._worst = -math.inf if optimize_mode == "maximize" else math.inf

    def handle_update_search_space(self, data: Any) -> None:
        super().handle_update_search_space(data)
        self.random_state = np.random.RandomState(self._seed)

    def enqueue_command(self, command: Any, data: Any) -> None:
        self.default_command_queue.put((command, data))

    def _handle_trial_end(self, parameter_id: str) -> None:
        bracket_id, rung, _ = parameter_id.split("_")
        bracket = self.brackets[bracket_id]
        if parameter_id not in bracket.configs_perf[int(rung)]:
            bracket.set_config_perf(int(rung), parameter_id, sys.maxsize, self._worst)
        super()._handle_trial_end(parameter_id)

    def is_created_in_previous_exp(self, param_id: Any) -> bool:
        return not isinstance(param_id, str) and super().is_created_in_previous_exp(param_id)
