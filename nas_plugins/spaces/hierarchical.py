"""Hierarchical cells, motifs of primitive operations that make up larger motifs.

Liu et al. 2018, arXiv:1711.00436, sections 2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_plugins.choices import Choose
from nas_plugins.operations import ConvBNReLU, PoolBN, Zero
from nas_plugins.space import SearchSpace

__all__ = ["OPERATIONS", "Hierarchical", "canonical_motifs", "hierarchical"]

OPERATIONS = (
    "identity",
    "conv_1x1",
    "depthwise_3x3",
    "sep_conv_3x3",
    "max_pool_3x3",
    "avg_pool_3x3",
)
"""The primitives, level 1; an edge may also be ``none``."""

TINY: Mapping[str, Any] = {
    "channels": 2,
    "num_motifs": 2,
    "motif_nodes": 3,
    "cell_nodes": 3,
    "cells_per_stage": 1,
}


def _separable(c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    depthwise = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False)
    return nn.Sequential(depthwise, ConvBNReLU(c_in, c_out, 1))


_PRIMITIVES: Mapping[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: Zero(),
    "identity": lambda channels: nn.Identity(),
    "conv_1x1": lambda channels: ConvBNReLU(channels, channels, 1),
    "depthwise_3x3": lambda channels: ConvBNReLU(channels, channels, 3, groups=channels),
    "sep_conv_3x3": lambda channels: _separable(channels, channels),
    "max_pool_3x3": lambda channels: PoolBN("max", channels, norm=False),
    "avg_pool_3x3": lambda channels: PoolBN("avg", channels, norm=False),
}

Choices = Mapping[str, Callable[[], nn.Module]]


class Graph(nn.Module):
    """A directed graph: node 0 is the input, each other node sums its edges from all earlier.

    Args:
        choose: Answers ``<label>/2<-0`` for the edge from node 0 to node 2, likewise the rest.
        label: Of the graph.
        num_nodes: The last is the output.
        choices: Operation of an edge to its factory.
        trivial: The operation which, on the edges from each node to the next and ``none`` on
            all others, is the default.
    """

    def __init__(
        self, choose: Choose, label: str, num_nodes: int, choices: Choices, trivial: str
    ) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{to}<-{source}": choose.layer(
                    f"{label}/{to}<-{source}",
                    _default_first(choices, trivial if source == to - 1 else "none"),
                )
                for to in range(1, num_nodes)
                for source in range(to)
            }
        )
        self.num_nodes = num_nodes

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for to in range(1, self.num_nodes):
            edges = [self.edges[f"{to}<-{source}"](state) for source, state in enumerate(states)]
            states.append(torch.stack(edges).sum(0) if len(edges) > 1 else edges[0])
        return states[-1]


def _default_first(choices: Choices, default: str) -> Choices:
    """The first choice of a decision is its default."""
    return {default: choices[default], **choices}


def _motif_name(number: int) -> str:
    return f"motif{number + 1}"


class Hierarchical(nn.Module):
    """Stem, three stages of cells with a stride-2 convolution between, classifier.

    A cell is a graph whose edges are motifs, and a motif a graph whose edges are primitive
    operations, followed by a pointwise convolution. All convolutions have batch norm and ReLU.

    Deviations: what enters a node is summed, where the paper concatenates and notes that a sum
    is the special case of that with a pointwise convolution. A node without edges is zero.

    Args:
        choose: Answers ``level2/motif1/2<-0``, the primitive on the edge from node 0 to node 2
            of motif 1, and ``level3/2<-0``, the motif on that edge of the cell; both may be
            ``none``. Motifs that the cell does not use are decided too, as in the paper, where
            a mutation may change one that is used later.
        channels: Of the first stage, doubled by each next (paper: 16 in search, 64 after).
        cells_per_stage: Cells in sequence (paper: 1 in search).
        num_motifs: Of level 2 (paper: 6).
        motif_nodes: Of each (paper: 4).
        cell_nodes: Of the one motif of level 3, the cell (paper: 5).
        num_classes: Outputs.
        in_channels: Of the images.

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.
    """

    def __init__(
        self,
        choose: Choose,
        channels: int = 16,
        cells_per_stage: int = 1,
        num_motifs: int = 6,
        motif_nodes: int = 4,
        cell_nodes: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()

        def motif(number: int, primitives: Choices) -> Graph:
            label = f"level2/{_motif_name(number)}"
            return Graph(choose, label, motif_nodes, primitives, "identity")

        def reduced(number: int, width: int) -> nn.Module:
            made = {name: partial(make, width) for name, make in _PRIMITIVES.items()}
            return nn.Sequential(motif(number, made), ConvBNReLU(width, width, 1))

        def cell(width: int) -> nn.Module:
            numbers = range(num_motifs)
            motifs = {_motif_name(number): partial(reduced, number, width) for number in numbers}
            none = _PRIMITIVES["none"]
            choices = {"none": partial(none, width), **motifs}
            return Graph(choose, "level3", cell_nodes, choices, _motif_name(0))

        for number in range(num_motifs):  # asked here, so that no motif depends on its use
            motif(number, dict.fromkeys(_PRIMITIVES, nn.Identity))
        blocks: list[nn.Module] = [ConvBNReLU(in_channels, channels, 3)]
        for stage in range(3):
            if stage:
                blocks.append(_separable(channels, 2 * channels, stride=2))
                channels *= 2
            blocks += [cell(channels) for _ in range(cells_per_stage)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(x)))


def canonical_motifs(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures whose cells have the same motifs on the same edges.

    So neither the numbers of motifs count nor those that the cell does not use: an edge of the
    cell has weights of its own, whatever the motif on it is called.
    """
    motifs: dict[str, list[tuple[str, object]]] = {}
    for label in sorted(architecture):
        level, *path = label.split("/")
        if level == "level2":
            motifs.setdefault(path[0], []).append((path[1], architecture[label]))
    return tuple(
        (label, tuple(motifs.get(str(architecture[label]), ())))
        for label in sorted(architecture)
        if label.startswith("level3/")
    )


def hierarchical(
    *,
    channels: int = 16,
    cells_per_stage: int = 1,
    num_motifs: int = 6,
    motif_nodes: int = 4,
    cell_nodes: int = 5,
    num_classes: int = 10,
    in_channels: int = 3,
) -> SearchSpace:
    """The space: ``7^46``, about 7.5e38 architectures.

    Six motifs of 4 nodes have 6 edges each, with 6 primitives or none, ``(7^6)^6``; the cell of
    5 nodes has 10 edges, with 6 motifs or none, ``7^10``. The paper gives no number.
    """
    return SearchSpace.from_network(
        Hierarchical,
        canonical=canonical_motifs,
        name="hierarchical",
        channels=channels,
        cells_per_stage=cells_per_stage,
        num_motifs=num_motifs,
        motif_nodes=motif_nodes,
        cell_nodes=cell_nodes,
        num_classes=num_classes,
        in_channels=in_channels,
    )
