"""Train one supernet: what comes before the children of a search with shared weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_modules.data import ImageDataModule
from lightning_modules.isolation import isolated, seeded
from lightning_modules.search_data import SearchDataModule
from lightning_modules.supernet import SupernetClassifier
from lightning_modules.training import KeepLastEpoch, options_of_data
from nas_plugins.rebuild import read_tensors
from nas_plugins.space import SearchSpace

__all__ = ["train_supernet"]


def train_supernet(
    space: SearchSpace,
    mutator: str,
    data: ImageDataModule,
    *,
    epochs: int,
    seed: int = 0,
    callbacks: Iterable[pl.Callback] = (),
    checkpoint: str | Path | None = None,
    progress: bool = False,
    accelerator: str = "auto",
    trainer_options: Mapping[str, Any] | None = None,
    **module_options: Any,
) -> SupernetClassifier:
    """Train a space's supernet while a mutator searches it.

    A method that learns from batches of the architecture's own gets half of the training
    images for them. The global random generators are left as they were.

    Args:
        space: What is searched. The data's ``in_channels`` and ``num_classes`` override its
            options where the network has them.
        mutator: Name of the method.
        data: Not changed; shares its images with a copy.
        epochs: In all.
        seed: Of weights, order, augmentation, the split and the method.
        callbacks: Lightning callbacks of the caller.
        checkpoint: File that holds the last epoch; a training that was cut off goes on from
            it, one that was finished is loaded.
        progress: Whether Lightning shows its bar and its advice.
        accelerator: ``auto``, ``cpu``, ``gpu`` …
        trainer_options: Further arguments of ``pytorch_lightning.Trainer``.
        module_options: Of :class:`SupernetClassifier`, such as ``mutator_options``.

    Returns:
        The module, which ranks architectures and hands out children.

    Raises:
        MutatorNameError: No such method, or it has no such option.
        UnsupportedSpaceError: The method does not apply to this space.
        CheckpointError: The checkpoint is cut short or damaged.
    """
    data = data.prepared_for(seed=seed)
    options = {**options_of_data(space, data), **module_options.pop("network_options", {})}
    own, start = [*callbacks], None
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        own.append(KeepLastEpoch(checkpoint))
        if checkpoint.is_file():
            read_tensors(checkpoint)  # raises for a damaged file, and proves that it holds no code
            start = checkpoint
    with isolated(quiet=not progress):
        with seeded(seed):
            module = SupernetClassifier(
                space, mutator, network_options=options, seed=seed, **module_options
            )
        splits = module.search.mutator.needs_validation_data
        trainer = pl.Trainer(
            **{
                "max_epochs": epochs,
                "accelerator": accelerator,
                "devices": 1,
                "callbacks": own,
                "enable_checkpointing": checkpoint is not None,
                "enable_model_summary": progress,
                "enable_progress_bar": progress,
                "logger": False,
                "num_sanity_val_steps": 0,
                **(trainer_options or {}),
            }
        )
        trainer.fit(module, SearchDataModule(data, seed=seed) if splits else data, ckpt_path=start)
    return module
