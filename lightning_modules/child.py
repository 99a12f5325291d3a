"""The child of a search, trained as a classifier of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.data import ImageDataModule
from lightning_modules.recipe import (
    INITIALISATIONS,
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    Schedule,
    initialise,
    pick,
)
from nas_plugins.architecture import Architecture, Choice
from nas_plugins.choices import build
from nas_plugins.export import export
from nas_plugins.operations import DropPath
from nas_plugins.rebuild import CheckpointError, read_tensors, reference, resolve
from nas_plugins.space import SearchSpace

__all__ = ["ChildClassifier"]


class ChildClassifier(pl.LightningModule):
    """Builds one architecture's child and trains it; defaults are those of DARTS.

    Liu et al. 2019, arXiv:1806.09055, section 3.1.2 and appendix A.2.
    Deviations: the schedule steps after every batch instead of every epoch, which is the
    same over 600 epochs and not over 3. Gradients are clipped by the Trainer
    (``gradient_clip_val=5``, which :func:`~lightning_modules.train_child` sets).

    Logs ``train_loss``, ``val_loss`` and ``val_acc``, or ``test_loss`` and ``test_acc``.

    A checkpoint holds the architecture, the network's name and options, so that
    ``ChildClassifier.load_from_checkpoint(path)`` needs no class of the search. A network
    that has no importable name is given again: ``load_from_checkpoint(path, network=...)``.

    Args:
        network: The space, or its network, or the network's name ``module:qualname``.
        architecture: As a mapping or as JSON. Labels that the network does not ask for
            (``train/...``) do no harm.
        network_options: Override the space's own options.
        num_classes: Of the metric; default the network option of that name, else 10.
        optimizer: ``sgd`` (momentum 0.9) or ``adamw``.
        learning_rate: At the start, or at the peak of ``onecycle``.
        weight_decay: L2 penalty (``sgd``) or decoupled decay (``adamw``).
        schedule: ``cosine``, ``step``, ``onecycle`` or ``constant``.
        schedule_epochs: Epochs over which schedule and drop path run; default all of this
            training's. Fix it, and a training that continues a shorter one equals one that
            was never broken.
        loss: ``cross_entropy``, ``focal``, or ``label_smoothing``: cross entropy under the
            name that joint spaces give it where they search the amount.
        label_smoothing: Share of the target spread over all classes (0.1 is usual).
        initialisation: ``default``, ``kaiming``, ``xavier`` or ``orthogonal``.
        drop_path_probability: Approached linearly over the epochs by every
            :class:`~nas_plugins.operations.DropPath` (DARTS evaluates with 0.2).
        auxiliary_weight: Of the second output's loss, for networks that return
            ``(logits, auxiliary logits)`` in training (DARTS: 0.4).
        input_shape: ``(channels, height, width)`` of the images, kept for :meth:`export`;
            default: that of the data module it is first trained on.
        metrics: Further metrics, logged as ``val_<name>`` and ``test_<name>``. Not part of
            a checkpoint.

    Raises:
        ArchitectureError: The architecture is not the network's.
        ValueError: An option has no such value.
    """

    def __init__(
        self,
        network: SearchSpace | Callable[..., nn.Module] | str,
        architecture: Mapping[str, Choice] | str,
        *,
        network_options: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        optimizer: str = "sgd",
        learning_rate: float = 0.025,
        weight_decay: float = 3e-4,
        schedule: str = "cosine",
        schedule_epochs: int | None = None,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        initialisation: str = "default",
        drop_path_probability: float = 0.0,
        auxiliary_weight: float = 0.4,
        input_shape: Sequence[int] | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__()
        for kind, name, table in (
            ("optimizer", optimizer, OPTIMIZERS),
            ("schedule", schedule, SCHEDULES),
            ("loss", loss, LOSSES),
            ("initialisation", initialisation, INITIALISATIONS),
        ):
            pick(kind, name, table)
        options = dict(network_options or {})
        self.architecture = _architecture(architecture)
        if isinstance(network, SearchSpace):
            options = {**network.options, **options}
            self.network = network.build(self.architecture, **options)
            assert network.network is not None
            self._make = network.network
        else:
            self._make = resolve(network) if isinstance(network, str) else network
            self.network = build(self._make, self.architecture, options)
        initialise(self.network, initialisation)
        num_classes = num_classes or int(options.get("num_classes", 10))
        self.metrics = nn.ModuleDict(
            {
                f"{stage}_metrics": nn.ModuleDict(
                    {
                        "acc": MulticlassAccuracy(num_classes, average="micro"),
                        **{name: metric.clone() for name, metric in (metrics or {}).items()},
                    }
                )
                for stage in ("val", "test")
            }
        )
        self.save_hyperparameters(
            {
                "network": reference(self._make),
                "architecture": self.architecture.to_json(),
                "network_options": options,
                "num_classes": num_classes,
                "optimizer": optimizer,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "schedule": schedule,
                "schedule_epochs": schedule_epochs,
                "loss": loss,
                "label_smoothing": label_smoothing,
                "initialisation": initialisation,
                "drop_path_probability": drop_path_probability,
                "auxiliary_weight": auxiliary_weight,
                "input_shape": None if input_shape is None else tuple(input_shape),
            }
        )

    def forward(self, x: Tensor) -> Any:
        return self.network(x)

    # -- steps --------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        output = self.network(images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        loss = self._loss(logits, labels)
        for other in auxiliary:
            if other is not None:
                loss = loss + self.hparams["auxiliary_weight"] * self._loss(other, labels)
        self.log(
            "train_loss",
            loss.detach(),
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=len(labels),
        )
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", *batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", *batch)

    def _evaluate(self, stage: str, images: Tensor, labels: Tensor) -> None:
        output = self.network(images)
        logits = output[0] if isinstance(output, tuple) else output
        loss = nn.functional.cross_entropy(logits, labels)
        self.log(f"{stage}_loss", loss, sync_dist=True, batch_size=len(labels))
        for name, metric in self.metrics[f"{stage}_metrics"].items():  # type: ignore[operator]
            metric.update(logits, labels)
            self.log(f"{stage}_{name}", metric, batch_size=len(labels))

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return LOSSES[self.hparams["loss"]](logits, labels, self.hparams["label_smoothing"])

    # -- optimisation -------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        hparams = self.hparams
        optimizer = OPTIMIZERS[hparams["optimizer"]](
            self.parameters(), hparams["learning_rate"], hparams["weight_decay"]
        )
        steps = float(self.trainer.estimated_stepping_batches)
        if hparams["schedule_epochs"] is not None:
            steps = float(hparams["schedule_epochs"] * self._updates)
        schedule = Schedule(optimizer, hparams["schedule"], steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_epoch_start(self) -> None:
        epochs = self.hparams["schedule_epochs"]
        if epochs is None:  # the Trainer may count steps alone
            epochs = max(1, self.trainer.estimated_stepping_batches / self._updates)
        progress = min(1.0, self.current_epoch / epochs)
        for module in self.network.modules():
            if isinstance(module, DropPath):
                module.probability = self.hparams["drop_path_probability"] * progress

    @property
    def _updates(self) -> float:
        """Of the weights, in one epoch."""
        batches = self.trainer.num_training_batches
        if math.isinf(batches):
            return batches
        return max(1, math.ceil(batches / self.trainer.accumulate_grad_batches))

    def on_fit_start(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ImageDataModule):
            data.check(self.network)
            if self.hparams["input_shape"] is None:
                self.hparams["input_shape"] = data.image_shape

    # -- checkpoints --------------------------------------------------------------------

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = None, **overrides: Any
    ) -> ChildClassifier:
        """Rebuild the child and load its weights; nothing in the file is unpickled.

        Args:
            checkpoint_path: File that a Trainer wrote.
            map_location: Device; default the CPU.
            overrides: Constructor arguments in place of the saved ones: ``network=`` where
                the saved network cannot be imported.

        Raises:
            CheckpointError: The file is cut short or damaged, is no checkpoint of this
                class, or its network cannot be imported.
        """
        checkpoint = read_tensors(checkpoint_path, map_location=map_location or "cpu")
        saved = dict(checkpoint.get("hyper_parameters", {}))
        if "architecture" not in saved:
            raise CheckpointError(
                f"{checkpoint_path} holds no architecture; expected a checkpoint of ChildClassifier"
            )
        if saved.get("network") is None and "network" not in overrides:
            raise CheckpointError(
                f"{checkpoint_path} names no network, because the one it was trained with cannot "
                "be imported (it was defined in a script or a function): give it again, "
                "load_from_checkpoint(path, network=...)"
            )
        with torch.random.fork_rng(devices=[]):
            child = cls(**{**saved, **overrides})
        child.load_state_dict(checkpoint["state_dict"])
        return child.to(map_location or "cpu")

    def export(self, directory: str | Path, **options: Any) -> list[Path]:
        """Write the child as an ordinary network: see :func:`nas_plugins.export.export`.

        Args:
            directory: Created where absent.
            options: ``formats`` and ``input_shape`` of that function.
        """
        shape = options.pop("input_shape", self.hparams["input_shape"])
        return export(
            self._make,
            self.architecture,
            self.network,
            directory,
            input_shape=shape,
            **self.hparams["network_options"],
            **options,
        )


def _architecture(given: Mapping[str, Choice] | str) -> Architecture:
    if isinstance(given, str):
        return Architecture.from_json(given)
    return given if isinstance(given, Architecture) else Architecture(given)
