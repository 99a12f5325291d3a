"""What a training is made of, by name: schedules, losses, initialisations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["INITIALISATIONS", "LOSSES", "OPTIMIZERS", "SCHEDULES", "Schedule", "pick"]


def pick(kind: str, name: str, table: dict[str, Any]) -> Any:
    """Entry of a table.

    Raises:
        ValueError: No such name.
    """
    if name not in table:
        raise ValueError(f"{kind} is {name!r}; expected one of {sorted(table)}")
    return table[name]


# -- schedules: factor on the learning rate over progress in [0, 1] ------------------------


def _constant(progress: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _step(progress: float) -> float:
    """A tenth of it after half and after three quarters (He et al. 2016, section 4.2)."""
    return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))


def _onecycle(progress: float) -> float:
    """Up from 1/25 over the first 30 %, then down to nearly nothing (Smith & Topin 2018)."""
    if progress < 0.3:
        return 0.04 + 0.96 * (1 - _cosine(progress / 0.3))
    return _cosine((progress - 0.3) / 0.7)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "step": _step,
}


class Schedule(LambdaLR):
    """Learning rate as a function of progress alone.

    Because no past value enters, a training that resumes under a longer horizon takes up
    the longer schedule at the point it has reached.

    Args:
        optimizer: Its learning rates are the factor's base.
        name: Entry of ``SCHEDULES``.
        steps: Optimiser steps, or whatever it is stepped after, until progress is 1.
        floor: The factor of 0 becomes this share of the learning rate, that of 1 stays.
    """

    def __init__(
        self, optimizer: Optimizer, name: str, steps: float, *, floor: float = 0.0
    ) -> None:
        factor = pick("schedule", name, SCHEDULES)
        super().__init__(
            optimizer, lambda step: floor + (1 - floor) * factor(min(1.0, step / steps))
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # The optimiser's state came with the rate of the schedule it was saved under.
        self._last_lr = [
            b * f(self.last_epoch) for b, f in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


# -- losses: (logits (batch, classes), labels (batch,)) -> scalar ---------------------------


def _focal(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy, each sample scaled by ``(1 - p)^2`` (Lin et al. 2017, eq. 4)."""
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    confidence = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return ((1 - confidence) ** 2 * loss).mean()


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "label_smoothing": _cross_entropy,  # as joint spaces call it when they search the amount
}


# -- initialisations -----------------------------------------------------------------------


def _kaiming(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


INITIALISATIONS: dict[str, Callable[[Tensor], Any] | None] = {
    "default": None,
    "kaiming": _kaiming,
    "orthogonal": nn.init.orthogonal_,
    "xavier": nn.init.xavier_uniform_,
}


def initialise(network: nn.Module, name: str) -> None:
    """Draw the weights of convolutions and linear layers; their biases become zero.

    ``default`` leaves every layer as it drew itself.
    """
    draw = pick("initialisation", name, INITIALISATIONS)
    if draw is None:
        return
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# -- optimisers ----------------------------------------------------------------------------


def _sgd(parameters: Iterable[Tensor], lr: float, weight_decay: float) -> Optimizer:
    return SGD(parameters, lr, momentum=0.9, weight_decay=weight_decay)


def _adamw(parameters: Iterable[Tensor], lr: float, weight_decay: float) -> Optimizer:
    return AdamW(parameters, lr, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float, float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}
