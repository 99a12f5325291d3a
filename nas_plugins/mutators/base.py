"""What a mutator is: how a supernet's gates are driven, and an architecture derived."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.supernet import Supernet

__all__ = ["Batch", "Evaluate", "Loss", "Mutator", "Reward", "frozen"]

Batch = Any
"""Whatever the user's data loader yields."""

Loss = Callable[[Batch], Tensor]
"""Runs the supernet on a batch, with its gates as they stand, and returns the scalar loss.

One that computes in reduced precision may have a method ``precise``, which does not: differences
of small steps would be lost in the rounding.
"""

Reward = Callable[[Batch], "float | Tensor"]
"""Runs the supernet on a batch, with its gates as they stand; higher is better (accuracy)."""

Evaluate = Callable[[Architecture], float]
"""What an architecture is worth with the supernet's weights; higher is better."""


class Mutator(nn.Module, ABC):
    """Drives the gates of a supernet through a search. No trainer in sight.

    Whoever owns the loop calls, for every training batch::

        log = mutator.architecture_step(loss, train_batch, valid_batch, weight_optimizer)
        mutator.open_for_weights(progress)
        # ... the ordinary step: forward, backward, update of the supernet's weights

    and at the end :meth:`derive`. A mutator is a module so that its alphas or controller
    move with ``.to(device)`` and are saved by ``state_dict()``; besides these its state is
    its optimizer's, its generator's and the progress (:meth:`get_extra_state`). The supernet
    is not a submodule: its weights belong to whoever trains them.

    Batch norms in training mode note statistics in every forward pass, those of an
    architecture step among them, as in the published codes.

    Args:
        supernet: Network whose gates are driven; not copied.
        seed: Of all the mutator's own randomness, which leaves the global generators alone.
            Every process of a distributed search uses the same, so that all take one path.

    Attributes:
        progress: Share of the search that is over, as last told to :meth:`open_for_weights`.
        synchronize: Called with gradients and rewards before they are used, to change in
            place. A distributed search sets it to the mean over its processes.
    """

    needs_validation_data: ClassVar[bool] = True
    """Whether :meth:`architecture_step` does anything, for which it needs a validation batch."""

    single_path: ClassVar[bool] = False
    """Whether a weight step runs some candidates only: the weights of others get no gradient."""

    inherits_weights: ClassVar[bool] = True
    """Whether the supernet's paths stay children, so that children can take their weights."""

    def __init__(self, supernet: Supernet, *, seed: int = 0) -> None:
        super().__init__()
        # In a tuple, so that nn.Module does not register the supernet as a submodule.
        self._supernet = (supernet,)
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = 0.0
        self.synchronize: Callable[[Sequence[Tensor]], None] = _alone

    @classmethod
    def plain(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The method's options as a checkpoint can hold them: tensors and plain values."""
        return dict(options)

    @property
    def supernet(self) -> Supernet:
        return self._supernet[0]

    def open_for_weights(self, progress: float = 0.0) -> None:
        """Set the gates for one step on the supernet's weights.

        No gradient reaches the architecture's parameters through these gates.

        Args:
            progress: Share of the search that is over, in [0, 1]; for schedules.
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress is {progress}; expected a share of the search, in [0, 1]")
        self.progress = float(progress)
        with torch.no_grad():
            self._open_for_weights()

    @abstractmethod
    def _open_for_weights(self) -> None:
        """Set the gates; gradients are off."""

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
        reward: Reward | None = None,
    ) -> dict[str, float]:
        """One step on the architecture's parameters; leaves weights and their grads as found.

        Args:
            loss: Runs the supernet; may be called several times.
            train_batch: The batch the next weight step uses (second-order methods).
            valid_batch: A batch of the architecture's own stream of data.
            weight_optimizer: That of the weights; second-order methods read its learning
                rate, momentum and weight decay.
            reward: What methods that learn by reinforcement maximise; without one,
                ``exp(-loss)``.

        Returns:
            What is worth logging, name to number.
        """
        return {}

    @abstractmethod
    def derive(self, num: int = 1, evaluate: Evaluate | None = None) -> list[Architecture]:
        """The ``num`` best architectures of the space, best first, without duplicates.

        Changes no state. Fewer come back where the space, or what was sampled of it, has no
        more.

        Args:
            num: How many.
            evaluate: Ranks what the method proposes; where it proposes more than ``num``
                (sampled candidates), all are evaluated.

        Raises:
            RankingError: The method ranks by ``evaluate`` alone, and there is none.
        """

    def probabilities(self) -> dict[str, Tensor]:
        """Decision to the probabilities of its choices so far, where any are learned.

        Candidates that are in the mixture only come last. Detached.
        """
        return {}

    def entropy(self) -> float:
        """Mean entropy of :meth:`probabilities`, in nats; 0 where nothing is learned."""
        entropies = [torch.special.entr(p).sum() for p in self.probabilities().values()]
        return float(torch.stack(entropies).mean()) if entropies else 0.0

    def optimizer(self) -> torch.optim.Optimizer | None:
        """The architecture's own optimizer, ``None`` where there is nothing to learn."""
        return None

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict()`` holds besides parameters: generator, optimizer, progress."""
        optimizer = self.optimizer()
        return {
            "method": type(self).__name__,
            "generator": self.generator.get_state(),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "progress": self.progress,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if state["method"] != type(self).__name__:
            raise UnsupportedSpaceError(
                f"the state is that of a search by {state['method']}, and this is one by "
                f"{type(self).__name__}; make the mutator that was saved"
            )
        self.generator.set_state(state["generator"].cpu())
        self.progress = state["progress"]
        optimizer = self.optimizer()
        if optimizer is not None:  # which would otherwise share its tensors with the state
            optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

    def _copied_generator(self) -> torch.Generator:
        """To draw from without a change of state."""
        generator = torch.Generator()
        generator.set_state(self.generator.get_state())
        return generator

    def _gradients(self, value: Tensor, inputs: Iterable[Tensor]) -> list[Tensor]:
        """Of a scalar, zeros where it does not depend; the mean over all processes."""
        tensors = list(inputs)
        found = torch.autograd.grad(value, tensors, allow_unused=True)
        gradients = [
            torch.zeros_like(t) if g is None else g.contiguous()  # an expanded one has no place
            for t, g in zip(tensors, found, strict=True)
        ]
        self.synchronize(gradients)
        return gradients


def _alone(tensors: Sequence[Tensor]) -> None:
    """The mean over one process."""


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
