"""The micro space of ENAS, a normal and a reduction cell that the network repeats.

Pham et al. 2018, arXiv:1802.03268, section 2.3 and figure 5.
Reference: melodyguan/enas@00787a5 src/cifar10/micro_child.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import nn

from nas_plugins.architecture import Architecture
from nas_plugins.choices import Choose
from nas_plugins.errors import ArchitectureError
from nas_plugins.operations import FactorizedReduce, make_operation
from nas_plugins.space import SearchSpace
from nas_plugins.spaces._cells import CellStack, UnusedCell, canonical_blocks

__all__ = ["ENAS_MICRO", "OPERATIONS", "ENASMicro", "architecture_of_arcs", "enas_micro"]

OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
"""In the order of the published architecture strings."""

TINY: Mapping[str, Any] = {"channels": 4, "num_cells": 3, "num_nodes": 2}


def _operation(name: str, channels: int, stride: int, drop_path: float) -> nn.Module:
    if name == "identity":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    return make_operation(name, channels, stride, drop_path)


class ENASMicro(CellStack):
    """Cells whose unused tensors are concatenated, stacked with two reductions.

    As in the reference, two pointwise convolutions in a row project the last cell's output.

    Deviations: an unused input of a reduction cell passes a ReLU before it is halved. While
    searching, the reference projects a cell's output to the width of one tensor and reduces
    before a reduction cell; here the search has the cells of the final network.

    Args:
        choose: Answers ``normal/3/x`` (the source of node 3's first input, 0 to 2) and
            ``normal/3/x/operation``, the same of ``y``, and ``reduce/…`` likewise.
        channels: Of a node in the first cells; doubled by each reduction (reference: 20 in
            search, 36 in the final network).
        num_cells: All cells, at least 3 (reference: 8 in search, 17 in the final network; the
            paper's 4.6M parameters are those of 20).
        num_nodes: Nodes of a cell beside its inputs (paper: ``B - 2``, 5).
        num_classes: Outputs.
        in_channels: Of the images.
        dropout: Probability of dropping a feature of the classifier (reference: 0.1).
        auxiliary: Whether there is an auxiliary head (reference: in the final network).
        drop_path: Probability of :class:`~nas_plugins.operations.DropPath` on every operation
            that is not the identity (reference: up to 0.4 in the final network).

    Shapes:
        input ``(batch, in_channels, height, width)``; output ``(batch, num_classes)``, with
        ``auxiliary`` in training a pair of those: logits and auxiliary logits.

    Raises:
        UnsupportedSpaceError: Fewer than three cells.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        kind: {"0": "h_{k-2}", "1": "h_{k-1}", "unread": "h_{k}"} for kind in ("normal", "reduce")
    }
    """Names of a cell's ends in a drawing; read by :mod:`nas_plugins.drawing`."""

    def __init__(
        self,
        choose: Choose,
        channels: int = 20,
        num_cells: int = 8,
        num_nodes: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.1,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(
            choose,
            partial(
                UnusedCell,
                num_blocks=num_nodes,
                operations=OPERATIONS,
                make=partial(_operation, drop_path=drop_path),
                project_twice=True,
            ),
            channels=channels,
            num_cells=num_cells,
            num_classes=num_classes,
            in_channels=in_channels,
            auxiliary=auxiliary,
            dropout=dropout,
        )


def architecture_of_arcs(normal: str, reduce: str) -> Architecture:
    """Read the published strings of numbers: source, operation, source, operation per node.

    Raises:
        ArchitectureError: Not four numbers for each node, or one that is out of range.
    """
    choices: dict[str, str] = {}
    for kind, text in (("normal", normal), ("reduce", reduce)):
        numbers = [int(number) for number in text.split()]
        if len(numbers) % 4 or not all(0 <= n < len(OPERATIONS) for n in numbers[1::2]):
            raise ArchitectureError(
                f"the {kind} cell is {text!r}; expected source, operation, source, operation for "
                f"each node, operations from 0 to {len(OPERATIONS) - 1}"
            )
        for i in range(0, len(numbers), 2):
            label = f"{kind}/{2 + i // 4}/{'xy'[i // 2 % 2]}"
            choices[label] = str(numbers[i])
            choices[f"{label}/operation"] = OPERATIONS[numbers[i + 1]]
    return Architecture(choices)


ENAS_MICRO = architecture_of_arcs(
    "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
)
"""Published with the code, scripts/cifar10_micro_final.sh."""


def enas_micro(
    *,
    channels: int = 20,
    num_cells: int = 8,
    num_nodes: int = 5,
    num_classes: int = 10,
    in_channels: int = 3,
    dropout: float = 0.1,
    auxiliary: bool = False,
    drop_path: float = 0.0,
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
        canonical=canonical_blocks,
        name="enas_micro",
        channels=channels,
        num_cells=num_cells,
        num_nodes=num_nodes,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=dropout,
        auxiliary=auxiliary,
        drop_path=drop_path,
    )
