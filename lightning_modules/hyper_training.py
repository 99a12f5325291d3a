"""Hyper-parameters trained together with the weights, through a hypernetwork."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_modules import random_state
from lightning_modules.augmentation import Augmentation
from lightning_modules.data import DataError
from lightning_modules.resumable import BatchStream, ResumableLoader
from lightning_modules.search_data import validation_of_search
from nas_plugins.estimators.one_shot import accuracy

__all__ = ["HyperTraining", "HyperWeights"]

KNOWN = ("weight_decay", "dropout", "cutout")


class HyperWeights(nn.Module):
    """A network's weights as an affine function of hyper-parameters.

    Lorraine & Duvenaud 2018, arXiv:1802.09419, section 2.3, with a linear hypernetwork: enough
    for the best response in the neighbourhood that is sampled.

    Args:
        network: Its parameters are where the weights begin; it is left as it is.
        start: Where they do, shape ``(hyper-parameters,)``.
    """

    start: Tensor

    def __init__(self, network: nn.Module, start: Tensor) -> None:
        super().__init__()
        self.names = [name for name, _ in network.named_parameters()]
        self.base = nn.ParameterList(p.detach().clone() for p in network.parameters())
        self.slopes = nn.ParameterList(
            torch.zeros(len(start), *p.shape, dtype=p.dtype) for p in network.parameters()
        )
        self.register_buffer("start", start.clone())

    def forward(self, position: Tensor) -> dict[str, Tensor]:
        """Parameter's name to its value at a position ``(hyper-parameters,)``."""
        away = position - self.start
        return {
            name: base + torch.tensordot(away.to(base), slope, 1)
            for name, base, slope in zip(self.names, self.base, self.slopes, strict=True)
        }


class HyperTraining(pl.LightningModule):
    """Trains a classifier and its regularisation at once, in one run.

    Lorraine & Duvenaud 2018, arXiv:1802.09419, the joint algorithm: a hypernetwork learns the
    weights that are best for hyper-parameters around the present ones, by the training loss;
    the hyper-parameters descend the validation loss through it. Hyper-parameters whose gradient
    no loss has, dropout and cutout, are learned as well: the hypernetwork tells how weights
    answer to them.

    Every hyper-parameter moves between its bounds, as the sigmoid of a free number, on a
    logarithmic scale if the lower bound is above zero. With
    :class:`~lightning_modules.SearchDataModule` half of the training images are the
    validation data of the hyper-parameters; else the Trainer's validation data are.

    Logs ``train_loss``, ``val_loss``, ``val_acc`` and ``hyper/<name>``.

    Deviations: step sizes and ``spread`` are ours, the paper's vary with the experiment.

    Args:
        network: A child, or any module; not changed.
        hyperparameters: Name to bounds: ``weight_decay``, the factor of half the squared norm of
            all weights; ``dropout``, the probability of every ``nn.Dropout``; ``cutout``, the
            square's side as a share of the image's.
        start: Where they begin, as shares of the way between the bounds.
        spread: Deviation of the free numbers at which weights are learned.
        learning_rate: Adam's, of the hypernetwork.
        hyper_lr: Adam's, of the hyper-parameters.
        loss: Of outputs and targets.
        seed: Of what is sampled.

    Raises:
        ValueError: An unknown hyper-parameter, bounds out of range, dropout without a
            ``nn.Dropout``; when the Trainer starts: it has several processes.
        DataError: When the Trainer starts: there is no validation data.

    Example:
        >>> module = HyperTraining(
        ...     child, {"weight_decay": (1e-6, 1e-1), "dropout": (0.0, 0.7)}
        ... )  # doctest: +SKIP
        >>> Trainer(max_epochs=20).fit(module, SearchDataModule(data))  # doctest: +SKIP
        >>> module.values()  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        hyperparameters: Mapping[str, tuple[float, float]],
        *,
        start: float = 0.5,
        spread: float = 0.5,
        learning_rate: float = 1e-3,
        hyper_lr: float = 1e-2,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.bounds = {name: _checked(name, bounds) for name, bounds in hyperparameters.items()}
        if not self.bounds or not 0 < start < 1:
            raise ValueError(
                f"hyperparameters are {dict(hyperparameters)} and start {start}; expected at "
                "least one, and a share in (0, 1)"
            )
        has_dropout = any(isinstance(module, nn.Dropout) for module in network.modules())
        if "dropout" in self.bounds and not has_dropout:
            raise ValueError("dropout is to be learned, and the network has no nn.Dropout")
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.position = nn.Parameter(torch.full((len(self.bounds),), math.log(start / (1 - start))))
        self.weights = HyperWeights(network, self.position.detach())
        self.spread = spread
        self.learning_rate = learning_rate
        self.hyper_lr = hyper_lr
        self.loss = loss
        self._generator = torch.Generator().manual_seed(seed)
        self._seed = seed
        self._stream: BatchStream | None = None
        self._place: dict[str, int] | None = None
        self._random: list[dict[str, Any]] | None = None

    def values(self, position: Tensor | None = None) -> dict[str, float]:
        """The hyper-parameters, at present or at a position."""
        place = self.position.detach() if position is None else position
        return {
            name: _value(low, high, float(share))
            for (name, (low, high)), share in zip(self.bounds.items(), place.sigmoid(), strict=True)
        }

    def trained_network(self) -> nn.Module:
        """The network by itself, with the weights for the present hyper-parameters."""
        network = copy.deepcopy(self.network).requires_grad_(True)
        _set_dropout(network, self.values())
        with torch.no_grad():
            network.load_state_dict(self.weights(self.position), strict=False)
        return network

    def forward(self, x: Tensor) -> Any:
        return functional_call(self.network, self.weights(self.position), (x,))

    # -- training -----------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.weights.parameters(), self.learning_rate),
            torch.optim.Adam([self.position], self.hyper_lr),
        ]

    def on_train_start(self) -> None:
        if self.trainer.world_size > 1:
            raise ValueError(
                f"HyperTraining runs in one process, and the Trainer has {self.trainer.world_size}"
            )
        loader = validation_of_search(self.trainer, self)
        if loader is None:
            raise DataError(
                "HyperTraining learns hyper-parameters by validation data, and there is none: "
                "give the Trainer some, or a SearchDataModule"
            )
        self._stream = BatchStream(ResumableLoader.like(loader, seed=self._seed))
        if self._place is not None:
            self._stream.load_state_dict(self._place)
        if self._random is not None:
            random_state.restore(self._random)
            self._random = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        for_weights, for_hyper = self.optimizers()  # type: ignore[attr-defined]
        loss = self._response_loss(*batch)
        for_weights.zero_grad()
        self.manual_backward(loss)
        for_weights.step()

        assert self._stream is not None
        batch = self.trainer.precision_plugin.convert_input(next(self._stream))
        inputs, targets = self.transfer_batch_to_device(batch, self.device, 0)
        self.network.eval()
        valid_loss = self._loss_of(self.weights(self.position), inputs, targets)
        for_hyper.zero_grad()
        (self.position.grad,) = torch.autograd.grad(valid_loss, [self.position])
        for_hyper.step()
        self.network.train()
        self.log("train_loss", loss.detach(), prog_bar=True)
        self.log_dict({f"hyper/{name}": value for name, value in self.values().items()})

    def _response_loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The training loss at hyper-parameters near the present ones."""
        noise = torch.randn(len(self.bounds), generator=self._generator).to(self.position)
        position = self.position.detach() + self.spread * noise
        values = self.values(position)
        _set_dropout(self.network, values)
        if values.get("cutout", 0.0) > 0:
            cut = Augmentation(cutout=values["cutout"])
            inputs = cut(inputs, self._generator, inputs.new_zeros(1, 1, 1))
        weights = self.weights(position)
        loss = self._loss_of(weights, inputs, targets)
        if "weight_decay" in values:
            norm = sum(w.square().sum() for w in weights.values())
            loss = loss + 0.5 * values["weight_decay"] * norm
        return loss

    def _loss_of(self, weights: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(_first(functional_call(self.network, dict(weights), (inputs,))), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        outputs = _first(self(inputs))
        self.log("val_loss", self.loss(outputs, targets), prog_bar=True)
        if not targets.is_floating_point():
            self.log("val_acc", accuracy(outputs, targets), prog_bar=True)

    # -- checkpoints --------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hyper_training"] = {
            "generator": self._generator.get_state(),
            "stream": self._place if self._stream is None else self._stream.state_dict(),
            "random": random_state.capture(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["hyper_training"]
        self._generator.set_state(state["generator"].cpu())
        self._place = state["stream"]
        self._random = state["random"]


def _checked(name: str, bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if name not in KNOWN:
        raise ValueError(f"unknown hyper-parameter {name!r}; expected some of {list(KNOWN)}")
    most = math.inf if name == "weight_decay" else 1.0
    if not 0 <= low < high < most:
        raise ValueError(f"bounds of {name} are {bounds}; expected 0 <= low < high < {most}")
    return low, high


def _set_dropout(network: nn.Module, values: Mapping[str, float]) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout) and "dropout" in values:
            module.p = values["dropout"]


def _value(low: float, high: float, share: float) -> float:
    return float(low * (high / low) ** share if low > 0 else low + share * (high - low))


def _first(output: Any) -> Tensor:
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits
