"""What an architecture is worth with the weights of a trained supernet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.supernet import Supernet

__all__ = ["OneShotScore", "accuracy", "recalibrate"]

Batches = Iterable[tuple[Tensor, Tensor]]
"""Pairs of inputs and targets, such as a data loader yields; iterated anew every time."""


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers, from logits ``(batch, classes)`` and labels ``(batch,)``."""
    return (logits.argmax(1) == labels).float().mean()


class OneShotScore:
    """Scores an architecture by the accuracy of its path, no training needed.

    Bender et al. 2018, ICML, section 3: inherited weights rank architectures. Guo et al.
    2020, arXiv:1904.00420, section 3.4: the running statistics of batch norms, which in a
    supernet are those of a mixture of paths, are computed anew for each architecture on
    training data. All architectures see the same batches. The supernet, and the global
    random generators as far as this class draws from them, are left as they are.

    Usable as the ``evaluate`` of :meth:`Mutator.derive <nas_plugins.mutators.Mutator.derive>`.

    Args:
        supernet: Its weights at the time of each call are used; not changed.
        train_loader: Batches to compute the statistics on; read once, on the first call.
        valid_loader: Batches to score on.
        recalibration_batches: How many of the training batches are used and kept in memory.
        metric: Of (logits, targets) of a batch, higher is better; averaged over samples.
        device: Where children are scored. Default: where the supernet is.

    Example:
        >>> score = OneShotScore(supernet, train_loader, valid_loader)  # doctest: +SKIP
        >>> mutator.derive(10, evaluate=score)  # doctest: +SKIP
    """

    def __init__(
        self,
        supernet: Supernet,
        train_loader: Batches,
        valid_loader: Batches,
        *,
        recalibration_batches: int = 16,
        metric: Callable[[Tensor, Tensor], Tensor] = accuracy,
        device: torch.device | str | None = None,
    ) -> None:
        if recalibration_batches < 1:
            raise ValueError(
                f"recalibration_batches is {recalibration_batches}; expected at least 1"
            )
        self.supernet = supernet
        self._train_loader = train_loader
        self._valid_loader = valid_loader
        self._num_batches = recalibration_batches
        self._metric = metric
        self._asked_device = None if device is None else torch.device(device)
        self._kept: list[Tensor] | None = None

    def __call__(self, architecture: Mapping[str, Choice]) -> float:
        return self.score(architecture)

    def score(self, architecture: Mapping[str, Choice]) -> float:
        """The metric of an architecture's path on the validation batches.

        Raises:
            ArchitectureError: The supernet has no such path.
        """
        child = self.child(architecture)
        device = self._device
        total, count = 0.0, 0
        with torch.no_grad(), _own_draws():
            for inputs, targets in self._valid_loader:
                logits = _first(child(inputs.to(device)))
                total += float(self._metric(logits, targets.to(device))) * len(targets)
                count += len(targets)
        if count == 0:
            raise ValueError("valid_loader has no batch; expected some to score on")
        return total / count

    def rank(self, architectures: Iterable[Architecture]) -> list[tuple[float, Architecture]]:
        """Score each, and sort them best first; equals keep their order."""
        scored = [(self.score(architecture), architecture) for architecture in architectures]
        return sorted(scored, key=lambda pair: -pair[0])

    def child(self, architecture: Mapping[str, Choice]) -> nn.Module:
        """The child with inherited weights and statistics of its own, in evaluation mode."""
        with _own_draws():
            child = self.supernet.child(architecture).to(self._device)
            if self._kept is None:
                batches = itertools.islice(self._train_loader, self._num_batches)
                self._kept = [inputs for inputs, _ in batches]
        return recalibrate(child, self._kept)

    @property
    def _device(self) -> torch.device:
        return self._asked_device or self.supernet._device


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replace the running statistics of batch norms by the mean over some batches.

    Only batch norms are in training mode meanwhile, so that dropout stays out of it.

    Args:
        network: Changed in place; left in evaluation mode.
        batches: Inputs.

    Returns:
        The network.

    Raises:
        ValueError: There is no batch, so that the statistics would be lost.
    """
    network.eval()
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return network
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("no batch to recalibrate with; expected at least one")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    device = next(network.parameters(), norms[0].running_mean).device  # type: ignore[union-attr]
    for inputs in itertools.chain([first], batches):
        network(inputs.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


@contextmanager
def _own_draws() -> Iterator[None]:
    """Building a network and shuffling a loader draw from torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        yield


def _first(output: Any) -> Tensor:
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits
