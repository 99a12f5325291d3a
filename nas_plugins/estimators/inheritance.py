"""A child starts from the weights of another network instead of random ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Choice

__all__ = ["Inherited", "difference", "inherit", "nearest"]

Known = TypeVar("Known", bound=Mapping[str, Choice])


@dataclass(frozen=True)
class Inherited:
    """What a network took over, by the keys of its state dict.

    Attributes:
        copied: Keys whose values were copied.
        reshaped: Keys that the other network has with another shape; left as they were.
        fresh: Keys that it has not; left as they were.
        share: Of the network's parameters, how many were copied; in [0, 1].
    """

    copied: tuple[str, ...]
    reshaped: tuple[str, ...]
    fresh: tuple[str, ...]
    share: float


@torch.no_grad()
def inherit(network: nn.Module, weights: Mapping[str, Tensor]) -> Inherited:
    """Copy parameters and buffers wherever key and shape agree.

    The keys of a space's children follow its labels, so that equal choices share their
    keys. Where the choices differ, so mostly do shapes; but another operation of the same
    shape (a 3x3 convolution with dilation) takes the filters as they are. That is the
    inheritance of Real et al. 2017, arXiv:1703.01041, section 3.6: weights are kept where
    shapes match.

    Args:
        network: Changed in place.
        weights: State dict of a parent, or of a supernet's path.
    """
    copied, reshaped, fresh = [], [], []
    for key, own in network.state_dict().items():
        other = weights.get(key)
        if other is None:
            fresh.append(key)
        elif other.shape != own.shape:
            reshaped.append(key)
        else:
            own.copy_(other)
            copied.append(key)
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    taken = sum(sizes.get(key, 0) for key in copied)
    share = taken / max(1, sum(sizes.values()))
    return Inherited(tuple(copied), tuple(reshaped), tuple(fresh), share)


def difference(first: Mapping[str, Choice], second: Mapping[str, Choice]) -> int:
    """Number of decisions at which two architectures differ; one that only one has counts."""
    return sum(
        label not in first or label not in second or first[label] != second[label]
        for label in {*first, *second}
    )


def nearest(architecture: Mapping[str, Choice], others: Iterable[Known]) -> Known | None:
    """The one that differs at the fewest decisions, the first of equals; never the same.

    It stands for the parent, which no host records: evolution changes one decision of the
    parent, so that the parent is among the nearest of what was evaluated, and any other as
    near has as much to give. Strategies that have no parents get one as well.

    Args:
        architecture: Whose parent is wanted.
        others: What was evaluated; ``None`` comes back if nothing else was.
    """
    differences = ((difference(architecture, other), other) for other in others)
    different = [pair for pair in differences if pair[0] > 0]
    return min(different, key=lambda pair: pair[0])[1] if different else None
