"""Reports a training's progress to NNI, whose assessors stop what does not promise."""

from __future__ import annotations

import math

import pytorch_lightning as pl

from nas_plugins.errors import MissingExtraError

try:
    import nni
except ModuleNotFoundError as _error:
    if _error.name != "nni":
        raise
    raise MissingExtraError("nni", "nni") from _error

__all__ = ["NNIReportCallback"]


class NNIReportCallback(pl.Callback):
    """Reports a metric as NNI's intermediate result after each validation.

    NNI draws these curves and hands them to its assessors; one that says stop kills the
    trial's process, so there is nothing to raise here. Under DDP the first process reports.

    Args:
        monitor: A logged metric.

    Raises:
        ValueError: At validation, when nothing logged ``monitor``.
    """

    def __init__(self, monitor: str = "val_acc") -> None:
        self.monitor = monitor

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(
                f"monitor is {self.monitor!r}, which is not logged; logged are "
                f"{sorted(trainer.callback_metrics)}"
            )
        value = float(trainer.callback_metrics[self.monitor])
        if math.isfinite(value):  # NaN is no JSON, and nothing to draw
            nni.report_intermediate_result(value)
