"""Alarms for the known ways in which a differentiable search goes wrong."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.callbacks.architecture_search import ArchitectureSearch, SearchSetupError
from nas_plugins.mutators.alphas import AlphaMutator
from nas_plugins.mutators.base import frozen

__all__ = ["Alarm", "CurvatureAlarm", "EntropyAlarm", "SearchAlarm", "SkipAlarm"]


class SearchAlarm(UserWarning):
    """A search shows the signs of collapse."""


class Alarm(pl.Callback, ABC):
    """Measures something after every epoch, logs it, and warns when it is bad.

    The search itself is the Trainer's :class:`ArchitectureSearch`, or the one that the
    module brings.

    Args:
        stop: Whether the Trainer stops after the epoch in which the alarm is raised.

    Attributes:
        values: What was measured after each epoch; kept in checkpoints.
        raised_at: Epoch (from 0) of the first alarm, ``None`` while all is well.
    """

    name: ClassVar[str]

    def __init__(self, *, stop: bool = False) -> None:
        self.stop = stop
        self.values: list[float] = []
        self.raised_at: int | None = None

    @property
    def logged_as(self) -> str:
        """What follows ``alarm/`` in the log."""
        return self.name

    @abstractmethod
    def measure(
        self, search: ArchitectureSearch, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> float:
        """The number to be watched."""

    @abstractmethod
    def complaint(self) -> str | None:
        """What is wrong with ``values``, if anything."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        if not trainer.is_last_batch:
            return
        value = self.measure(_search_of(trainer), trainer, pl_module)
        self.values.append(value)
        pl_module.log(f"alarm/{self.logged_as}", value, on_step=False, on_epoch=True)
        complaint = self.complaint()
        if complaint is None:
            return
        if self.raised_at is None:
            self.raised_at = trainer.current_epoch
            warnings.warn(f"epoch {trainer.current_epoch}: {complaint}", SearchAlarm, stacklevel=2)
        trainer.should_stop = trainer.should_stop or self.stop

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "raised_at": self.raised_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = list(state_dict["values"])
        self.raised_at = state_dict["raised_at"]


class SkipAlarm(Alarm):
    """Rings when a derived cell has too many skip connections.

    Liang et al. 2019 (DARTS+), arXiv:1909.06035, section 3.2: stop when a normal cell has
    two or more; that is ``cells=["normal"]``.

    Args:
        limit: Number of skips in one cell at which it rings.
        cells: First parts of the labels (before ``/``) that name the cells which count;
            default all.
        names: Choices that are skip connections.
        stop: See :class:`Alarm`.
    """

    name = "skips"

    @property
    def state_key(self) -> str:
        """Of its own for each choice of cells, so that one Trainer can have several."""
        return f"{super().state_key}{self.cells or ''}"

    @property
    def logged_as(self) -> str:
        return "_".join([self.name, *(self.cells or ())])

    def __init__(
        self,
        limit: int = 2,
        *,
        cells: Sequence[str] | None = None,
        names: Iterable[str] = ("skip_connect", "skip", "identity"),
        stop: bool = False,
    ) -> None:
        super().__init__(stop=stop)
        self.limit = limit
        self.cells = None if cells is None else tuple(cells)
        self.names = frozenset(names)

    def measure(
        self, search: ArchitectureSearch, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> float:
        (architecture,) = search.derive()
        skips: Counter[str] = Counter()
        for label, choice in architecture.items():
            cell = label.partition("/")[0]
            if choice in self.names and (self.cells is None or cell in self.cells):
                skips[cell] += 1
        return float(max(skips.values(), default=0))

    def complaint(self) -> str | None:
        if self.values[-1] < self.limit:
            return None
        return (
            f"the derived architecture has {self.values[-1]:.0f} skip connections in one cell "
            f"(limit {self.limit}): the search may have collapsed; derive from an earlier epoch"
        )


class EntropyAlarm(Alarm):
    """Rings when nothing is left to decide.

    The value is the mean over decisions of their entropy as a share of that of the uniform
    distribution: 1 at the start, 0 when all is decided.

    Args:
        below: Share below which it rings; no published value.
        stop: See :class:`Alarm`.
    """

    name = "entropy"

    def __init__(self, below: float = 0.1, *, stop: bool = False) -> None:
        super().__init__(stop=stop)
        self.below = below

    def measure(
        self, search: ArchitectureSearch, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> float:
        shares = [
            float(torch.special.entr(p).sum() / torch.log(p.new_tensor(len(p))))
            for p in search.mutator.probabilities().values()
            if len(p) > 1
        ]
        if not shares:
            raise SearchSetupError(_nothing_learned(search, "EntropyAlarm"))
        return sum(shares) / len(shares)

    def complaint(self) -> str | None:
        if self.values[-1] >= self.below:
            return None
        return (
            f"entropy of the choices is {self.values[-1]:.3f} of the uniform one (limit "
            f"{self.below}): nothing is left to decide"
        )


class CurvatureAlarm(Alarm):
    """Rings when the validation loss becomes sharp in the alphas.

    Zela et al. 2020 (Understanding and robustifying DARTS), arXiv:1909.09656, section 4.3:
    with the dominant eigenvalue of the validation loss's Hessian smoothed over k epochs,
    ring when that of k epochs ago is less than 0.75 of the present one, k = 5.
    Deviations: smoothed over the last k epochs instead of those around; the paper then
    takes the architecture of k epochs ago.

    The eigenvalue is that of largest modulus, by power iteration on Hessian-vector products
    through autograd, on one batch of the architecture's data. Weights, statistics of
    batch norms, gates, the order of the data and the generators are left as found.

    Args:
        window: k, in epochs.
        ratio: Of the past to the present eigenvalue below which it rings.
        num_iterations: Of the power iteration at most; each costs about two backward passes.
        stop: See :class:`Alarm`.
    """

    name = "curvature"

    def __init__(
        self,
        window: int = 5,
        ratio: float = 0.75,
        *,
        num_iterations: int = 20,
        stop: bool = False,
    ) -> None:
        super().__init__(stop=stop)
        self.window = window
        self.ratio = ratio
        self.num_iterations = num_iterations

    def measure(
        self, search: ArchitectureSearch, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> float:
        mutator = search.mutator
        if not isinstance(mutator, AlphaMutator):
            raise SearchSetupError(_nothing_learned(search, "CurvatureAlarm"))
        batch = search.probe_batch(trainer, pl_module)
        with search.borrowed.unheard(), _as_found(pl_module, search), frozen(pl_module):
            _mix(mutator)
            alphas = list(mutator.alphas)
            value = dominant_eigenvalue(search.borrowed(batch), alphas, self.num_iterations)
        # Each process has a batch of its own.
        mean = trainer.strategy.reduce(torch.tensor(value, device=pl_module.device), None, "mean")
        return float(mean)

    def complaint(self) -> str | None:
        k = self.window
        if len(self.values) < 2 * k:
            return None
        now = sum(self.values[-k:]) / k
        before = sum(self.values[-2 * k : -k]) / k
        if now <= 0 or before / now >= self.ratio:
            return None
        return (
            f"the validation loss's dominant eigenvalue in the alphas rose from {before:.3g} to "
            f"{now:.3g} within {k} epochs: derived architectures will be poor; derive from "
            f"epoch {len(self.values) - 1 - k}"
        )


def dominant_eigenvalue(
    loss: Tensor,
    parameters: Sequence[Tensor],
    num_iterations: int = 20,
    tolerance: float = 1e-3,
) -> float:
    """Of a loss's Hessian, the eigenvalue of largest modulus, by power iteration.

    Args:
        loss: A scalar with its graph, twice differentiable.
        parameters: Leaves the Hessian is taken at.
        num_iterations: Products of the Hessian with a vector, at most.
        tolerance: Relative change of the eigenvalue at which it counts as found.
    """
    slopes = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    gradient = torch.cat([s.flatten() for s in slopes if s is not None])
    if not gradient.requires_grad:  # the loss is linear
        return 0.0
    inputs = [p for p, s in zip(parameters, slopes, strict=True) if s is not None]
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(gradient.numel(), generator=generator).to(gradient)
    value = 0.0
    for _ in range(num_iterations):
        v = v / v.norm()
        products = torch.autograd.grad(
            gradient @ v, inputs, retain_graph=True, materialize_grads=True
        )
        product = torch.cat([part.flatten() for part in products])
        before, value = value, float(v @ product)
        if abs(value - before) <= tolerance * abs(value):
            break
        v = product
    return value


def _mix(mutator: AlphaMutator) -> None:
    """Weigh all candidates by the softmax of the alphas, with their gradient."""
    alphas = zip(mutator.labels, mutator.alphas, strict=True)
    factors = {label: alpha.softmax(0) for label, alpha in alphas}
    mutator.open_for_weights(mutator.progress)  # the gates that have no alphas
    for driver in mutator.drivers:
        driver.mix(factors)  # type: ignore[operator]


@contextmanager
def _as_found(module: nn.Module, search: ArchitectureSearch) -> Iterator[None]:
    """Put buffers, gates and generators back."""
    state = search.mutator.generator.get_state()
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    gates = [(g, g.indices, g.weights) for g in search.mutator.supernet.gates.values()]
    device = next(module.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            search.mutator.generator.set_state(state)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            for gate, indices, weights in gates:
                gate.indices, gate.weights = indices, weights


def _search_of(trainer: pl.Trainer) -> ArchitectureSearch:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ArchitectureSearch):
            return callback
    raise SearchSetupError(
        "an alarm needs a search to watch: add ArchitectureSearch(mutator) to the Trainer's "
        "callbacks, or train a SupernetClassifier"
    )


def _nothing_learned(search: ArchitectureSearch, alarm: str) -> str:
    return (
        f"{type(search.mutator).__name__} learns no alphas that {alarm} could watch; use it "
        "with DARTS or another method that has them"
    )
