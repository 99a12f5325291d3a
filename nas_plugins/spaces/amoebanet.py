"""The AmoebaNet cell space, NASNet's with eight operations and addition alone.

Real et al. 2019, arXiv:1802.01548, section 3.1 and figures 1 and 5.
Reference: tensorflow/tpu@645a455 models/official/amoeba_net/network_utils.py, and the published
cells in its model_specs.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_plugins.space import SearchSpace
from nas_plugins.spaces._cells import canonical_blocks
from nas_plugins.spaces.nasnet import NASNet, architecture_of_blocks

__all__ = [
    "AMOEBANET_A",
    "AMOEBANET_A_OPTIONS",
    "AMOEBANET_B",
    "AMOEBANET_B_OPERATIONS",
    "AMOEBANET_B_OPTIONS",
    "OPERATIONS",
    "amoebanet",
]

OPERATIONS = (
    "identity",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_sep_conv_3x3",
    "conv_1x7_7x1",
)
"""In the paper's order."""

AMOEBANET_B_OPERATIONS = (
    *OPERATIONS,
    "conv_1x1",
    "conv_3x3",
    "max_pool_2x2",
    "dil_sep_conv_5x5",
)
"""The paper found AmoebaNet-B among more operations; these are the eight and those it has."""

TINY: Mapping[str, Any] = {
    "channels": 2,
    "num_cells": 3,
    "num_blocks": 1,
    "operations": ["avg_pool_3x3", "conv_1x7_7x1"],
}

AMOEBANET_A = architecture_of_blocks(
    {
        "normal": [
            ("avg_pool_3x3", 1, "max_pool_3x3", 1),
            ("sep_conv_3x3", 0, "identity", 0),
            ("identity", 1, "avg_pool_3x3", 0),
            ("sep_conv_3x3", 1, "sep_conv_5x5", 2),
            ("avg_pool_3x3", 5, "sep_conv_3x3", 1),
        ],
        "reduce": [
            ("sep_conv_3x3", 0, "avg_pool_3x3", 1),
            ("max_pool_3x3", 1, "sep_conv_7x7", 2),
            ("max_pool_3x3", 0, "max_pool_3x3", 1),
            ("sep_conv_3x3", 4, "conv_1x7_7x1", 1),
            ("avg_pool_3x3", 0, "sep_conv_7x7", 1),
        ],
    }
)
"""Found by the paper's search, as its code has it."""

AMOEBANET_A_OPTIONS: Mapping[str, Any] = {
    "channels": 36,
    "num_cells": 20,
    "concatenated": {"normal": ["0"], "reduce": ["2", "4"]},
    "auxiliary": True,
    "drop_path": 0.3,
}
"""Of the network with N = 6 and F = 36, 3.2M parameters (F = 32: 2.6M). As with NASNet-A, the
code concatenates tensors that are read."""

AMOEBANET_B = architecture_of_blocks(
    {
        "normal": [
            ("conv_1x1", 0, "max_pool_3x3", 0),
            ("identity", 0, "sep_conv_3x3", 1),
            ("conv_1x1", 0, "sep_conv_3x3", 1),
            ("conv_1x1", 2, "identity", 2),
            ("avg_pool_3x3", 0, "conv_1x1", 5),
        ],
        "reduce": [
            ("max_pool_2x2", 1, "max_pool_3x3", 1),
            ("identity", 2, "conv_3x3", 0),
            ("dil_sep_conv_5x5", 2, "max_pool_3x3", 2),
            ("identity", 3, "sep_conv_3x3", 0),
            ("avg_pool_3x3", 4, "conv_1x1", 3),
        ],
    }
)
"""Found by the paper among more operations, see :data:`AMOEBANET_B_OPERATIONS`."""

AMOEBANET_B_OPTIONS: Mapping[str, Any] = {
    **AMOEBANET_A_OPTIONS,
    "concatenated": {"normal": ["1"]},
}
"""Of the network with N = 6 and F = 36, 2.8M parameters (F = 128: 34.9M)."""


def amoebanet(
    *,
    channels: int = 24,
    num_cells: int = 11,
    num_blocks: int = 5,
    operations: Sequence[str] = OPERATIONS,
    concatenated: Mapping[str, Sequence[str]] | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> SearchSpace:
    """The space: ``(8^10 * 6!^2)^2``, about 3.1e29 architectures.

    That is of five blocks: of :func:`~nas_plugins.spaces.nasnet.nasnet` with 8 operations in
    place of 13 and one combination in place of two. The defaults are those of the paper's
    search, N = 3 and F = 24. The paper gives no number.

    Args:
        channels: Of a tensor in the first cells; doubled by each reduction.
        num_cells: All cells; ``3 N + 2`` for the paper's N.
        num_blocks: Of a cell.
        operations: Candidates of a block's sides.
        concatenated: Cell kind to tensors that are in its output although a block reads them.
        num_classes: Outputs.
        in_channels: Of the images.
        auxiliary: Whether there is an auxiliary head.
        drop_path: Probability of dropping an operation that is not the identity.
    """
    return SearchSpace.from_network(
        NASNet,
        canonical=None if concatenated else canonical_blocks,
        name="amoebanet",
        channels=channels,
        num_cells=num_cells,
        num_blocks=num_blocks,
        operations=list(operations),
        combinations=["add"],
        concatenated=concatenated and {kind: list(names) for kind, names in concatenated.items()},
        num_classes=num_classes,
        in_channels=in_channels,
        auxiliary=auxiliary,
        drop_path=drop_path,
    )
