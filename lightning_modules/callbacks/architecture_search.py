"""The callback that turns the training of any module with choices in it into a search."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, distributed

from lightning_modules import random_state
from lightning_modules.borrowed import BorrowedStep
from lightning_modules.callbacks.alpha_curves import draw_curves
from lightning_modules.resumable import BatchStream, ResumableLoader
from lightning_modules.search_data import validation_of_search
from nas_plugins.architecture import Architecture
from nas_plugins.errors import NasPluginsError
from nas_plugins.mutators.base import Evaluate, Mutator
from nas_plugins.mutators.derivation import RankingError
from nas_plugins.mutators.prior import prior_of

__all__ = ["ArchitectureSearch", "SearchSetupError", "choice_names"]


class SearchSetupError(NasPluginsError, ValueError):
    """This Trainer, or its data, cannot carry a search."""


class ArchitectureSearch(pl.Callback):
    """Searches while the Trainer trains: ``Trainer(callbacks=[ArchitectureSearch(mutator)])``.

    The module holds the mutator's supernet, anywhere in it, and is otherwise as ever.
    Before the first batch of every weight update the callback lets the mutator take its
    step on the architecture, with the module's own ``training_step`` as the loss, under the
    Trainer's precision, and then opens the gates for the weights. The Trainer's optimizers,
    schedulers, clipping and accumulation do not know of it; what ``training_step`` logs or
    counts in an architecture step is dropped. Batch norms are in training mode there and
    move their running statistics, as in the code published with DARTS.

    It works with every mutator, in float32, bf16, with accumulation and clipping, on one
    device or under DDP. Mutators of which a weight step runs only some candidates need
    ``DDPStrategy(find_unused_parameters=True)``; all processes take the same path, and step
    by the mean gradient of all. It refuses ``16-mixed``, whose loss scaling an architecture
    step goes without, sharded strategies, whose weights no single process has, and modules
    that optimise by hand.

    Checkpoints hold the mutator with its optimizer and generator, the place in the
    architecture's data and the global random generators. A training that is resumed, also
    in the middle of an epoch, goes on bit for bit on the CPU if its own data does: use
    :class:`~lightning_modules.resumable.ResumableLoader` or
    :class:`~lightning_modules.search_data.SearchDataModule`.

    Mutators that learn by reinforcement maximise the module's ``architecture_reward(batch)``
    (accuracy, say), if it has that method; else ``exp(-loss)``.

    Logs ``alpha_entropy`` in nats and ``search/<name>`` for what else the mutator reports at
    every step, and ``alpha/<decision>/<choice>`` after every epoch.

    Args:
        mutator: Drives the gates. Keep it out of the module's attributes, else the
            module's optimizer would train it too.
        data: Loader of the architecture's own batches, or a function that returns it.
            Default: the method ``architecture_dataloader`` of the data module or the
            module, if there is one; else the Trainer's validation data, which then is no
            longer unseen. Its samples are shuffled anew by ``seed``.
        batch_size: Per process, in place of that loader's own.
        every_n_steps: Architecture steps are taken at every n-th weight update.
        warmup_epochs: Epochs in which only weights are trained.
        evaluate: What validation and test see: the gates as for a weight step
            (``supernet``; sampled anew for every batch, where they are sampled), or the
            path of the best architecture so far (``derived``).
        seed: Of the order of the architecture's batches.

    Attributes:
        history: After each epoch, decision to the probabilities of its choices.

    Raises:
        SearchSetupError: When the Trainer starts: it cannot carry a search.
        LossError: When the Trainer starts: ``training_step`` cannot serve as the loss.

    Example:
        >>> search = ArchitectureSearch(mutator)  # doctest: +SKIP
        >>> Trainer(callbacks=[search]).fit(module, data)  # doctest: +SKIP
        >>> search.derive()[0]  # doctest: +SKIP
    """

    def __init__(
        self,
        mutator: Mutator,
        *,
        data: Any | Callable[[], Any] | None = None,
        batch_size: int | None = None,
        every_n_steps: int = 1,
        warmup_epochs: int = 0,
        evaluate: Literal["supernet", "derived"] = "supernet",
        seed: int = 0,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; expected at least 1")
        if evaluate not in ("supernet", "derived"):
            raise ValueError(f"evaluate is {evaluate!r}; expected 'supernet' or 'derived'")
        self.mutator = mutator
        self.every_n_steps = every_n_steps
        self.warmup_epochs = warmup_epochs
        self.evaluate = evaluate
        self.history: list[dict[str, list[float]]] = []
        self._data = data
        self._batch_size = batch_size
        self._seed = seed
        self._loss: BorrowedStep | None = None
        self._stream: BatchStream | None = None
        self._place: dict[str, int] | None = None
        self._random: list[dict[str, Any]] | None = None
        self._gates: Any = None

    def derive(self, num: int = 1, evaluate: Evaluate | None = None) -> list[Architecture]:
        """The ``num`` best architectures so far, best first; see :meth:`Mutator.derive`."""
        return self.mutator.derive(num, evaluate)

    def rank(self, num: int, evaluate: Evaluate) -> list[tuple[float, Architecture]]:
        """The ``num`` best architectures so far with their score, best first.

        Args:
            num: How many.
            evaluate: Called once for each architecture.
        """
        return list(prior_of(self.mutator, evaluate, num=num).scores[:num])

    def draw_alphas(self, path: str | Path) -> None:
        """Draw how the probabilities of choices moved, one panel per decision."""
        draw_curves(self.history, choice_names(self.mutator), path)

    # -- training -----------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _check(trainer, self.mutator)
        if self.evaluate == "derived":
            self._check_derivable()
        if trainer.max_epochs and 0 < trainer.max_epochs <= self.warmup_epochs:
            warnings.warn(
                f"warmup_epochs is {self.warmup_epochs} and the Trainer has {trainer.max_epochs} "
                "epochs: nothing of the architecture will be learned",
                stacklevel=2,
            )
        _move(self.mutator, pl_module.device)
        if trainer.world_size > 1:
            self.mutator.load_state_dict(trainer.strategy.broadcast(self.mutator.state_dict()))
            self._synchronize, self.mutator.synchronize = self.mutator.synchronize, _average
        self._loss = BorrowedStep(trainer, pl_module, self.mutator)

    def _check_derivable(self) -> None:
        """Refuse to validate the best path where there is none."""
        method = type(self.mutator).__name__
        cure = "expected evaluate='supernet' with this method"
        if not self.mutator.inherits_weights:
            raise SearchSetupError(f"evaluate is 'derived', and {method} changes paths; {cure}")
        try:
            self.mutator.derive()
        except RankingError as error:
            raise SearchSetupError(
                f"evaluate is 'derived', and {method} knows no best path of its own; {cure}"
            ) from error

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.mutator.needs_validation_data:
            loader = self._loader(trainer, pl_module)
            loader = ResumableLoader.like(loader, seed=self._seed, batch_size=self._batch_size)
            self._stream = BatchStream(loader)
            if self._place is not None:
                self._stream.load_state_dict(self._place)
        # A module that asks for trainer.estimated_stepping_batches has the loaders made before
        # their places are read from the checkpoint, and Lightning does not give them later.
        late = getattr(trainer.fit_loop, "_load_combined_loader_states", None)
        if late is not None:
            late()
        if self._random is not None:
            random_state.restore(self._random)
            self._random = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return  # amid a weight update
        warm = trainer.current_epoch >= self.warmup_epochs
        if warm and trainer.global_step % self.every_n_steps == 0:
            self._step(trainer, pl_module, batch, batch_idx)
        self.mutator.open_for_weights(_progress(trainer))

    def _step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        loss = self._loss
        assert loss is not None
        loss.batch_idx = batch_idx
        valid_batch = None
        if self._stream is not None:
            valid_batch = _transfer(next(self._stream), trainer, pl_module)
        optimizer = trainer.optimizers[0] if trainer.optimizers else None
        reward = loss.reward if hasattr(pl_module, "architecture_reward") else None
        with loss.unheard():
            log = self.mutator.architecture_step(loss, batch, valid_batch, optimizer, reward)
        due = trainer.global_step % max(1, trainer.log_every_n_steps) == 0  # type: ignore[attr-defined]
        if due and "alpha_entropy" not in log and self.mutator.probabilities():
            log["alpha_entropy"] = self.mutator.entropy()
        for name, value in log.items():
            shown = name == "alpha_entropy"
            pl_module.log(name if shown else f"search/{name}", value, prog_bar=shown)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Not at the epoch's end, which a training resumed from its last batch does not see.
        if not trainer.is_last_batch:
            return
        now = {label: p.tolist() for label, p in self.mutator.probabilities().items()}
        self.history.append(now)
        names = choice_names(self.mutator)
        alphas = {
            f"alpha/{label}/{choice}": p
            for label, values in now.items()
            for choice, p in zip(names[label], values, strict=False)
        }
        for logger in trainer.loggers if alphas else ():
            logger.log_metrics(alphas, step=trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._stream is not None:
            self._place = self._stream.state_dict()
        self._loss = self._stream = None
        # Lightning has taken the module back to the CPU, and knows nothing of the mutator.
        _move(self.mutator, pl_module.device)
        if self.mutator.synchronize is _average:
            self.mutator.synchronize = self._synchronize

    # -- for alarms ---------------------------------------------------------------------

    @property
    def borrowed(self) -> BorrowedStep:
        """The loss, while the Trainer fits."""
        assert self._loss is not None
        return self._loss

    def probe_batch(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """A batch of the architecture's data: the same at every call, but for augmentation."""
        loader = ResumableLoader.like(
            self._loader(trainer, pl_module), seed=self._seed + 1, batch_size=self._batch_size
        )
        return _transfer(next(iter(loader)), trainer, pl_module)

    # -- evaluation ---------------------------------------------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gates = self.mutator.supernet.gates.values()
        self._gates = [(gate, gate.indices, gate.weights) for gate in gates]
        self._generator = self.mutator.generator.get_state()
        _move(self.mutator, pl_module.device)
        if self.evaluate == "derived":
            self.mutator.supernet.set_path(self.derive()[0])

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.evaluate == "supernet":
            self.mutator.open_for_weights(self.mutator.progress)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mutator.generator.set_state(self._generator)
        for gate, indices, weights in self._gates:
            gate.indices, gate.weights = indices, weights
        self._gates = None

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start  # type: ignore[assignment]
    on_test_end = on_validation_end

    # -- checkpoints --------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "mutator": self.mutator.state_dict(),
            "stream": self._place if self._stream is None else self._stream.state_dict(),
            "history": self.history,
            "random": random_state.capture(),
            "gates": {
                label: (gate.indices, None if gate.weights is None else gate.weights.detach())
                for label, gate in self.mutator.supernet.gates.items()
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.mutator.load_state_dict(state_dict["mutator"])
        self._place = state_dict["stream"]
        self.history = list(state_dict["history"])
        self._random = state_dict["random"]
        # A training that goes on amid a weight update has its path to go on with.
        for label, (indices, weights) in state_dict["gates"].items():
            gate = self.mutator.supernet.gates[label]
            gate.indices = tuple(indices)
            gate.weights = None if weights is None else weights.to(self.mutator.supernet._device)

    # -- data ---------------------------------------------------------------------------

    def _loader(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        if self._data is not None:
            return self._data() if callable(self._data) else self._data
        loader = validation_of_search(trainer, pl_module)
        if loader is not None:
            return loader
        raise SearchSetupError(
            f"{type(self.mutator).__name__} needs batches of the architecture's own, and there "
            "is no validation data: give ArchitectureSearch(data=loader), the data module a "
            "method architecture_dataloader, or the Trainer validation data"
        )


def choice_names(mutator: Mutator) -> dict[str, list[str]]:
    """Decision to the names of its choices, in the order of ``mutator.probabilities()``."""
    supernet = mutator.supernet
    names: dict[str, list[str]] = {}
    for label in mutator.probabilities():
        gate = supernet.gates.get(label)
        choices = supernet.space.decisions[label].choices
        if gate is not None and gate.verb != "inputs":
            choices = gate.choices  # with what is in the mixture only
        names[label] = [str(choice) for choice in choices or ()]
    return names


# -- private -------------------------------------------------------------------------------


def _check(trainer: pl.Trainer, mutator: Mutator) -> None:
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise SearchSetupError(
            f"the Trainer's strategy is {type(trainer.strategy).__name__}; expected a single "
            "device or DDP, because the architecture step needs all weights in every process"
        )
    if trainer.world_size > 1 and mutator.single_path:
        options = getattr(trainer.strategy, "_ddp_kwargs", {})
        if not options.get("find_unused_parameters", False):
            raise SearchSetupError(
                f"a weight step of {type(mutator).__name__} runs one path, and DDP waits for "
                "the gradients of all others: Trainer(strategy=DDPStrategy("
                "find_unused_parameters=True))"
            )
    if trainer.precision == "16-mixed":
        raise SearchSetupError(
            "precision is '16-mixed', whose loss scaling an architecture step goes without, so "
            "that its gradients would vanish; expected 'bf16-mixed', which needs no scaling"
        )
    own = {id(p) for p in mutator.parameters()}
    trained = [p for o in trainer.optimizers for g in o.param_groups for p in g["params"]]
    if any(id(p) in own for p in trained):
        raise SearchSetupError(
            f"parameters of {type(mutator).__name__} are in the module's optimizer, which would "
            "train them twice: keep the mutator out of the module's attributes"
        )


def _transfer(batch: Any, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
    """To the device by way of the user's hooks, which see ``dataloader_idx=1``, training's is 0."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=1)
    return trainer.strategy.batch_to_device(batch, pl_module.device, dataloader_idx=1)


def _move(mutator: Mutator, device: torch.device) -> None:
    mutator.to(device)
    optimizer = mutator.optimizer()
    if optimizer is not None:
        optimizer.load_state_dict(optimizer.state_dict())  # takes its state to the parameters


def _progress(trainer: pl.Trainer) -> float:
    """Share of the training that is over, by what ends it first; 0 for one without an end."""
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    if trainer.max_epochs and trainer.max_epochs > 0:
        batches = trainer.num_training_batches
        part = trainer.fit_loop.batch_idx / batches if 0 < batches < float("inf") else 0.0
        shares.append((trainer.current_epoch + part) / trainer.max_epochs)
    return min(1.0, max(shares))


def _average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their mean over all processes, in one message."""
    together = torch.cat([tensor.detach().flatten() for tensor in tensors])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    means = torch.split(together, [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))
