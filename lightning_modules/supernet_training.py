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
from lightning_modules.training import KeepLastEpoch, options_of_data, require_own
from nas_plugins.rebuild import CheckpointError, read_tensors
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
            it, one that was finished is loaded. It has to be of the same options, but for
            the number of epochs: the learning rate then follows the new number from there.
        progress: Whether Lightning shows its bar and its advice.
        accelerator: ``auto``, ``cpu``, ``gpu`` …
        trainer_options: Further arguments of ``pytorch_lightning.Trainer``; not its callbacks.
        module_options: Of :class:`SupernetClassifier`, such as ``mutator_options``.

    Returns:
        The module, which ranks architectures and hands out children.

    Raises:
        MutatorNameError: No such method, or it has no such option.
        UnsupportedSpaceError: The method does not apply to this space.
        CheckpointError: The checkpoint is cut short or damaged, or of other options.
        DataError: This is no ImageDataModule.
        ValueError: ``trainer_options`` has what ``callbacks`` or ``epochs`` say.
    """
    trainer_options = dict(trainer_options or {})
    own_arguments = {"callbacks": "callbacks=...", "max_epochs": "epochs=..."}
    require_own(data, trainer_options, "train_supernet", own_arguments)
    data = data.prepared_for(seed=seed)
    options = {**options_of_data(space, data), **module_options.pop("network_options", {})}
    own, start = [*callbacks], None
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        own.append(KeepLastEpoch(checkpoint))
        if checkpoint.is_file():
            start = checkpoint
    with isolated(quiet=not progress):
        with seeded(seed):
            module = SupernetClassifier(
                space, mutator, network_options=options, seed=seed, **module_options
            )
        if start is not None:
            _require_same(module, start)
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
                **trainer_options,
            }
        )
        trainer.fit(module, SearchDataModule(data, seed=seed) if splits else data, ckpt_path=start)
    return module


def _require_same(module: SupernetClassifier, checkpoint: Path) -> None:
    """Refuse to go on from another search; reading the file also proves that it holds no code."""
    saved = read_tensors(checkpoint).get("hyper_parameters", {})
    for name, asked in module.hparams.items():
        if name not in saved or saved[name] != asked:
            raise CheckpointError(
                f"{checkpoint} is of a search with {name}={saved.get(name)!r}; asked for was "
                f"{name}={asked!r}. Give another checkpoint, or the same options"
            )
