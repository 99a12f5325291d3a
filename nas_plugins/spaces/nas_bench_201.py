"""The NAS-Bench-201 cell space, whose published table makes a search checkable.

Dong & Yang 2020, arXiv:2001.00326, section 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.choices import Choose
from nas_plugins.operations import PoolBN, ReLUConvBN, Zero
from nas_plugins.space import SearchSpace

__all__ = ["EDGES", "OPERATIONS", "NASBench201", "nas_bench_201"]

TINY: Mapping[str, Any] = {"channels": 4, "num_cells": 1}

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the order of the published table."""

EDGES = ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
"""In the order of the published architecture strings."""


def _operation(name: str, channels: int) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return PoolBN("avg", channels, norm=False)
    return ReLUConvBN(channels, channels, 1 if name == "nor_conv_1x1" else 3)


class Cell(nn.Module):
    """Four nodes, all fully connected; each of the six edges holds one of five operations."""

    def __init__(self, choose: Choose, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                edge: choose.layer(
                    f"cell/{edge}",
                    {name: partial(_operation, name, channels) for name in OPERATIONS},
                )
                for edge in EDGES
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for to in (1, 2, 3):
            nodes.append(sum(self.edges[f"{to}<-{j}"](nodes[j]) for j in range(to)))
        return nodes[-1]


class ResidualReduction(nn.Module):
    """Residual block of stride 2 between the stages; its shortcut pools, then convolves 1x1."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(ReLUConvBN(c_in, c_out, 3, 2), ReLUConvBN(c_out, c_out, 3))
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class NASBench201(nn.Module):
    """Stem, three stages of cells at ``channels``, twice and four times as many, classifier.

    Args:
        choose: Answers the six decisions ``cell/1<-0`` … ``cell/3<-2``.
        channels: Of the first stage (paper: 16).
        num_cells: In each stage (paper: 5).
        num_classes: Outputs.
        in_channels: Of the images.

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.
    """

    def __init__(
        self,
        choose: Choose,
        channels: int = 16,
        num_cells: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        body: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                body.append(ResidualReduction(width // 2, width))
            body.extend(Cell(choose, width) for _ in range(num_cells))
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.body(self.stem(x))))


def canonical_cell(architecture: Mapping[str, object]) -> Hashable:
    """Equal for cells that compute the same function, up to the order of summation.

    A node is the sorted terms of its sum: ``none`` adds no term, a skip adds the terms of
    its source, and pooling zeros adds nothing (a convolution of zeros still adds what its
    batch norm learns). Beside the terms of the output stand all convolutions that reach it:
    one that is read twice is not two that are read once. That leaves 5,875 classes of the
    15,625 cells. The paper's own rule keeps zeros as terms, takes a convolution of zeros for
    zero and two convolutions for one: 6,466 classes.
    """
    nodes: list[tuple[Hashable, ...]] = [("input",)]
    reaching: list[dict[str, Hashable]] = [{}]
    for to in (1, 2, 3):
        terms: list[Hashable] = []
        convolutions: dict[str, Hashable] = {}
        for j in range(to):
            operation, source = architecture[f"cell/{to}<-{j}"], nodes[j]
            if operation == "none" or (operation == "avg_pool_3x3" and not source):
                continue
            convolutions.update(reaching[j])
            if operation == "skip_connect":
                terms.extend(source)
                continue
            terms.append((operation, source))
            if operation != "avg_pool_3x3":
                convolutions[f"{to}<-{j}"] = (operation, source)
        nodes.append(tuple(sorted(terms, key=repr)))
        reaching.append(convolutions)
    return nodes[-1], tuple(sorted(reaching[-1].values(), key=repr))


def architecture_of(string: str) -> Architecture:
    """Read the published form ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|…|``."""
    terms = [term for term in string.replace("+", "").split("|") if term]
    if len(terms) != len(EDGES):
        raise ValueError(f"{string!r} has {len(terms)} edges; expected {len(EDGES)}")
    return Architecture(
        {f"cell/{edge}": term.rsplit("~", 1)[0] for edge, term in zip(EDGES, terms, strict=True)}
    )


def nas_bench_201(
    *, channels: int = 16, num_cells: int = 5, num_classes: int = 10, in_channels: int = 3
) -> SearchSpace:
    """The space: 5^6 = 15,625 architectures, 5,875 of them different functions."""
    return SearchSpace.from_network(
        NASBench201,
        canonical=canonical_cell,
        name="nas_bench_201",
        channels=channels,
        num_cells=num_cells,
        num_classes=num_classes,
        in_channels=in_channels,
    )
