"""The architecture where the curves are: drawn and as JSON, in the Trainer's logger."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from nas_plugins.architecture import Architecture
from nas_plugins.space import SearchSpace

__all__ = ["ArchitecturePicture"]


class ArchitecturePicture(pl.Callback):
    """Shows a child's drawing and JSON in TensorBoard when its training starts.

    With a :class:`~pytorch_lightning.loggers.TensorBoardLogger` the drawing is the image
    ``architecture`` and the JSON the text of that name. Other loggers get the JSON as a
    hyper-parameter; without a logger nothing happens.

    Args:
        space: Where the architecture is from.
        architecture: What is trained.
    """

    def __init__(self, space: SearchSpace, architecture: Architecture) -> None:
        self.space = space
        self.architecture = architecture

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from nas_plugins.drawing import log_drawing

        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                text = self.architecture.to_json(indent=2)
                logger.experiment.add_text("architecture", f"```json\n{text}\n```")
                log_drawing(logger, self.space, self.architecture)
            else:
                logger.log_hyperparams({"architecture": self.architecture.to_json()})
