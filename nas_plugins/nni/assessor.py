"""An NNI assessor that extrapolates learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nni.assessor import Assessor, AssessResult
from nni.utils import extract_scalar_reward

from nas_plugins.estimators.curve_stopping import CurveStopping
from nas_plugins.estimators.learning_curve import CurveModel

__all__ = ["LearningCurveAssessor"]


class LearningCurveAssessor(Assessor):
    """Stops a trial that will probably not end better than the best that ended well.

    See :class:`~nas_plugins.estimators.curve_stopping.CurveStopping`. In a configuration::

        assessor:
          className: nas_plugins.nni.assessor.LearningCurveAssessor
          classArgs: {horizon: 50, interval: 5}

    What counts of a trial that ended is its last intermediate result, because NNI shows an
    assessor no final ones.

    Args:
        horizon: Epochs of a full training, one intermediate result after each.
        optimize_mode: ``maximize`` or ``minimize``.
        bounds: Least and greatest result that can be reported.
        options: ``threshold``, ``min_epochs``, ``interval``; see there.

    Raises:
        ScoreError: When asked: a result outside the bounds was reported.
    """

    def __init__(
        self,
        horizon: int,
        optimize_mode: str = "maximize",
        bounds: Sequence[float] = (0.0, 1.0),
        **options: Any,
    ) -> None:
        if optimize_mode not in ("maximize", "minimize"):
            raise ValueError(
                f"optimize_mode is {optimize_mode!r}; expected 'maximize' or 'minimize'"
            )
        low, high = bounds
        self._sign = 1.0 if optimize_mode == "maximize" else -1.0
        own = (low, high) if self._sign > 0 else (-high, -low)
        self._rule = CurveStopping(horizon, model=CurveModel(bounds=own), **options)
        self._curves: dict[str, list[float]] = {}
        self._best: float | None = None

    def assess_trial(self, trial_job_id: str, trial_history: list[Any]) -> AssessResult:
        curve = [self._sign * extract_scalar_reward(result) for result in trial_history]
        # Results that come in disorder are shown once there is no gap: several at a time.
        seen = len(self._curves.get(trial_job_id, []))
        self._curves[trial_job_id] = curve
        stop = self._rule.should_stop(curve, self._best, seen=seen)
        return AssessResult.Bad if stop else AssessResult.Good

    def trial_end(self, trial_job_id: str, success: bool) -> None:
        curve = self._curves.pop(trial_job_id, None)
        if success and curve:
            self._best = curve[-1] if self._best is None else max(self._best, curve[-1])
