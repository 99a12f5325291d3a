"""Cells, and the number of bits that the weights of each take, in one space.

Chen et al. 2018 (JASQ), arXiv:1811.09426. Accuracy and size are two objectives for any strategy
that understands several, with ``bits`` of :func:`nas_plugins.estimators.cost.cost_of`; or one
reward, the accuracy times ``target / size`` beyond a target size:
:func:`nas_plugins.estimators.objectives.mnasnet_reward` with ``alpha=0, beta=-1``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from torch import nn

from nas_plugins.choices import Choose
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.quantization import is_quantizable, quantize
from nas_plugins.space import SearchSpace, joined_canonical

__all__ = ["jasqnet", "quantized"]

TINY: Mapping[str, Any] = {"space": "nas_bench_201", "channels": 2, "num_cells": 1}


def quantized(choose: Choose, space: str, bits: Sequence[int], **options: Any) -> nn.Module:
    """The network of a named space, each block of which is asked for the bits of its weights.

    A block is a child module of the network, such as the classifier, or an entry of a child
    that is a list or sequence, such as a cell. Layers that have nothing to quantise are none.

    Args:
        choose: Answers the named space's decisions, and ``bits/cells/3`` and the like.
        space: Name for :func:`nas_plugins.spaces.load`.
        bits: Choices of each block, see :func:`nas_plugins.quantization.quantize`.
        options: Of the named space's network.
    """
    network = _network_of(space)(choose, **options)
    for name, block in _blocks(network):
        quantize(block, choose.value(f"bits/{name}", bits))
    return network


@lru_cache(maxsize=32)
def _network_of(space: str) -> Callable[..., nn.Module]:
    from nas_plugins.spaces import load

    network = load(space).network
    if network is None:
        raise UnsupportedSpaceError(f"space {space!r} has no network whose weights have bits")
    return network


def _blocks(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            parts = [(f"{name}/{entry}", part) for entry, part in child.named_children()]
        else:
            parts = [(name, child)]
        # What is inside a part is for the architecture to say: look no deeper.
        yield from (p for p in parts if is_quantizable(p[1]) or next(p[1].children(), None))


def jasqnet(
    space: str = "nasnet", *, bits: Sequence[int] = (16, 8, 4), **options: Any
) -> SearchSpace:
    """A space of cells with the bits of the stem's, each cell's and the classifier's weights.

    Weights alone are quantised, while they are trained, to evenly spaced values. Which widths
    there are is for the caller: the paper has 4, 8 and 16 bits.

    Args:
        space: Name of the cells' space; one whose cells are the same in number for all
            architectures.
        bits: Choices of each block, the first the default; 2 to 16, or 32 for none.
        options: Of the named space.
    """
    from nas_plugins.spaces import load

    cells = load(space, **options)
    return SearchSpace.from_network(
        quantized,
        canonical=partial(joined_canonical, cells.canonical, frozenset(cells.decisions)),
        name="jasqnet",
        space=space,
        bits=list(bits),
        **cells.options,
    )
