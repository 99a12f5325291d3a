"""What a mutator is: how a supernet's gates are driven, and an architecture derived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.supernet import Supernet

__all__ = ["Batch", "Loss", "Mutator", "frozen"]

Batch = Any
"""Whatever the user's data loader yields."""

Loss = Callable[[Batch], Tensor]
"""Runs the supernet on a batch, with its gates as they stand, and returns the scalar loss."""


class Mutator(nn.Module, ABC):
    """Drives the gates of a supernet through a search. No trainer in sight.

    Whoever owns the loop calls, for every training batch::

        log = mutator.architecture_step(loss, train_batch, valid_batch, weight_optimizer)
        mutator.open_for_weights(progress)
        # ... the ordinary step: forward, backward, update of the supernet's weights

    and at the end :meth:`derive`. A mutator is a module so that its alphas or controller
    move with ``.to(device)`` and are saved by ``state_dict()``; besides these its state is
    its optimizer's and its generator's (:meth:`get_extra_state`). The supernet is not a
    submodule: its weights belong to whoever trains them.

    Args:
        supernet: Network whose gates are driven; not copied.
        seed: Of all the mutator's own randomness, which leaves the global generators alone.
            Every process of a distributed search uses the same, so that all take one path.
    """

    needs_validation_data: bool = True
    """Whether :meth:`architecture_step` uses a validation batch at all."""

    def __init__(self, supernet: Supernet, *, seed: int = 0) -> None:
        super().__init__()
        # In a tuple, so that nn.Module does not register the supernet as a submodule.
        self._supernet = (supernet,)
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def supernet(self) -> Supernet:
        return self._supernet[0]

    @abstractmethod
    def open_for_weights(self, progress: float = 0.0) -> None:
        """Set the gates for one step on the supernet's weights.

        No gradient reaches the architecture's parameters through these gates.

        Args:
            progress: Share of the search that is over, in [0, 1]; for schedules.
        """

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
    ) -> dict[str, float]:
        """One step on the architecture's parameters; leaves weights and their grads as found.

        Args:
            loss: Runs the supernet; may be called several times.
            train_batch: The batch the next weight step uses (second-order methods).
            valid_batch: A batch of the architecture's own stream of data.
            weight_optimizer: That of the weights; second-order methods read its learning
                rate, momentum and weight decay.

        Returns:
            What is worth logging, name to number.
        """
        return {}

    @abstractmethod
    def derive(self, num: int = 1) -> list[Architecture]:
        """The ``num`` best architectures of the space, best first, without duplicates."""

    def optimizer(self) -> torch.optim.Optimizer | None:
        """The architecture's own optimizer, ``None`` where there is nothing to learn."""
        return None

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict()`` holds besides parameters: generator and optimizer."""
        optimizer = self.optimizer()
        return {
            "generator": self.generator.get_state(),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"].cpu())
        optimizer = self.optimizer()
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for a module's parameters meanwhile: an architecture step needs none.

    On the DARTS network this saves a quarter of the step.
    """
    were = [(p, p.requires_grad) for p in module.parameters()]
    for parameter, _ in were:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, required in were:
            parameter.requires_grad_(required)
