"""Train one child under a budget: what every host's objective calls."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from torch import nn

from lightning_modules.child import ChildClassifier
from lightning_modules.data import DataError, ImageDataModule
from lightning_modules.inheritance import (
    ARCHITECTURE_FILE,
    Parent,
    digest,
    epochs_of,
    inherit_from,
)
from lightning_modules.isolation import isolated, seed_everything, seeded
from nas_plugins.architecture import Architecture, Choice
from nas_plugins.budget import Budget
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.cost import Cost, cost_of
from nas_plugins.estimators.inheritance import Inherited
from nas_plugins.rebuild import read_tensors
from nas_plugins.space import SearchSpace, require_space

__all__ = [
    "ChildResult",
    "KeepLastEpoch",
    "child_cost",
    "options_of_data",
    "require_own",
    "train_child",
]

TRAINING_PREFIX = "train/"


@dataclass(frozen=True)
class ChildResult:
    """What a training gave.

    Attributes:
        score: Validation accuracy after the last epoch, in [0, 1].
        metrics: All that was logged in the last epoch, name to value.
        curve: Validation accuracy after each epoch.
        checkpoint: File of the last epoch, ``None`` without ``directory``.
        seconds: Wall time of this call.
        inherited: With ``inherit``: the ``checkpoint`` whose weights the training began with
            and the ``share`` of parameters that it gave; ``None`` where there was no parent.
        epochs_saved: Epochs of the budget that were not trained here, because a checkpoint of
            an earlier call had them.
    """

    score: float
    metrics: dict[str, float]
    curve: tuple[float, ...]
    checkpoint: Path | None
    seconds: float
    inherited: dict[str, Any] | None = None
    epochs_saved: int = 0


def train_child(
    space: SearchSpace,
    architecture: Mapping[str, Choice],
    data: ImageDataModule,
    *,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    seed: int = 0,
    callbacks: Iterable[pl.Callback] = (),
    directory: str | Path | None = None,
    progress: bool = False,
    accelerator: str = "auto",
    test: bool = False,
    inherit: Parent | None = None,
    trainer_options: Mapping[str, Any] | None = None,
    **module_options: Any,
) -> ChildResult:
    """Build an architecture's child, train it, and say how good it is.

    On the CPU the same arguments give the same score, bit for bit. The global random
    generators are left as they were. Several threads may train at once; then networks with
    dropout or drop path are no longer reproducible, since those draw from torch's global
    generator, which threads share.

    Options of :class:`ChildClassifier` come from the data's ``training_options``, then from
    ``module_options``, then from the architecture, the last having the last word.
    Decisions ``train/<option>`` of a joint space override ``module_options``:
    ``train/learning_rate``, ``train/weight_decay``, ``train/schedule``, ``train/loss``,
    ``train/initialisation``, ``train/batch_size`` and every other option of
    :class:`ChildClassifier`.

    With a ``directory``, each training keeps its last epoch in
    ``<directory>/<id>/epochs_<budget.epochs>.ckpt``, the id standing for all but the
    epochs. A call that was cut off resumes at the epoch after; one that was finished
    returns at once; one with more epochs than before continues the longest shorter one,
    under the longer schedule from there on. That equals an unbroken training exactly when
    the learning rate does not depend on the number of epochs: ``schedule="constant"`` and
    no drop path, or a fixed ``schedule_epochs``.

    With ``inherit`` the training begins with the weights of a parent wherever key and shape
    agree: of the child's own path in a supernet, or of another child. A checkpoint that is
    named is part of the id, by the weights taken from it; a function that chooses one is part
    of it by its name alone. It is asked when a training begins, and not when it goes on. The
    scores of children that inherited are comparable among themselves, not with those that
    started anew.

    Args:
        space: Where the architecture is from. The data's ``in_channels`` and
            ``num_classes`` override its options where the network has them.
        architecture: A member of the space.
        data: Not changed; shares its images with a copy.
        budget: Epochs, share of data, width, cells.
        seed: Of initial weights, order, augmentation and dropout.
        callbacks: Lightning callbacks of the caller, such as a pruner.
        directory: Where checkpoints are kept; may be shared by all trainings of a search.
        progress: Whether Lightning shows its bar and its advice.
        accelerator: ``auto``, ``cpu``, ``gpu`` …
        test: Whether to measure ``test_acc`` after training; not for choosing by.
        inherit: Checkpoint of a :class:`~lightning_modules.SupernetClassifier` or
            :class:`ChildClassifier`; or a function from the architecture to one or to
            ``None``, such as :class:`~lightning_modules.inheritance.NearestChild`.
        trainer_options: Further arguments of ``pytorch_lightning.Trainer``: ``logger``,
            ``devices``, ``precision``, ``gradient_clip_val`` (5 by default) …. Under DDP set
            ``find_unused_parameters``: what leads to a ``none`` has no gradient.
        module_options: Of :class:`ChildClassifier`.

    Raises:
        ArchitectureError: The architecture is not the space's.
        DataError: The network cannot take these images, or this is no ImageDataModule.
        ValueError: ``trainer_options`` has what ``callbacks`` or ``budget`` say.
        CheckpointError: A checkpoint is cut short or damaged, or has nothing to inherit.
    """
    started = time.perf_counter()
    require_space(space)
    trainer_options = dict(trainer_options or {})
    _require_scored(trainer_options)
    own_arguments = {"callbacks": "callbacks=...", "max_epochs": "budget=Budget(epochs=...)"}
    require_own(data, trainer_options, "train_child", own_arguments)
    architecture = space.validate(architecture)
    options = {**data.training_options, **module_options, **_training_decisions(architecture)}
    options.setdefault("input_shape", data.image_shape)
    batch_size = options.pop("batch_size", None)
    data = data.prepared_for(
        seed=seed, batch_size=batch_size, data_fraction=budget.data_fraction * data.data_fraction
    )
    network_options = {
        **options_of_data(space, data),
        **budget.network_options(space.options),
        **options.pop("network_options", {}),
    }
    record = _Record()
    heritage = _Heritage(inherit, space, architecture)
    with isolated(quiet=not progress):
        with seeded(seed):
            child = ChildClassifier(space, architecture, network_options=network_options, **options)
        heritage.take_named(child.network)
        checkpoint = start = None
        if directory is not None:
            identity = _identity(
                space.network, child, data, budget, seed, trainer_options, heritage.fact
            )
            home = Path(directory) / identity
            checkpoint = home / f"epochs_{budget.epochs}.ckpt"
            start = _newest(home, budget.epochs)
        if start is None:
            heritage.take_chosen(child.network)
        own = [*callbacks, _Reseed(seed), record, heritage]
        if checkpoint is not None:
            own.append(KeepLastEpoch(checkpoint, architecture))
        trainer = pl.Trainer(
            **{
                "max_epochs": budget.epochs,
                "accelerator": accelerator,
                "devices": 1,
                "callbacks": own,
                "enable_checkpointing": any(isinstance(c, Checkpoint) for c in own),
                "enable_model_summary": progress,
                "enable_progress_bar": progress,
                "gradient_clip_val": 5.0,
                "log_every_n_steps": 1,
                "logger": False,
                "num_sanity_val_steps": 0,
                **trainer_options,
            }
        )
        trainer.fit(child, datamodule=data, ckpt_path=start)
        metrics = dict(record.epochs[-1]) if record.epochs else {}
        if "val_acc" not in metrics:
            raise ValueError(
                f"the training ended before an epoch was validated, with trainer_options "
                f"{trainer_options}; expected one whole epoch at least, which the score is of"
            )
        if test:
            (tested,) = trainer.test(child, datamodule=data, verbose=False)
            metrics.update(tested)
    return ChildResult(
        score=metrics["val_acc"],
        metrics=metrics,
        curve=tuple(epoch["val_acc"] for epoch in record.epochs),
        checkpoint=checkpoint,
        seconds=time.perf_counter() - started,
        inherited=heritage.taken,
        epochs_saved=record.num_loaded,
    )


def require_own(
    data: Any, trainer_options: Mapping[str, Any], function: str, own: Mapping[str, str]
) -> None:
    """Refuse other data modules, and options of the Trainer that are arguments of a function.

    Args:
        data: What was given as the data.
        trainer_options: What was given for the Trainer.
        function: Name of who asks.
        own: Option of the Trainer to how the function has it given.

    Raises:
        DataError: Not an ImageDataModule.
        ValueError: Options that the function has as arguments.
    """
    if not isinstance(data, ImageDataModule):
        raise DataError(
            f"data is a {type(data).__name__}; expected an ImageDataModule: derive yours from it, "
            "or give its datasets to DatasetDataModule(train, val, test)"
        )
    for name, argument in own.items():
        if name in trainer_options:
            raise ValueError(f"trainer_options has {name!r}, which is {function}'s: {argument}")


def _require_scored(trainer_options: Mapping[str, Any]) -> None:
    """Refuse what leaves an epoch without its score."""
    every, share = (
        trainer_options.get(name, 1) for name in ("check_val_every_n_epoch", "limit_val_batches")
    )
    if every != 1 or not share:
        raise ValueError(
            f"trainer_options has check_val_every_n_epoch={every!r} and limit_val_batches="
            f"{share!r}; expected validation in every epoch, which the score and its curve are"
        )


class _Reseed(pl.Callback):
    """Dropout as a function of seed and epoch, so that a resumed epoch draws the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        key = (self.seed, trainer.current_epoch, trainer.global_rank)
        seed_everything(int(np.random.SeedSequence(key).generate_state(1)[0]))


class _Record(pl.Callback):
    """Metrics of every epoch; kept in the checkpoint."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.num_loaded = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append({name: float(v) for name, v in trainer.callback_metrics.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
        self.num_loaded = len(self.epochs)


class _Heritage(pl.Callback):
    """What the training began with; kept in the checkpoint."""

    def __init__(
        self, parent: Parent | None, space: SearchSpace, architecture: Architecture
    ) -> None:
        self.parent = parent
        self.space = space
        self.architecture = architecture
        self.taken: dict[str, Any] | None = None
        self.fact: str | None = None  # for the identity

    def take_named(self, network: nn.Module) -> None:
        """Copy from a checkpoint that is always the same."""
        if isinstance(self.parent, (str, Path)):
            found = self._take(self.parent, network)
            self.fact = digest(network, found.copied)
        elif self.parent is not None:
            self.fact = getattr(self.parent, "__qualname__", type(self.parent).__qualname__)

    def take_chosen(self, network: nn.Module) -> None:
        """Copy from the checkpoint that a function chooses, if it does."""
        if self.parent is None or isinstance(self.parent, (str, Path)):
            return
        chosen = self.parent(self.architecture)
        if chosen is not None:
            self._take(chosen, network)

    def _take(self, checkpoint: str | Path, network: nn.Module) -> Inherited:
        found = inherit_from(checkpoint, network, self.space, self.architecture)
        self.taken = {"checkpoint": str(checkpoint), "share": found.share}
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.taken = state_dict["taken"]


class KeepLastEpoch(Checkpoint):
    """The last epoch in one file, replaced in one step: a kill leaves the old or the new.

    Args:
        path: Of the checkpoint.
        architecture: Written beside it if given.
    """

    def __init__(self, path: Path, architecture: Architecture | None = None) -> None:
        self.path = path
        self.architecture = architecture

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A name of its own keeps two that train the same child from mixing their bytes.
        partial = self.path.with_suffix(f".{uuid.uuid4().hex}.partial")
        trainer.save_checkpoint(partial)
        if not trainer.is_global_zero:
            return
        partial.replace(self.path)
        beside = self.path.with_name(ARCHITECTURE_FILE)
        if self.architecture is not None and not beside.exists():
            # Others who look for a parent may be reading.
            partial.write_text(self.architecture.to_json() + "\n", encoding="utf-8")
            partial.replace(beside)


def _newest(home: Path, epochs: int) -> Path | None:
    """The file to go on from: the training's own, else the longest shorter one's."""
    found = {number: path for number, path in epochs_of(home).items() if number <= epochs}
    if not found:
        return None
    start = found[max(found)]
    read_tensors(start)  # raises for a damaged file, and proves that it holds no code
    return start


def _training_decisions(architecture: Architecture) -> dict[str, Any]:
    chosen = {
        label.removeprefix(TRAINING_PREFIX): choice
        for label, choice in architecture.items()
        if label.startswith(TRAINING_PREFIX)
    }
    known = {*inspect.signature(ChildClassifier.__init__).parameters, "batch_size"}
    known -= {"self", "network", "architecture", "network_options", "num_classes", "metrics"}
    for label in sorted(architecture.keys() & known):
        warnings.warn(
            f"decision {label!r} is for the network alone; were it meant for the training, its "
            f"label would be {TRAINING_PREFIX + label!r}",
            stacklevel=3,
        )
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise UnsupportedSpaceError(
            f"decision {TRAINING_PREFIX + unknown[0]!r} is no option of training; expected "
            f"{TRAINING_PREFIX!r} and one of {sorted(known)}"
        )
    return chosen


def child_cost(
    space: SearchSpace, data: ImageDataModule, architecture: Mapping[str, Choice]
) -> Cost:
    """What an architecture's child for these images costs, counted."""
    return cost_of(space, architecture, data.image_shape, **options_of_data(space, data))


def options_of_data(space: SearchSpace, data: ImageDataModule) -> dict[str, int]:
    """``in_channels`` and ``num_classes``, as far as the network takes them."""
    if space.network is None:  # building says so
        return {}
    known = {*inspect.signature(space.network).parameters, *space.options}
    facts = {"in_channels": data.in_channels, "num_classes": data.num_classes}
    return {name: value for name, value in facts.items() if name in known}


def _identity(
    network: Callable[..., Any] | None,
    child: ChildClassifier,
    data: ImageDataModule,
    budget: Budget,
    seed: int,
    trainer_options: Mapping[str, Any],
    heritage: str | None,
) -> str:
    """Twelve hexadecimal digits for all that shapes a training but its length."""
    try:
        source = inspect.getsource(network) if network is not None else None
    except (OSError, TypeError):  # of a callable object, or typed in
        source = None
    facts = {
        "child": dict(child.hparams),
        # A network of one's own may change under the same name.
        "weights": {name: list(v.shape) for name, v in child.network.state_dict().items()},
        "layers": _described(child.network),
        "source": source,
        "data": data.describe(),
        "budget": {k: v for k, v in budget.to_dict().items() if k != "epochs"},
        "seed": seed,
        "trainer": {k: _described(v) for k, v in trainer_options.items() if k != "logger"},
    }
    if heritage is not None:
        facts["inherit"] = heritage
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _described(option: Any) -> str:
    """An option's text without addresses in memory, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(option))
