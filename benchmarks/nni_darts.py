"""NNI 3.0's own DARTS strategy on its own DARTS space, timed for comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import nni.nas.strategy  # noqa: F401 - before its one-shot part: the reverse is circular in 3.0
import pytorch_lightning as pl
import torch
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment import NasExperiment
from nni.nas.hub.pytorch import DARTS as Space
from nni.nas.oneshot.pytorch.strategy import DARTS
from torch.utils.data import TensorDataset

from benchmarks.stopwatch import Figures, Stopwatch


class Timing(pl.Callback):
    """What each batch's step takes."""

    def __init__(self) -> None:
        self.steps: list[Figures] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self._stopwatch = Stopwatch()

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps.append(self._stopwatch.read())


def timed_steps(network: Mapping[str, Any], steps: int) -> list[Figures]:
    """Of so many steps, each one on the architecture and one on the weights."""

    def loader() -> Any:
        num = network["batch"] * steps
        images = TensorDataset(torch.randn(num, 3, 32, 32), torch.randint(10, (num,)))
        return DataLoader(images, batch_size=network["batch"])

    timing = Timing()
    evaluator = Classification(
        learning_rate=0.025,
        weight_decay=3e-4,
        num_classes=10,
        train_dataloaders=loader(),
        val_dataloaders=loader(),
        max_epochs=1,
        accelerator="cpu",
        callbacks=[timing],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    space = Space(width=network["channels"], num_cells=network["num_cells"], dataset="cifar")
    experiment = NasExperiment(space, evaluator, DARTS(gradient_clip_val=5.0))
    with tempfile.TemporaryDirectory() as directory:
        experiment.config.experiment_working_directory = directory
        experiment.run()
        experiment.stop()
    return timing.steps
