"""Ends a training that will probably not end better than the best so far."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from nas_plugins.estimators.curve_stopping import CurveStopping
from nas_plugins.estimators.learning_curve import CurveModel

__all__ = ["LearningCurveStopping"]


class LearningCurveStopping(pl.Callback):
    """Stops ``fit`` when the metric's curve, extrapolated, stays below the incumbent.

    For trainings under no tuner; Optuna has
    :class:`~nas_plugins.optuna.learning_curve.LearningCurvePruner`, NNI
    :class:`~nas_plugins.nni.assessor.LearningCurveAssessor`. The horizon is the Trainer's
    ``max_epochs``. The curve is in the checkpoint.

    Args:
        incumbent: The best value that a full training ended with.
        monitor: A metric logged at validation, higher is better, in [0, 1].
        options: ``threshold``, ``min_epochs``, ``interval`` of
            :class:`~nas_plugins.estimators.curve_stopping.CurveStopping`.

    Attributes:
        curve: The metric after each epoch.
        stopped: Whether this callback ended the training.

    Raises:
        ValueError: The Trainer has no ``max_epochs`` or does not validate after each epoch, or
            nothing logged ``monitor``.
        ScoreError: The metric is outside [0, 1].
    """

    def __init__(self, incumbent: float, monitor: str = "val_acc", **options: Any) -> None:
        self.incumbent = incumbent
        self.monitor = monitor
        self.curve: list[float] = []
        self.stopped = False
        self._options = options

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn is not TrainerFn.FITTING:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(
                f"nothing logged {self.monitor!r}; expected one of "
                f"{sorted(trainer.callback_metrics)} as monitor"
            )
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise ValueError(
                f"max_epochs is {trainer.max_epochs}; expected the length of a full training"
            )
        if trainer.check_val_every_n_epoch != 1:
            raise ValueError(
                f"check_val_every_n_epoch is {trainer.check_val_every_n_epoch}; expected 1, as the "
                "curve has a value for each epoch"
            )
        # Validation within an epoch is replaced by that at its end.
        value = float(trainer.callback_metrics[self.monitor])
        self.curve[trainer.current_epoch :] = [value]
        if not trainer.is_last_batch:
            return
        rule = CurveStopping(trainer.max_epochs, model=CurveModel(), **self._options)
        stop = rule.should_stop(self.curve, self.incumbent)
        self.stopped = bool(trainer.strategy.broadcast(stop))
        trainer.should_stop = trainer.should_stop or self.stopped

    def state_dict(self) -> dict[str, Any]:
        return {"curve": self.curve}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = list(state_dict["curve"])
