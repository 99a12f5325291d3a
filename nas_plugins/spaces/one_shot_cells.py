"""The cells of one-shot search, choice blocks from which candidates are zeroed out.

Bender et al. 2018, Understanding and Simplifying One-Shot Architecture Search (ICML),
section 3.1 and figure 3.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nas_plugins.choices import Choose
from nas_plugins.decision import INPUT_SEPARATOR
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.operations import FactorizedReduce, ReLUConvBN, Zero, make_operation
from nas_plugins.space import SearchSpace
from nas_plugins.spaces._cells import canonical_graph, reductions

__all__ = ["OPERATIONS", "OneShotCells", "canonical_choices", "one_shot_cells"]

OPERATIONS = (
    "identity",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_1x7_7x1",
    "max_pool_3x3",
    "avg_pool_3x3",
)

TINY: Mapping[str, Any] = {
    "channels": 2,
    "num_cells": 3,
    "num_blocks": 2,
    "operations": ["identity", "max_pool_3x3", "conv_1x1"],
}

NONE = "none"


def _up_to_two(
    choose: Choose, label: str, candidates: Mapping[str, Callable[[], nn.Module]]
) -> Any:
    """One or two of the candidates: two of them and of nothing."""
    return choose.inputs(label, {**candidates, NONE: Zero}, num_chosen=2)


class ChoiceBlock(nn.Module):
    """Concatenates one or two tensors, projects them, and sums one or two operations on that.

    Args:
        choose: Answers ``cell/3/inputs``, such as ``"0+2"``, or ``"2+none"`` of a single one,
            and ``cell/3/operations``, such as ``"identity+max_pool_3x3"``.
        label: Such as ``cell/3``.
        sources: Names of the tensors that it may read.
        channels: Of every tensor.
        operations: Names of the candidates.
        drop_path: Probability of dropping an operation that is not the identity.
    """

    def __init__(
        self,
        choose: Choose,
        label: str,
        sources: list[str],
        channels: int,
        *,
        operations: Sequence[str],
        drop_path: float,
    ) -> None:
        super().__init__()

        def project() -> nn.Module:
            return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False))

        # The convolution of the concatenation, as a sum of one convolution per tensor.
        self.inputs = _up_to_two(choose, f"{label}/inputs", dict.fromkeys(sources, project))
        self.norm = nn.BatchNorm2d(channels)
        self.operations = _up_to_two(
            choose,
            f"{label}/operations",
            {
                name: partial(make_operation, name, channels, 1, drop_path=drop_path)
                for name in operations
            },
        )
        self._num_operations = len(operations)

    def forward(self, states: list[Tensor]) -> Tensor:
        x = self.norm(self.inputs([*states, states[0]]))  # the last is for none
        return self.operations([x] * (self._num_operations + 1))


class Cell(nn.Module):
    """Choice blocks over the outputs of one or two cells before; all blocks concatenated.

    Args:
        choose: Answers the decisions of :class:`ChoiceBlock`.
        c_before, c_in: Channels of the outputs of the last but one and the last cell; of the
            former ``None`` where it is not read.
        channels: Of each block; the output has ``num_blocks`` times as many.
        num_blocks: Blocks 2, 3, …; 0 and 1 are the outputs of the two cells before.
        after_reduction: Whether the last cell is of half the size of the one before it.
        operations, drop_path: Of :class:`ChoiceBlock`.
    """

    def __init__(
        self,
        choose: Choose,
        c_before: int | None,
        c_in: int,
        channels: int,
        num_blocks: int,
        *,
        after_reduction: bool,
        operations: Sequence[str],
        drop_path: float,
    ) -> None:
        super().__init__()
        self.before: nn.Module | None = None
        if c_before is not None and after_reduction:
            self.before = FactorizedReduce(c_before, channels)
        elif c_before is not None:
            self.before = ReLUConvBN(c_before, channels, 1)
        self.last = ReLUConvBN(c_in, channels, 1)
        sources = ["1"] if c_before is None else ["0", "1"]
        self.blocks = nn.ModuleList()
        for number in range(2, 2 + num_blocks):
            block = ChoiceBlock(
                choose,
                f"cell/{number}",
                [*sources],
                channels,
                operations=operations,
                drop_path=drop_path,
            )
            self.blocks.append(block)
            sources.append(str(number))

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [self.last(last)]
        if self.before is not None:
            states.insert(0, self.before(before))
        num_inputs = len(states)
        for block in self.blocks:
            states.append(block(states))
        return torch.cat(states[num_inputs:], dim=1)


class OneShotCells(nn.Module):
    """Stem, cells that are all alike, classifier; pooling before the two at one and two thirds.

    Made for :class:`nas_plugins.mutators.OneShot`: a supernet sums all candidates, path dropout
    zeroes out more and more of them, and an architecture keeps one or two inputs and operations
    of each block.

    Deviations: batch norms are over the whole batch, in the paper over parts of it.

    Args:
        choose: Answers the decisions of :class:`ChoiceBlock`.
        channels: Of a block in the first cells; doubled by each pooling.
        num_cells: All cells, at least 3 (paper: 8).
        num_blocks: Choice blocks of a cell (paper: 4).
        num_predecessors: How many cells before are read, 1 or 2.
        operations: Candidates of a block.
        num_classes: Outputs.
        in_channels: Of the images.
        drop_path: Probability of dropping an operation that is not the identity.

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.

    Raises:
        UnsupportedSpaceError: Fewer than three cells, or another number of predecessors.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {"cell": {"concat": "output"}}
    """All blocks are joined in a drawing; read by :mod:`nas_plugins.drawing`."""

    def __init__(
        self,
        choose: Choose,
        channels: int = 16,
        num_cells: int = 8,
        num_blocks: int = 4,
        num_predecessors: int = 2,
        operations: Sequence[str] = OPERATIONS,
        num_classes: int = 10,
        in_channels: int = 3,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if num_predecessors not in (1, 2):
            raise UnsupportedSpaceError(
                f"num_predecessors is {num_predecessors}; expected 1 or 2 cells"
            )
        pooling = reductions(num_cells)
        c_before = c_in = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_in, 3, padding=1, bias=False), nn.BatchNorm2d(c_in)
        )
        self.cells = nn.ModuleList()
        for i in range(num_cells):
            channels *= 2 if i in pooling else 1
            self.cells.append(
                Cell(
                    choose,
                    c_before if num_predecessors == 2 else None,
                    c_in,
                    channels,
                    num_blocks,
                    after_reduction=i in pooling,
                    operations=operations,
                    drop_path=drop_path,
                )
            )
            c_before, c_in = c_in, num_blocks * channels
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self._pooling = pooling
        self.head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for i, cell in enumerate(self.cells):
            pooled = self.pool(last) if i in self._pooling else last
            before, last = pooled, cell(before, pooled)
        return self.classifier(self.head(last))


def canonical_choices(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures that differ by the numbers of blocks alone.

    They are renamed by weights that are drawn independently, as
    :func:`nas_plugins.spaces.darts.canonical_cells` explains.
    """
    blocks: dict[int, list[tuple[int, str]]] = {}
    for label, choice in architecture.items():
        cell, number, part = label.split("/")
        if part == "inputs":
            operations = str(architecture[f"{cell}/{number}/operations"])
            sources = [name for name in str(choice).split(INPUT_SEPARATOR) if name != NONE]
            blocks[int(number)] = [(int(source), operations) for source in sources]
    return canonical_graph(dict(sorted(blocks.items())))


def one_shot_cells(
    *,
    channels: int = 16,
    num_cells: int = 8,
    num_blocks: int = 4,
    num_predecessors: int = 2,
    operations: Sequence[str] = OPERATIONS,
    num_classes: int = 10,
    in_channels: int = 3,
    drop_path: float = 0.0,
) -> SearchSpace:
    """The space: ``28^4 * 3 * 6 * 10 * 15``, about 1.7e9 architectures.

    One or two of seven operations are ``7 + 21 = 28``, one or two of ``n`` inputs ``n (n+1)/2``:
    3, 6, 10 and 15 for the four blocks. The paper gives no number.

    Args:
        channels: Of a block in the first cells; doubled by each pooling.
        num_cells: All cells.
        num_blocks: Choice blocks of a cell.
        num_predecessors: How many cells before are read, 1 or 2.
        operations: Candidates of a block.
        num_classes: Outputs.
        in_channels: Of the images.
        drop_path: Probability of dropping an operation that is not the identity.
    """
    return SearchSpace.from_network(
        OneShotCells,
        canonical=canonical_choices,
        name="one_shot_cells",
        channels=channels,
        num_cells=num_cells,
        num_blocks=num_blocks,
        num_predecessors=num_predecessors,
        operations=list(operations),
        num_classes=num_classes,
        in_channels=in_channels,
        drop_path=drop_path,
    )
