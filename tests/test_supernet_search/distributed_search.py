"""The same search in one process and in two; run in a process of its own."""

from __future__ import annotations

import pytorch_lightning as pl
import tiny_search
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy

from lightning_modules import ResumableLoader
from lightning_modules.callbacks import ArchitectureSearch
from nas_plugins import mutators

GLOBAL_BATCH = 16


class Keep(pl.Callback):
    """What rank 0 has at the end, in a file."""

    def __init__(self, mutator, path):
        self.mutator, self.path = mutator, path

    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            found = self.mutator.probabilities()
            torch.save({"alphas": found, "weights": pl_module.state_dict()}, self.path)


class Rewarded(tiny_search.Classifier):
    def architecture_reward(self, batch):
        x, labels = batch
        return (self(x).argmax(1) == labels).double().mean()


def search(
    path, world_size, mutator, options, find_unused=True, dropout=0.0, kept=None, start=None
):
    """One epoch; with ``kept``, a folder for checkpoints, two epochs, from ``start`` on."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    supernet = tiny_search.tiny_space(norm=False).supernet()
    driver = mutators.create(mutator, supernet, seed=5, **options)
    strategy = "auto"
    if world_size > 1:
        strategy = DDPStrategy(
            process_group_backend="gloo",
            start_method="fork",
            find_unused_parameters=find_unused,
        )
    train, valid = tiny_search.loaders(GLOBAL_BATCH // world_size)
    trainer = tiny_search.trainer(
        ArchitectureSearch(driver, data=valid),
        Keep(driver, path),
        *([] if kept is None else [ModelCheckpoint(kept, every_n_train_steps=3, save_top_k=-1)]),
        devices=world_size,
        strategy=strategy,
        # Lightning reads a checkpoint of doubles before the module has them.
        precision="64-true" if kept is None else "32-true",
        limit_val_batches=0,
        max_epochs=1 if kept is None else 2,
        enable_checkpointing=kept is not None,
    )
    # Lightning would shuffle a plain loader when it splits it between processes.
    trainer.fit(Rewarded(supernet, dropout), ResumableLoader.like(train), ckpt_path=start)


def refused(path):
    """Write why a single path cannot be searched under plain DDP."""
    try:
        search(path, 2, "uniform", {}, find_unused=False)
    except Exception as error:
        path.write_text(str(error))
