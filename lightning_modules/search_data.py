"""Data of a search: the training images in two parts, for weights and for the architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_modules.data import ImageDataModule, split
from lightning_modules.resumable import ResumableLoader

__all__ = ["SearchDataModule", "validation_of_search"]


class SearchDataModule(ImageDataModule):
    """Any :class:`ImageDataModule`, its training images split as a search needs them.

    Liu et al. 2019, section 3.1.1: half of the training images train the weights, the other
    half the architecture, both augmented alike; validation and test images stay unseen.
    Order and augmentation are functions of seed and batch number, so that a search which
    resumes in the middle of an epoch sees what the unbroken one would have seen.

    Args:
        data: Its images, normalisation, augmentation and batch size are used.
        architecture_fraction: Share of the training images for the architecture,
            stratified.
        seed: Of this split, the order and the augmentation; default: the data's.

    Raises:
        ValueError: The share is not in (0, 1).
    """

    def __init__(
        self,
        data: ImageDataModule,
        *,
        architecture_fraction: float = 0.5,
        seed: int | None = None,
    ) -> None:
        if not 0 < architecture_fraction < 1:
            raise ValueError(
                f"architecture_fraction is {architecture_fraction}; expected in (0, 1)"
            )
        super().__init__(
            data.batch_size,
            seed=data.seed if seed is None else seed,
            validation_fraction=data.validation_fraction,
            data_fraction=data.data_fraction,
            num_workers=data.num_workers,
        )
        self.augmentation = data.augmentation
        self.in_channels, self.num_classes = data.in_channels, data.num_classes
        self.mean, self.std = data.mean, data.std
        self.data = data
        self.architecture_fraction = architecture_fraction

    def load(self) -> dict[str, Dataset[Any]]:
        self.data.setup()
        parts = {name: self.data.part(name) for name in self.data._parts or ()}
        weights, architecture = split(parts["train"], self.architecture_fraction, self.seed)
        return {**parts, "train": weights, "architecture": architecture}

    def describe(self) -> dict[str, Any]:
        facts = {**super().describe(), "architecture_fraction": self.architecture_fraction}
        return {**facts, "data": self.data.describe()}

    def train_dataloader(self) -> DataLoader[Any]:
        return ResumableLoader.like(super().train_dataloader(), seed=self.training_seed)

    def architecture_dataloader(self) -> DataLoader[Any]:
        """Batches of the part that trains the architecture."""
        return self._training_loader(self.part("architecture"))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        trainer = self.trainer
        if trainer is None or not trainer.training or not self.augmentation:
            return batch
        images, labels = batch
        # The architecture's batches come with dataloader_idx 1.
        number = trainer.fit_loop.total_batch_idx + 1
        key = (self.training_seed, dataloader_idx, number, trainer.global_rank)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        return self.augmentation(images, generator, self._black(images)), labels


def validation_of_search(trainer: pl.Trainer, module: pl.LightningModule) -> Any:
    """Loader of the batches that a search learns by, beside those of its weights.

    That of ``architecture_dataloader`` of the data module or the module, else the Trainer's
    validation data, which may not be loaded yet; ``None`` where there is none.
    """
    for owner in (trainer.datamodule, module):  # type: ignore[attr-defined]
        hook: Any = getattr(owner, "architecture_dataloader", None)
        if hook is not None:
            return hook()
    if trainer.val_dataloaders is not None:
        return trainer.val_dataloaders
    source = trainer.fit_loop.epoch_loop.val_loop._data_source
    if source.instance is not None and source.is_defined():
        return source.dataloader()
    return None
