"""When a training is not worth its remaining epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_plugins.estimators.learning_curve import CurveModel

__all__ = ["CurveStopping"]


class CurveStopping:
    """Stop when it is improbable that a training will end better than the best so far.

    Domhan, Springenberg & Hutter 2015, IJCAI, section 4.1: a training ends when the
    probability that its last epoch exceeds the incumbent is below 5 %. One that exceeded it
    already goes on.

    Args:
        horizon: Epochs of a full training.
        threshold: Probability below which a training ends.
        min_epochs: Epochs before the first decision, at least three. Default: a quarter of the
            horizon, at least four: from fewer, curves that start slowly are misjudged, and of the
            real trainings that would have been the best so far every fourth was stopped.
        interval: Epochs between decisions. Each takes about a second of one core.
        model: How curves are extrapolated; its bounds have to hold all values.

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        horizon: int,
        *,
        threshold: float = 0.05,
        min_epochs: int | None = None,
        interval: int = 1,
        model: CurveModel | None = None,
    ) -> None:
        if min_epochs is None:
            min_epochs = max(4, horizon // 4)
        if not 3 <= min_epochs < horizon:
            raise ValueError(
                f"min_epochs is {min_epochs} and horizon {horizon}; expected "
                "3 <= min_epochs < horizon"
            )
        if not 0 < threshold < 1 or interval < 1:
            raise ValueError(
                f"threshold is {threshold} and interval {interval}; expected a threshold in "
                "(0, 1) and an interval of at least 1"
            )
        self.horizon = horizon
        self.threshold = threshold
        self.min_epochs = min_epochs
        self.interval = interval
        self.model = CurveModel() if model is None else model

    def should_stop(
        self, values: Sequence[float], incumbent: float | None, *, seen: int | None = None
    ) -> bool:
        """Whether the training that gave these values should end.

        Args:
            values: After each epoch so far, higher is better; one that is not finite ends the
                training at once.
            incumbent: The best full training so far, ``None`` if there is none.
            seen: How many there were when this was asked before, where not every epoch asks;
                default: one less. A decision that was due in between is made now.

        Raises:
            ScoreError: A value is outside the model's bounds.
        """
        if not all(math.isfinite(value) for value in values):
            return True
        seen = len(values) - 1 if seen is None else seen
        if incumbent is None or self._num_due(len(values)) == self._num_due(seen):
            return False
        if len(values) >= self.horizon or max(values) > incumbent:
            return False
        belief = self.model.extrapolate(values, self.horizon)
        return belief.probability_above(incumbent) < self.threshold

    def _num_due(self, epochs: int) -> int:
        """Decisions up to an epoch."""
        return max(0, (epochs - self.min_epochs) // self.interval + 1)
