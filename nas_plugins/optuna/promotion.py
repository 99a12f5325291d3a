"""Pruned trials that go on where they were stopped, once they turn out to be among the best."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

__all__ = ["PromotePruned"]

_log = logging.getLogger(__name__)

_PROMOTED_FROM = "nas_plugins:promoted_from"
_RUNG = "completed_rung_{}"  # Optuna's own note of what a trial had there


class PromotePruned:
    """Study callback: a trial that was pruned at a rung is promoted when its time has come.

    Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934, algorithm 2): of a rung's
    trials the best ``1 / reduction_factor`` go on, whenever they become that. Optuna's
    ``SuccessiveHalvingPruner`` asks only once, when a trial arrives, among those that were there
    before. After each trial this looks from the highest rung down for a pruned one that has become
    promotable, and lets Optuna run it again, with the values that it had reported.

    The objective then has to go on where it was, as
    :func:`~lightning_modules.train_child` does from its ``directory``; trials are not told apart
    in it. Workers that finish at one moment may promote the same trial twice.

    Args:
        reduction_factor: That of the study's pruner.

    Raises:
        ValueError: A factor below 2; when called, a study of another pruner.

    Example:
        >>> pruner = optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3)
        >>> study = optuna.create_study(pruner=pruner)
        >>> study.optimize(objective, n_trials=50, callbacks=[PromotePruned(3)])  # doctest: +SKIP
    """

    def __init__(self, reduction_factor: int = 4) -> None:
        if reduction_factor < 2:
            raise ValueError(f"reduction_factor is {reduction_factor}; expected at least 2")
        self.reduction_factor = reduction_factor

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        if not isinstance(study.pruner, SuccessiveHalvingPruner):
            raise ValueError(
                f"the study has a {type(study.pruner).__name__}; expected a "
                "SuccessiveHalvingPruner, whose rungs these are"
            )
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        chosen = self._promotable(study.get_trials(deepcopy=False), sign)
        if chosen is not None:
            _log.info("Trial %d was pruned and is promoted now", chosen.number)
            study.add_trial(_again(chosen))

    def _promotable(self, trials: Iterable[FrozenTrial], sign: float) -> FrozenTrial | None:
        """The best pruned trial of the highest rung that has one among its best."""
        latest = _latest(trials)
        for rung in range(max((_num_rungs(t) for t in latest), default=0) - 1, -1, -1):
            here = [t for t in latest if _num_rungs(t) > rung]
            here.sort(key=lambda t: (-sign * t.system_attrs[_RUNG.format(rung)], t.number))
            for trial in here[: len(here) // self.reduction_factor]:
                if trial.state is TrialState.PRUNED and _num_rungs(trial) == rung + 1:
                    return trial
        return None


def _latest(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Each training once: a trial that was promoted is replaced by its continuation."""
    found: Mapping[int, FrozenTrial] = {t.number: t for t in trials}
    replaced = {t.system_attrs.get(_PROMOTED_FROM) for t in found.values()}
    return [t for number, t in found.items() if number not in replaced]


def _num_rungs(trial: FrozenTrial) -> int:
    number = 0
    while _RUNG.format(number) in trial.system_attrs:
        number += 1
    return number


def _again(trial: FrozenTrial) -> FrozenTrial:
    """A trial that waits to go on, as Optuna's own callback makes those that are retried."""
    return optuna.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs={**trial.system_attrs, _PROMOTED_FROM: trial.number},
        intermediate_values=trial.intermediate_values,
    )
