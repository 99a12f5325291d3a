"""A search that kills its own process; run in a process of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytorch_lightning as pl
import tiny_search
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_modules import DigitsDataModule, SearchDataModule, SupernetClassifier

EPOCHS = 3
BATCHES = 5
"""In an epoch; the last one is smaller."""

HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")


class Killer(pl.Callback):
    """SIGKILL in one of the hooks of batch ``at``, counted over all epochs."""

    def __init__(self, at, hook):
        setattr(self, hook, self._die)
        self.at = at

    def _die(self, trainer, *_):
        if trainer.fit_loop.total_batch_idx == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def search(directory, *, mutator="darts", every=1, kill=None):
    """Train until the end, or the kill; from the last checkpoint, if there is one."""
    torch.set_num_threads(1)
    directory = Path(directory)
    pl.seed_everything(1, verbose=False)
    data = DigitsDataModule(12, data_fraction=0.1, crop_padding=1, flip=True)
    module = SupernetClassifier(
        tiny_search.tiny_space(dropout=0.3), mutator, mutator_options={"arch_lr": 0.1}
    )
    keeper = ModelCheckpoint(directory, "{step}", every_n_train_steps=every, save_top_k=-1)
    killer = [] if kill is None else [Killer(*kill)]
    trainer = tiny_search.trainer(
        *killer, keeper, max_epochs=EPOCHS, enable_checkpointing=True, limit_val_batches=2
    )
    found = sorted(directory.glob("step=*.ckpt"), key=lambda path: int(path.stem[5:]))
    trainer.fit(module, SearchDataModule(data), ckpt_path=found[-1] if found else None)
    assert trainer.global_step == EPOCHS * BATCHES
    trainer.save_checkpoint(directory / "end.ckpt")
