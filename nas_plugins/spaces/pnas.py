"""The cell space of PNAS, one cell of one to five blocks for both roles.

Liu et al. 2018, arXiv:1712.00559, section 3.
Reference: tensorflow/models@03cdc5f research/slim/nets/nasnet/pnasnet.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nas_plugins.choices import Choose, Factory
from nas_plugins.operations import make_operation
from nas_plugins.space import SearchSpace
from nas_plugins.spaces._cells import (
    Block,
    CellStack,
    MakeOperation,
    Output,
    Projection,
    canonical_blocks,
)
from nas_plugins.spaces.nasnet import architecture_of_blocks

__all__ = ["OPERATIONS", "PNASNET_5", "PNASNET_5_OPTIONS", "PNASCells", "pnas"]

OPERATIONS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_1x7_7x1",
    "identity",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_conv_3x3",
)
"""In the paper's order."""

TINY: Mapping[str, Any] = {
    "channels": 2,
    "num_cells": 3,
    "num_blocks": 2,
    "operations": ["identity", "max_pool_3x3"],
}

_DEPTH = "cell/blocks"
Read = tuple[list[Tensor], Tensor | None]


class AppendingBlock(Block):
    """Appends what a block makes to the tensors that it may read."""

    def forward(self, states: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        return [*states, super().forward(states)]


class Stacked(nn.Module):
    """The blocks of a cell as one tensor ``(batch, most, channels, height, width)``.

    Zeros stand for the blocks that are not there, so that a supernet can mix depths.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, states: list[Tensor]) -> Tensor:
        blocks = states[2:]
        absent = [torch.zeros_like(blocks[0])] * (self.most - len(blocks))
        return torch.stack([*blocks, *absent], dim=1)


class ReadBlock(nn.Module):
    """Adds what one block of an earlier cell contributes to a sum over its blocks."""

    def __init__(self, position: int, edge: nn.Module) -> None:
        super().__init__()
        self.position = position
        self.edge = edge

    def forward(self, read: Read) -> Read:
        blocks, total = read
        out = self.edge(blocks[self.position])
        return blocks, out if total is None else total + out


class Total(nn.Module):
    """The sum, at the end."""

    def forward(self, read: Read) -> Tensor:
        assert read[1] is not None
        return read[1]


class Unstacked(nn.Module):
    """Undoes :class:`Stacked` for a reader."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, stacked: Tensor) -> Tensor:
        return self.reader((list(stacked.unbind(1)), None))


@dataclass
class BlocksOutput(Output):
    """All blocks of a cell, as many as there are.

    Attributes:
        channels: Of each block.
        most: Blocks there may be.
    """

    channels: int
    most: int

    def read(self, choose: Choose, edge: Factory) -> nn.Module:
        return Unstacked(
            choose.repeat(
                _DEPTH, lambda i: ReadBlock(i, edge()), (1, self.most), head=lambda depth: Total()
            )
        )


class Cell(nn.Module):
    """Two inputs, as many blocks as chosen, all of them concatenated.

    Args:
        choose: Answers ``cell/blocks``, how many, and those of
            :class:`~nas_plugins.spaces._cells.Block`, as ``cell/2/x``.
        before, last: Outputs of the last but one and the last cell.
        channels: Of every tensor.
        reduction: Whether this cell halves the resolution.
        after_reduction: Whether the last one did, so that the one before it is too large.
        num_blocks: At most.
        operations, make: Of the blocks.
    """

    def __init__(
        self,
        choose: Choose,
        before: Output,
        last: Output,
        channels: int,
        *,
        reduction: bool,
        after_reduction: bool,
        num_blocks: int,
        operations: Sequence[str],
        make: MakeOperation,
    ) -> None:
        super().__init__()
        self.before = Projection(choose, before, channels, halve=after_reduction)
        self.last = Projection(choose, last, channels)
        stride = 2 if reduction else 1

        def block(i: int) -> nn.Module:
            strides = [stride, stride, *[1] * i]
            return AppendingBlock(choose, f"cell/{2 + i}", strides, channels, operations, make)

        self.blocks = choose.repeat(
            _DEPTH, block, (1, num_blocks), head=lambda depth: Stacked(num_blocks)
        )
        self.output = BlocksOutput(channels, num_blocks)

    def forward(self, before: Any, last: Any) -> Tensor:
        return self.blocks([self.before(before), self.last(last)])


class PNASCells(CellStack):
    """Cells of as many blocks as chosen, the same for both roles.

    The outputs of all blocks are concatenated, as in the reference, read or not.

    Deviations: in the reference the first cell reads the stem's own tensor in place of that
    of two cells before, and here a projection of it. The reference raises drop-path with the
    depth of a cell as well, here it is the same in all.

    Args:
        choose: Answers ``cell/blocks`` (1 to ``num_blocks``), ``cell/2/x`` (the source of
            block 2's first input; 0 and 1 are the two cells before), ``cell/2/x/operation``,
            and the same of ``y``.
        channels: Of a tensor in the first cells; doubled by each reduction (search: F = 24).
        num_cells: All cells, three times the paper's N (search: N = 2): the first of the second
            and of the third N reduces.
        num_blocks: Of a cell at most (paper: B = 5).
        operations: Candidates of a block's sides.
        num_classes: Outputs.
        in_channels: Of the images.
        auxiliary: Whether there is an auxiliary head.
        drop_path: Probability of dropping an operation that is not the identity.

    Shapes:
        input ``(batch, in_channels, height, width)``; output ``(batch, num_classes)``, with
        ``auxiliary`` in training a pair of those: logits and auxiliary logits.

    Raises:
        UnsupportedSpaceError: Fewer than three cells.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cell": {"0": "h_{k-2}", "1": "h_{k-1}", "concat": "h_{k}"}
    }
    """Names of a cell's ends in a drawing."""

    def __init__(
        self,
        choose: Choose,
        channels: int = 24,
        num_cells: int = 6,
        num_blocks: int = 5,
        operations: Sequence[str] = OPERATIONS,
        num_classes: int = 10,
        in_channels: int = 3,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(
            choose,
            partial(
                Cell,
                num_blocks=num_blocks,
                operations=operations,
                make=partial(make_operation, drop_path=drop_path),
            ),
            channels=channels,
            num_cells=num_cells,
            num_classes=num_classes,
            in_channels=in_channels,
            auxiliary=auxiliary,
        )


PNASNET_5 = architecture_of_blocks(
    {
        "cell": [
            ("sep_conv_5x5", 0, "max_pool_3x3", 0),
            ("sep_conv_7x7", 1, "max_pool_3x3", 1),
            ("sep_conv_5x5", 1, "sep_conv_3x3", 1),
            ("sep_conv_3x3", 4, "max_pool_3x3", 1),
            ("sep_conv_3x3", 0, "identity", 1),
        ]
    }
).replace(**{_DEPTH: 5})
"""Found by the paper's search; its figure 1."""

PNASNET_5_OPTIONS: Mapping[str, Any] = {
    "channels": 48,
    "num_cells": 9,
    "auxiliary": True,
    "drop_path": 0.4,
}
"""Of PNASNet-5 on CIFAR-10, N = 3 and F = 48: 3.2M parameters."""


def pnas(
    *,
    channels: int = 24,
    num_cells: int = 6,
    num_blocks: int = 5,
    operations: Sequence[str] = OPERATIONS,
    num_classes: int = 10,
    in_channels: int = 3,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> SearchSpace:
    """The space: ``8^10 * 6!^2``, 5.6e14 cells of five blocks as published, and the smaller ones.

    Block ``i`` (2 to 6) has ``i`` sources and 8 operations for each of its two sides,
    ``(8 i)^2``: 256 cells of one block. The number of blocks is a decision,
    by which :class:`~nas_plugins.strategies.PNAS` goes level by level.

    Args:
        channels: Of a tensor in the first cells; doubled by each reduction.
        num_cells: All cells, three times the paper's N.
        num_blocks: Of a cell at most.
        operations: Candidates of a block's sides.
        num_classes: Outputs.
        in_channels: Of the images.
        auxiliary: Whether there is an auxiliary head.
        drop_path: Probability of dropping an operation that is not the identity.
    """
    return SearchSpace.from_network(
        PNASCells,
        canonical=canonical_blocks,
        name="pnas",
        channels=channels,
        num_cells=num_cells,
        num_blocks=num_blocks,
        operations=list(operations),
        num_classes=num_classes,
        in_channels=in_channels,
        auxiliary=auxiliary,
        drop_path=drop_path,
    )
