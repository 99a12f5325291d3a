"""Early stopping in a study with several objectives, which Optuna's own pruners refuse."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_plugins.errors import ScoreError
from nas_plugins.estimators.moasha import MOASHA

__all__ = ["MultiObjectivePruner", "intermediate_values"]

_VALUES = "nas_plugins:values:"
_RUNG = "nas_plugins:rung:"


class MultiObjectivePruner:
    """Stops trials of a study with any number of objectives, by MO-ASHA.

    ``trial.report`` and ``trial.should_prune`` raise in such a study, so this object takes
    their place; the study itself needs no pruner. What is reported is kept in the trial's
    system attributes, one key for each fact, written by the trial's worker alone: workers
    share it through any storage, and nothing is lost between them.

    A trial that was stopped is ``PRUNED`` and has no values. It is on no front, and a strategy
    is told that it failed.

    Args:
        rule: Who goes on; default: as published. A ``max_resource`` spares trainings that are
            over, a ``spare_front`` the front.

    Example:
        >>> import optuna
        >>> from nas_plugins.optuna import MultiObjectivePruner
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> pruner = MultiObjectivePruner(MOASHA(max_resource=9))
        >>> def objective(trial):
        ...     width = trial.suggest_int("width", 1, 64)
        ...     for epoch in range(1, 10):
        ...         accuracy = 1 - 1 / (epoch + width % 7)
        ...         if pruner.should_prune(trial, (accuracy, width), step=epoch):
        ...             raise optuna.TrialPruned
        ...     return accuracy, width
        >>> study = optuna.create_study(directions=["maximize", "minimize"])
        >>> study.optimize(objective, n_trials=20)
        >>> {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
        True
    """

    def __init__(self, rule: MOASHA | None = None) -> None:
        self.rule = rule or MOASHA()

    def should_prune(self, trial: Trial, values: Sequence[float], *, step: int) -> bool:
        """Report what a trial has reached, and say whether to stop it.

        A trial is judged once at each rung, with the first report at or past it.

        Args:
            trial: Running, in any study of as many objectives.
            values: One for each objective, as the trial would return them.
            step: What was spent, counted from 1, say epochs.

        Raises:
            ScoreError: As many values as objectives were expected.
        """
        directions = trial.study.directions
        if len(values) != len(directions):
            raise ScoreError(
                f"trial {trial.number} reports {len(values)} values; expected one for each of "
                f"the {len(directions)} objectives of study {trial.study.study_name!r}"
            )
        reported = [float(value) for value in values]
        self._set(trial, f"{_VALUES}{step}", [v if math.isfinite(v) else None for v in reported])
        rung = self.rule.rung(step)
        if rung is None:
            return False
        # A trial that is retried carries what the failed one wrote; the number tells them apart.
        if _at_rung(trial.storage.get_trial(trial._trial_id), rung) is not None:
            return False
        trials = trial.study.get_trials(deepcopy=False)
        signs = [1 if d is StudyDirection.MAXIMIZE else -1 for d in directions]
        point = [sign * value for sign, value in zip(signs, reported, strict=True)]
        if not all(map(math.isfinite, point)):
            return self.rule.stops(point, [])
        self._set(trial, f"{_RUNG}{rung}", [trial.number, point])
        known = (_at_rung(t, rung) for t in trials if t.state is not TrialState.FAIL)
        return self.rule.stops(point, [peer for peer in known if peer is not None])

    @staticmethod
    def _set(trial: Trial, key: str, value: object) -> None:
        trial.storage.set_trial_system_attr(trial._trial_id, key, value)  # type: ignore[arg-type]


def intermediate_values(trial: FrozenTrial) -> dict[int, tuple[float, ...]]:
    """What a trial reported, by step; NaN where a value was not finite."""
    found = {
        int(key[len(_VALUES) :]): tuple(math.nan if v is None else v for v in values)
        for key, values in trial.system_attrs.items()
        if key.startswith(_VALUES)
    }
    return dict(sorted(found.items()))


def _at_rung(trial: FrozenTrial, rung: int) -> list[float] | None:
    """What a trial had reached at a rung, higher is better."""
    number, point = trial.system_attrs.get(f"{_RUNG}{rung}", (None, None))
    return point if number == trial.number else None
