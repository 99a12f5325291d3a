"""S8: the micro space of ENAS, a normal and a reduction cell that the network repeats.

Pham et al. 2018, arXiv:1802.03268, section 2.3 and figure 5.
Reference: melodyguan/enas@00787a5 src/cifar10/micro_child.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nas_plugins.choices import Choose
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.operations import FactorizedReduce, PoolBN, ReLUConvBN, SeparableConv
from nas_plugins.space import SearchSpace
from nas_plugins.spaces.darts import canonical_graph

__all__ = ["OPERATIONS", "ENASMicro", "canonical_cells", "enas_micro"]

OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
"""In the order of the published architecture strings."""

TINY: Mapping[str, Any] = {"channels": 4, "num_cells": 3, "num_nodes": 2}


def _operation(name: str, channels: int, stride: int) -> nn.Module:
    if name == "identity":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    kind, kernel = name.rsplit("_", 1)
    if kind == "sep_conv":
        return SeparableConv(channels, channels, int(kernel[0]), stride)
    return PoolBN(kind[:3], channels, stride, kernel=int(kernel[0]), norm=False)


class Node(nn.Module):
    """The sum of two operations, each on an earlier tensor of the cell.

    The weights of an operation belong to its node, its side and its source, as in the
    reference.

    Args:
        choose: Answers ``normal/3/x`` (the source of node 3's first input, 0 to 2) and
            ``normal/3/x/operation``, likewise ``normal/3/y``.
        label: Such as ``normal/3``.
        strides: One for each earlier tensor.
        channels: Of every tensor.
    """

    def __init__(self, choose: Choose, label: str, strides: Sequence[int], channels: int) -> None:
        super().__init__()

        def edge(side: str, stride: int) -> nn.Module:
            return choose.layer(
                f"{label}/{side}/operation",  # the same decision, whatever the source
                {name: partial(_operation, name, channels, stride) for name in OPERATIONS},
            )

        def chosen(side: str) -> nn.Module:
            sources = {str(i): partial(edge, side, stride) for i, stride in enumerate(strides)}
            return choose.inputs(f"{label}/{side}", sources)

        self.x = chosen("x")
        self.y = chosen("y")

    def forward(self, states: list[Tensor]) -> Tensor:
        return self.x(states) + self.y(states)


class Cell(nn.Module):
    """Two inputs, nodes that sum two operations each, all nodes concatenated.

    Deviation: published cells concatenate only the tensors that no node reads. Which those
    are follows from the other decisions, and a decision here has modules of its own; so the
    output is of all nodes, as in DARTS, and has the same width in every architecture. A
    cell may leave out one of its inputs, whose projection is idle then.

    Args:
        choose: Answers the decisions of :class:`Node`, as ``normal/…`` or ``reduce/…``.
        c_before, c_in: Channels of the outputs of the last but one and the last cell.
        channels: Of each node; the output has ``num_nodes`` times as many.
        num_nodes: Nodes 2, 3, …; 0 and 1 are the outputs of the two cells before.
        reduction: Whether this cell halves the resolution.
        after_reduction: Whether the last one did, so that the one before it is too large.
    """

    def __init__(
        self,
        choose: Choose,
        c_before: int,
        c_in: int,
        channels: int,
        num_nodes: int,
        *,
        reduction: bool,
        after_reduction: bool,
    ) -> None:
        super().__init__()
        self.before: nn.Module
        if after_reduction:
            self.before = FactorizedReduce(c_before, channels)
        else:
            self.before = ReLUConvBN(c_before, channels, 1)
        self.last = ReLUConvBN(c_in, channels, 1)
        kind, stride = ("reduce", 2) if reduction else ("normal", 1)
        self.nodes = nn.ModuleList(
            Node(choose, f"{kind}/{to}", [stride, stride, *[1] * (to - 2)], channels)
            for to in range(2, 2 + num_nodes)
        )

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [self.before(before), self.last(last)]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat(states[2:], dim=1)


class ENASMicro(nn.Module):
    """Stem, cells of which those at one and two thirds reduce, classifier.

    Deviations from the reference: that of :class:`Cell`; no auxiliary head, no drop-path.

    Args:
        choose: Answers the decisions of :class:`Node`.
        channels: Of a node in the first cells; doubled by each reduction (reference: 20 in
            search, 36 in the final network).
        num_cells: All cells, at least 3 (reference: 8 in search, 17 in the final network).
        num_nodes: Nodes of a cell beside its inputs (paper: ``B - 2``, 5).
        num_classes: Outputs.
        in_channels: Of the images.
        dropout: Probability of dropping a feature of the classifier (reference: 0.1).

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.

    Raises:
        UnsupportedSpaceError: Fewer than three cells.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        kind: {"0": "h_{k-2}", "1": "h_{k-1}", "concat": "h_{k}"} for kind in ("normal", "reduce")
    }
    """Names of a cell's ends in a drawing."""

    def __init__(
        self,
        choose: Choose,
        channels: int = 20,
        num_cells: int = 8,
        num_nodes: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if num_cells < 3:
            raise UnsupportedSpaceError(
                f"num_cells is {num_cells}; expected at least 3, so that both kinds of cell occur"
            )
        c_before = c_in = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_in, 3, padding=1, bias=False), nn.BatchNorm2d(c_in)
        )
        reductions = (num_cells // 3, 2 * num_cells // 3)
        self.cells = nn.ModuleList()
        for i in range(num_cells):
            channels *= 2 if i in reductions else 1
            cell = Cell(
                choose,
                c_before,
                c_in,
                channels,
                num_nodes,
                reduction=i in reductions,
                after_reduction=i - 1 in reductions,
            )
            self.cells.append(cell)
            c_before, c_in = c_in, num_nodes * channels
        self.head = nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)
        )
        self.classifier = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.classifier(self.head(last))


def canonical_cells(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures that differ by the numbers of nodes, or the sides of inputs, alone.

    Both rename weights that are drawn independently, as
    :func:`nas_plugins.spaces.darts.canonical_cells` explains.
    """
    cells: dict[str, dict[int, list[tuple[int, str]]]] = {"normal": {}, "reduce": {}}
    for label, operation in architecture.items():
        if label.endswith("/operation"):
            source = label.removesuffix("/operation")
            kind, to, _ = source.split("/")
            edges = cells[kind].setdefault(int(to), [])
            edges.append((int(str(architecture[source])), str(operation)))
    return tuple(map(canonical_graph, cells.values()))


def enas_micro(
    *,
    channels: int = 20,
    num_cells: int = 8,
    num_nodes: int = 5,
    num_classes: int = 10,
    in_channels: int = 3,
    dropout: float = 0.1,
) -> SearchSpace:
    """The space: (5^10 * 6!^2)^2, about 2.56e25 architectures.

    That is of five nodes. Node ``i`` (2 to 6) has ``i`` sources and 5 operations for each of
    its two inputs, which makes ``(5 i)^2``; the product over the nodes is
    ``5^10 * (2*3*4*5*6)^2`` for each of the two cells. The paper gives 1.3e11, its formula
    ``(5 * (B - 2)!)^4`` with ``B = 7``. That too is four sequences of inputs, two for each
    cell, but it takes one operation for all five nodes where every node has its own
    (``5^5``), and ``5!`` for the sources, whose product is ``6!``, ``(B - 1)!``.
    """
    return SearchSpace.from_network(
        ENASMicro,
        canonical=canonical_cells,
        name="enas_micro",
        channels=channels,
        num_cells=num_cells,
        num_nodes=num_nodes,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=dropout,
    )
