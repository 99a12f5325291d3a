"""The NASNet cell space, blocks of two operations in a normal and a reduction cell.

Zoph et al. 2018, arXiv:1707.07012, section 3 and appendix A.
Reference: tensorflow/models@03cdc5f research/slim/nets/nasnet/nasnet.py, nasnet_utils.py, for
the cells; tensorflow/tpu@645a455 models/official/amoeba_net/network_utils.py for the operations
that NASNet-A does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from nas_plugins.architecture import Architecture
from nas_plugins.choices import Choose
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.operations import make_operation
from nas_plugins.space import SearchSpace
from nas_plugins.spaces._cells import COMBINATIONS, CellStack, UnusedCell, canonical_blocks

__all__ = [
    "NASNET_A",
    "NASNET_A_OPTIONS",
    "OPERATIONS",
    "NASNet",
    "architecture_of_blocks",
    "nasnet",
]

OPERATIONS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""In the paper's order."""

TINY: Mapping[str, Any] = {
    "channels": 2,
    "num_cells": 3,
    "num_blocks": 2,
    "operations": ["identity", "max_pool_3x3", "conv_1x1"],
}


class NASNet(CellStack):
    """Cells whose unused tensors are concatenated, stacked with two reductions.

    Deviations: in the reference the first cell reads the stem's own tensor in place of that
    of two cells before, and here a projection of it; an unused input of a reduction cell
    passes a ReLU before it is halved. A block's concatenation is followed by a pointwise
    convolution to the common width, as the paper's convolutions "inserted as necessary". The
    reference raises drop-path with the depth of a cell as well, here it is the same in all.

    Args:
        choose: Answers ``normal/2/x`` (the source of block 2's first input), ``…/x/operation``,
            the same of ``y``, ``normal/2/combination``, and ``reduce/…`` likewise.
        channels: Of a tensor in the first cells; doubled by each reduction (search: 32).
        num_cells: All cells; ``3 N + 2`` for the paper's N (search: N = 2).
        num_blocks: Of a cell (paper: B = 5).
        operations: Candidates of a block's sides.
        combinations: Candidates of how they are merged: ``add``, ``concat``.
        concatenated: Cell kind to tensors that are in its output although a block reads them.
        num_classes: Outputs.
        in_channels: Of the images.
        auxiliary: Whether there is an auxiliary head.
        drop_path: Probability of :class:`~nas_plugins.operations.DropPath` on every operation
            that is not the identity. ScheduledDropPath raises it linearly over the training:
            ``drop_path_probability`` of :class:`lightning_modules.ChildClassifier`.

    Shapes:
        input ``(batch, in_channels, height, width)``; output ``(batch, num_classes)``, with
        ``auxiliary`` in training a pair of those: logits and auxiliary logits.

    Raises:
        UnsupportedSpaceError: Fewer than three cells, or an unknown operation or combination.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        kind: {"0": "h_{k-2}", "1": "h_{k-1}", "unread": "h_{k}"} for kind in ("normal", "reduce")
    }
    """Names of a cell's ends in a drawing; read by :mod:`nas_plugins.drawing`."""

    def __init__(
        self,
        choose: Choose,
        channels: int = 32,
        num_cells: int = 8,
        num_blocks: int = 5,
        operations: Sequence[str] = OPERATIONS,
        combinations: Sequence[str] = tuple(COMBINATIONS),
        concatenated: Mapping[str, Sequence[str]] | None = None,
        num_classes: int = 10,
        in_channels: int = 3,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        unknown = set(combinations) - set(COMBINATIONS)
        if unknown or not combinations:
            raise UnsupportedSpaceError(
                f"combinations is {list(combinations)}; expected some of {list(COMBINATIONS)}"
            )
        super().__init__(
            choose,
            partial(
                UnusedCell,
                num_blocks=num_blocks,
                operations=operations,
                make=partial(make_operation, drop_path=drop_path),
                combinations=combinations,
                concatenated=concatenated,
            ),
            channels=channels,
            num_cells=num_cells,
            num_classes=num_classes,
            in_channels=in_channels,
            auxiliary=auxiliary,
        )


def architecture_of_blocks(
    cells: Mapping[str, Sequence[tuple[str, int, str, int]]], *, combination: str | None = None
) -> Architecture:
    """Read cells as they are published.

    Args:
        cells: Kind of cell to its blocks: operation and source, twice. Sources 0 and 1 are the
            outputs of the last but one and the last cell, 2 is the first block.
        combination: Of every block, where the space leaves that open.

    Raises:
        ArchitectureError: A block reads itself or a later one.
    """
    choices: dict[str, str] = {}
    for kind, blocks in cells.items():
        for number, (first, x, second, y) in enumerate(blocks, start=2):
            if not (0 <= x < number and 0 <= y < number):
                raise ArchitectureError(
                    f"block {number} of the {kind} cell reads {x} and {y}; expected tensors "
                    f"from 0 to {number - 1}"
                )
            label = f"{kind}/{number}"
            choices |= {f"{label}/x": str(x), f"{label}/x/operation": first}
            choices |= {f"{label}/y": str(y), f"{label}/y/operation": second}
            if combination is not None:
                choices[f"{label}/combination"] = combination
    return Architecture(choices)


NASNET_A = architecture_of_blocks(
    {
        "normal": [
            ("sep_conv_5x5", 1, "sep_conv_3x3", 0),
            ("sep_conv_5x5", 0, "sep_conv_3x3", 0),
            ("avg_pool_3x3", 1, "identity", 0),
            ("avg_pool_3x3", 0, "avg_pool_3x3", 0),
            ("sep_conv_3x3", 1, "identity", 1),
        ],
        "reduce": [
            ("sep_conv_5x5", 1, "sep_conv_7x7", 0),
            ("max_pool_3x3", 1, "sep_conv_7x7", 0),
            ("avg_pool_3x3", 1, "sep_conv_5x5", 0),
            ("identity", 3, "avg_pool_3x3", 2),
            ("sep_conv_3x3", 2, "max_pool_3x3", 1),
        ],
    },
    combination="add",
)
"""Found by the paper's search; its figure 4."""

NASNET_A_OPTIONS: Mapping[str, Any] = {
    "channels": 32,
    "num_cells": 20,
    "concatenated": {"normal": ["0"], "reduce": ["3"]},
    "auxiliary": True,
    "drop_path": 0.4,
}
"""Of NASNet-A (6 @ 768) on CIFAR-10, 3.3M parameters; the reference concatenates two tensors
that its blocks read, and without them it has 3.1M."""


def nasnet(
    *,
    channels: int = 32,
    num_cells: int = 8,
    num_blocks: int = 5,
    operations: Sequence[str] = OPERATIONS,
    combinations: Sequence[str] = tuple(COMBINATIONS),
    concatenated: Mapping[str, Sequence[str]] | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> SearchSpace:
    """The space: ``(13^10 * 2^5 * 6!^2)^2``, about 5.2e36 architectures.

    That is of five blocks. Block ``i`` (2 to 6) has ``i`` sources and 13 operations for each of
    its two sides, and two combinations, ``2 (13 i)^2``; the product over the blocks is
    ``2^5 * 13^10 * (2*3*4*5*6)^2`` for each of the two cells. The paper gives no number.
    """
    return SearchSpace.from_network(
        NASNet,
        canonical=None if concatenated else canonical_blocks,
        name="nasnet",
        channels=channels,
        num_cells=num_cells,
        num_blocks=num_blocks,
        operations=list(operations),
        combinations=list(combinations),
        concatenated=concatenated and {kind: list(names) for kind, names in concatenated.items()},
        num_classes=num_classes,
        in_channels=in_channels,
        auxiliary=auxiliary,
        drop_path=drop_path,
    )
