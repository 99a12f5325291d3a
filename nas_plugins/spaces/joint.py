"""An architecture and the hyper-parameters of its training, in one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from nas_plugins.space import SearchSpace

__all__ = ["joint", "training_hyperparameters"]

TINY: Mapping[str, Any] = {"channels": 4, "num_cells": 1}


def training_hyperparameters(
    *,
    learning_rate: tuple[float, float] = (1e-3, 0.3),
    weight_decay: tuple[float, float] = (1e-6, 1e-2),
    schedules: Sequence[str] = ("cosine", "step", "constant", "onecycle"),
    batch_sizes: Sequence[int] = (32, 64, 128, 256),
    losses: Sequence[str] = ("cross_entropy", "label_smoothing", "focal"),
    label_smoothing: tuple[float, float] = (0.02, 0.2),
    initialisations: Sequence[str] = ("default", "kaiming", "xavier", "orthogonal"),
) -> ConfigurationSpace:
    """What a training is made of; ``lightning_modules`` trains a child by these labels.

    A sequence of one entry leaves nothing to search there, yet says what is used.

    Args:
        learning_rate: Bounds of ``train/learning_rate``, searched on a log scale.
        weight_decay: Bounds of ``train/weight_decay``, searched on a log scale.
        schedules: Choices of ``train/schedule``, the learning rate's over the epochs.
        batch_sizes: Choices of ``train/batch_size``, in images.
        losses: Choices of ``train/loss``.
        label_smoothing: Bounds of ``train/label_smoothing``, which exists with that loss.
        initialisations: Choices of ``train/initialisation``, how weights are first drawn.
    """
    space = ConfigurationSpace()
    loss = Categorical("train/loss", list(losses))
    space.add(
        Float("train/learning_rate", learning_rate, log=True),
        Float("train/weight_decay", weight_decay, log=True),
        Categorical("train/schedule", list(schedules)),
        Categorical("train/batch_size", list(batch_sizes), ordered=True),
        loss,
        Categorical("train/initialisation", list(initialisations)),
    )
    if "label_smoothing" in losses:
        amount = Float("train/label_smoothing", label_smoothing)
        space.add(amount)
        space.add(EqualsCondition(amount, loss, "label_smoothing"))
    return space


def joint(
    space: SearchSpace | str = "nas_bench_201",
    *,
    training: ConfigurationSpace | None = None,
    **options: Any,
) -> SearchSpace:
    """A space of architectures joined with the hyper-parameters of their training.

    Args:
        space: The architectures, or a name that :func:`nas_plugins.spaces.load` knows.
        training: The hyper-parameters; default :func:`training_hyperparameters`.
        options: Of the named space.
    """
    if isinstance(space, str):
        from nas_plugins.spaces import load

        space = load(space, **options)
    return space.join(training_hyperparameters() if training is None else training)
