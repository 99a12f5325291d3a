"""A module's ``training_step``, run for its loss alone."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from nas_plugins.errors import NasPluginsError, UnsupportedSpaceError
from nas_plugins.mutators.base import Mutator

__all__ = ["BorrowedStep", "LossError"]


class LossError(NasPluginsError, ValueError):
    """The module's ``training_step`` cannot serve as the architecture's loss."""


class BorrowedStep:
    """The loss of the user's own ``training_step``, without its traces.

    Called on a batch it returns what the Trainer would take the gradient of, under the
    Trainer's precision. Inside :meth:`unheard` nothing that the step does besides can be
    seen afterwards: ``self.log`` is silent, torchmetrics of the module count on copies, and
    no parameter outside of the supernet takes part in gradients. What goes past these, such
    as writing to ``self.logger.experiment`` or appending to a list, happens in architecture
    steps too.

    Args:
        trainer: Whose precision is used.
        pl_module: Holds the supernet; optimises automatically.
        mutator: Drives the supernet's gates.

    Raises:
        LossError: The module optimises by hand, or takes an iterator of batches: then its
            ``training_step`` is no function from a batch to a loss.
        UnsupportedSpaceError: The mutator's supernet is not part of the module.
    """

    def __init__(self, trainer: pl.Trainer, pl_module: pl.LightningModule, mutator: Mutator):
        name = type(pl_module).__name__
        parameters = list(inspect.signature(pl_module.training_step).parameters)
        if not pl_module.automatic_optimization:
            raise LossError(
                f"{name} optimises by hand (automatic_optimization = False), so its "
                "training_step updates weights instead of returning a loss; let the Trainer "
                "optimise, or call mutator.architecture_step from the training_step"
            )
        if "dataloader_iter" in parameters:
            raise LossError(f"{name}.training_step takes dataloader_iter; expected a batch")
        if not any(module is mutator.supernet for module in pl_module.modules()):
            raise UnsupportedSpaceError(
                f"the supernet that {type(mutator).__name__} drives is not part of {name}: keep "
                "it in an attribute, self.network = supernet, and use it in training_step"
            )
        self.batch_idx = 0
        self._takes_index = len(parameters) > 1
        self._trainer = trainer
        self._module = pl_module
        inside = {id(p) for p in mutator.supernet.parameters()}
        self._outside = [p for p in pl_module.parameters() if id(p) not in inside]
        self._metrics = [(*at, copy.deepcopy(at[2])) for at in _metrics_of(pl_module)]

    def __call__(self, batch: Any) -> Tensor:
        with self._trainer.precision_plugin.train_step_context():
            return self.precise(batch)

    def precise(self, batch: Any) -> Tensor:
        """The loss in the weights' own precision, without autocast."""
        arguments = (batch, self.batch_idx) if self._takes_index else (batch,)
        output = self._module.training_step(*arguments)
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(loss, Tensor):
            raise LossError(
                f"{type(self._module).__name__}.training_step returned {type(output).__name__} "
                "without a loss; expected a tensor, or a dict with the key 'loss'"
            )
        return loss

    def reward(self, batch: Any) -> Any:
        """What the module's own ``architecture_reward`` says of a batch."""
        with torch.no_grad(), self._trainer.precision_plugin.train_step_context():
            reward: Any = self._module.architecture_reward
            return reward(batch)

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Nothing is logged or counted, and weights outside of the supernet have no part."""
        module = self._module
        learning = [p for p in self._outside if p.requires_grad]
        own_log = module.__dict__.get("log")
        module.log = _silence  # type: ignore[method-assign]
        for parent, name, _, stand_in in self._metrics:
            parent._modules[name] = stand_in
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)
            for parent, name, metric, stand_in in self._metrics:
                parent._modules[name] = metric
                stand_in.reset()
            del module.log
            if own_log is not None:
                module.log = own_log  # type: ignore[method-assign]


def _silence(*_: Any, **__: Any) -> None:
    """Takes the place of ``self.log``."""


def _metrics_of(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Each torchmetric of a module, with where it is kept."""
    for name, child in module._modules.items():
        if isinstance(child, (Metric, MetricCollection)):
            yield module, name, child
        elif child is not None:
            yield from _metrics_of(child)
