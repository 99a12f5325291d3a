"""An Optuna pruner that extrapolates learning curves."""

from __future__ import annotations

from typing import Any

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_plugins.estimators.curve_stopping import CurveStopping
from nas_plugins.estimators.learning_curve import CurveModel

__all__ = ["LearningCurvePruner"]


class LearningCurvePruner(BasePruner):
    """Prunes a trial that will probably not end better than the best completed one.

    See :class:`~nas_plugins.estimators.curve_stopping.CurveStopping`. Intermediate values are
    reported after each epoch, steps ascending.

    Args:
        horizon: Epochs of a full training.
        bounds: Least and greatest value that can be reported; (0, 1) suits accuracies.
        options: ``threshold``, ``min_epochs``, ``interval``; see there.

    Raises:
        ScoreError: When asked: a value outside the bounds was reported.

    Example:
        >>> study = optuna.create_study(
        ...     direction="maximize", pruner=LearningCurvePruner(horizon=50, interval=5)
        ... )  # doctest: +SKIP
    """

    def __init__(
        self, horizon: int, *, bounds: tuple[float, float] = (0.0, 1.0), **options: Any
    ) -> None:
        low, high = bounds
        self._rules = {
            StudyDirection.MAXIMIZE: CurveStopping(
                horizon, model=CurveModel(bounds=(low, high)), **options
            ),
            StudyDirection.MINIMIZE: CurveStopping(
                horizon, model=CurveModel(bounds=(-high, -low)), **options
            ),
        }

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        direction = study.direction
        sign = 1.0 if direction is StudyDirection.MAXIMIZE else -1.0
        curve = [sign * value for _, value in sorted(trial.intermediate_values.items())]
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = max((sign * t.value for t in done if t.value is not None), default=None)
        return self._rules[direction].should_stop(curve, best)
