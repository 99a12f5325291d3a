"""Reports a training's progress to NNI, whose assessors stop what does not promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from nas_plugins.errors import MissingExtraError

try:
    import nni
except ModuleNotFoundError as _error:
    if _error.name != "nni":
        raise
    raise MissingExtraError("nni", "nni") from _error

from nas_plugins.nni.metric import final_metric

__all__ = ["NNIReportCallback"]


class NNIReportCallback(pl.Callback):
    """Reports a metric as NNI's intermediate result after each validation of a fit.

    NNI draws these curves and hands them to its assessors; one that says stop kills the
    trial's process, so there is nothing to raise here. Under DDP the first process reports.

    Args:
        monitor: A logged metric.
        architecture: What is trained. Reported with the metric if given, so that a trial that
            an assessor stops is known by what it was; else the number alone is reported.

    Raises:
        ValueError: At validation, when nothing logged ``monitor``.
    """

    def __init__(
        self, monitor: str = "val_acc", *, architecture: Mapping[str, Any] | None = None
    ) -> None:
        self.monitor = monitor
        self.architecture = architecture

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn is not TrainerFn.FITTING:
            return
        if not trainer.is_global_zero:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(
                f"monitor is {self.monitor!r}, which is not logged; logged are "
                f"{sorted(trainer.callback_metrics)}"
            )
        value = float(trainer.callback_metrics[self.monitor])
        if not math.isfinite(value):  # NaN is no JSON, and nothing to draw
            return
        nni.report_intermediate_result(
            value if self.architecture is None else final_metric(self.architecture, value)
        )
