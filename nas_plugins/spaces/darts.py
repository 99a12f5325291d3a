"""The DARTS cell space, with its search network and its evaluation network.

Liu et al. 2019, arXiv:1806.09055, section 2.1 and appendix A.1.
Reference: quark0/darts@f276dd3 cnn/model.py, cnn/model_search.py, cnn/genotypes.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.choices import Choose
from nas_plugins.errors import ArchitectureError
from nas_plugins.operations import (
    DilatedConv,
    DropPath,
    FactorizedReduce,
    PoolBN,
    ReLUConvBN,
    SeparableConv,
    Zero,
)
from nas_plugins.space import SearchSpace
from nas_plugins.spaces._cells import AuxiliaryHead, canonical_graph, reductions

__all__ = [
    "DARTS",
    "DARTS_V1",
    "DARTS_V2",
    "EVALUATION",
    "OPERATIONS",
    "SEARCH",
    "architecture_of_genotype",
    "canonical_cells",
    "darts",
]

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""What an architecture may choose; the supernet mixes ``none`` with them."""

NODES = (2, 3, 4, 5)
"""Intermediate nodes of a cell; 0 and 1 are the outputs of the two cells before it."""

SEARCH: Mapping[str, Any] = {
    "channels": 16,
    "num_cells": 8,
    "affine": False,
    "auxiliary": False,
    "drop_path": 0.0,
}
"""Options of the network that is searched, the paper's."""

EVALUATION: Mapping[str, Any] = {
    "channels": 36,
    "num_cells": 20,
    "affine": True,
    "auxiliary": True,
    "drop_path": 0.2,
}
"""Options of the network that is trained from scratch afterwards, the paper's."""

TINY: Mapping[str, Any] = {"channels": 4, "num_cells": 3}


def _operation(name: str, channels: int, stride: int, affine: bool, drop_path: float) -> nn.Module:
    if name == "none":
        return Zero(stride)
    if name == "skip_connect" and stride == 1:
        return nn.Identity()  # the one operation drop-path spares
    kind, kernel = name.rsplit("_", 1)
    size = int(kernel[0]) if kernel[0].isdigit() else 0
    module: nn.Module
    if kind == "skip":
        module = FactorizedReduce(channels, channels, affine=affine)
    elif kind == "sep_conv":
        module = SeparableConv(channels, channels, size, stride, affine=affine)
    elif kind == "dil_conv":
        module = DilatedConv(channels, channels, size, stride, affine=affine)
    else:  # a pool needs normalising only where it is weighed against other operations
        module = PoolBN(kind[:3], channels, stride, norm=not affine)
    return nn.Sequential(module, DropPath(drop_path))


class Cell(nn.Module):
    """Two inputs, four nodes each the sum of two earlier ones, all four concatenated.

    Args:
        choose: Answers ``normal/3`` (which two inputs node 3 keeps, as ``"0+2"``) and
            ``normal/3<-2`` (the operation on that edge), ``reduce/…`` likewise.
        c_before, c_in: Channels of the outputs of the last but one and the last cell.
        channels: Of each node; the output has four times as many.
        reduction: Whether this cell halves the resolution.
        after_reduction: Whether the last one did, so that the one before it is too large.
    """

    def __init__(
        self,
        choose: Choose,
        c_before: int,
        c_in: int,
        channels: int,
        *,
        reduction: bool,
        after_reduction: bool,
        affine: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.before: nn.Module
        if after_reduction:
            self.before = FactorizedReduce(c_before, channels, affine=affine)
        else:
            self.before = ReLUConvBN(c_before, channels, 1, affine=affine)
        self.last = ReLUConvBN(c_in, channels, 1, affine=affine)
        kind = "reduce" if reduction else "normal"

        def edge(to: int, source: int) -> nn.Module:
            stride = 2 if reduction and source < 2 else 1
            make = partial(
                _operation, channels=channels, stride=stride, affine=affine, drop_path=drop_path
            )
            return choose.layer(
                f"{kind}/{to}<-{source}",
                {name: partial(make, name) for name in OPERATIONS},
                only_in_mixture={"none": partial(make, "none")},
            )

        self.nodes = nn.ModuleList(
            choose.inputs(
                f"{kind}/{to}",
                {str(source): partial(edge, to, source) for source in range(to)},
                num_chosen=2,
            )
            for to in NODES
        )

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [self.before(before), self.last(last)]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat(states[2:], dim=1)


class DARTS(nn.Module):
    """Stem, cells of which those at one and two thirds reduce, classifier.

    Args:
        choose: Answers the decisions of :class:`Cell`.
        channels: Of a node in the first cells; doubled by each reduction.
        num_cells: All cells, at least 3, so that both kinds occur.
        num_classes: Outputs.
        in_channels: Of the images.
        affine: Whether batch norms have weights. Without, as in search, pools are
            normalised too, so that operations can be weighed against each other.
        auxiliary: Whether there is an auxiliary head.
        drop_path: Probability of :class:`~nas_plugins.operations.DropPath` on every edge
            that is not the identity.

    Shapes:
        input ``(batch, in_channels, height, width)``; output ``(batch, num_classes)``, with
        ``auxiliary`` in training a pair of those: logits and auxiliary logits.

    Raises:
        UnsupportedSpaceError: Fewer than three cells.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        kind: {"0": "c_{k-2}", "1": "c_{k-1}", "concat": "c_{k}"} for kind in ("normal", "reduce")
    }
    """Names of a cell's ends in a drawing, the paper's; read by :mod:`nas_plugins.drawing`."""

    def __init__(
        self,
        choose: Choose,
        channels: int = 16,
        num_cells: int = 8,
        num_classes: int = 10,
        in_channels: int = 3,
        affine: bool = False,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        reducing = reductions(num_cells)
        c_before = c_in = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_in, 3, padding=1, bias=False), nn.BatchNorm2d(c_in)
        )
        self.cells = nn.ModuleList()
        for i in range(num_cells):
            channels *= 2 if i in reducing else 1
            cell = Cell(
                choose,
                c_before,
                c_in,
                channels,
                reduction=i in reducing,
                after_reduction=i - 1 in reducing,
                affine=affine,
                drop_path=drop_path,
            )
            self.cells.append(cell)
            c_before, c_in = c_in, len(NODES) * channels
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(c_in, num_classes)
        # The cells after the second reduction have the same width as the reduction itself.
        self.auxiliary = (
            AuxiliaryHead(AuxiliaryHead.projection(c_in), num_classes) if auxiliary else None
        )
        self._auxiliary_after = reducing[1]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        auxiliary = None
        before = last = self.stem(x)
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if i == self._auxiliary_after and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(last)
        logits = self.classifier(self.head(last))
        return logits if auxiliary is None else (logits, auxiliary)


def canonical_cells(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures that differ by the numbers of intermediate nodes alone.

    Renumbering the nodes of a cell permutes blocks of channels in its output. Whatever reads
    that output (the next two cells, the auxiliary head, the classifier) starts with a
    pointwise or fully connected layer, which takes the permutation into its weights, and
    those are drawn independently: both are the same family of functions with the same
    distribution at initialisation, only their floating-point sums differ. Nothing else is
    identified: cells whose equality is algebra (a sum of skips written in two ways) stay
    apart, and so do cells that unfold to the same tree but share a node or do not.
    """
    return tuple(_canonical_cell(architecture, kind) for kind in ("normal", "reduce"))


def _canonical_cell(architecture: Mapping[str, object], kind: str) -> Hashable:
    nodes = {
        to: [
            (int(source), architecture[f"{kind}/{to}<-{source}"])
            for source in str(architecture[f"{kind}/{to}"]).split("+")
        ]
        for to in NODES
    }
    return canonical_graph(nodes)


def architecture_of_genotype(genotype: object) -> Architecture:
    """Read a published genotype.

    Args:
        genotype: Attributes, or keys, ``normal`` and ``reduce``: eight pairs of operation
            and source, two in a row for each node. ``normal_concat`` and ``reduce_concat``,
            where there, must name all four nodes.

    Raises:
        ArchitectureError: Not of this space; the message names the cell and the node.
    """
    parts: Mapping[str, Any] = genotype if isinstance(genotype, Mapping) else _Attributes(genotype)
    choices: dict[str, str] = {}
    for kind in ("normal", "reduce"):
        choices.update(_choices_of_genes(kind, parts[kind]))
        concatenated = sorted(parts.get(f"{kind}_concat", NODES))
        if concatenated != list(NODES):
            raise ArchitectureError(
                f"the genotype's {kind} cell concatenates nodes {concatenated}; expected all of "
                f"{list(NODES)}"
            )
    return Architecture(choices)


class _Attributes(dict[str, Any]):
    """A named tuple of genes as a mapping."""

    def __init__(self, genotype: object) -> None:
        names = [f"{kind}{part}" for kind in ("normal", "reduce") for part in ("", "_concat")]
        super().__init__({n: getattr(genotype, n) for n in names if hasattr(genotype, n)})


def _choices_of_genes(kind: str, genes: Sequence[tuple[str, int]]) -> dict[str, str]:
    if len(genes) != 2 * len(NODES):
        raise ArchitectureError(
            f"the genotype's {kind} cell has {len(genes)} edges; expected {2 * len(NODES)}, two "
            f"for each of the nodes {list(NODES)}"
        )
    choices = {}
    for i, to in enumerate(NODES):
        pair = genes[2 * i : 2 * i + 2]
        operations = {int(source): operation for operation, source in pair}
        sources = sorted(operations)
        if len(sources) < 2 or not 0 <= sources[0] < sources[1] < to:
            raise ArchitectureError(
                f"node {to} of the genotype's {kind} cell has the inputs "
                f"{[source for _, source in pair]}; expected two different nodes below {to}"
            )
        choices[f"{kind}/{to}"] = "+".join(str(source) for source in sources)
        for source, operation in operations.items():
            if operation not in OPERATIONS:
                raise ArchitectureError(
                    f"node {to} of the genotype's {kind} cell has the operation {operation!r}; "
                    f"expected one of {list(OPERATIONS)}"
                )
            choices[f"{kind}/{to}<-{source}"] = operation
    return choices


DARTS_V1 = architecture_of_genotype(
    {
        "normal": [
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 0)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 0), ("skip_connect", 2)),
        ],
        "reduce": [
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_3x3", 0)),
            *(("max_pool_3x3", 0), ("skip_connect", 2)),
            *(("skip_connect", 2), ("avg_pool_3x3", 0)),
        ],
    }
)
"""Found by the paper's first-order search."""

DARTS_V2 = architecture_of_genotype(
    {
        "normal": [
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 1), ("skip_connect", 0)),
            *(("skip_connect", 0), ("dil_conv_3x3", 2)),
        ],
        "reduce": [
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            *(("skip_connect", 2), ("max_pool_3x3", 1)),
            *(("max_pool_3x3", 0), ("skip_connect", 2)),
            *(("skip_connect", 2), ("max_pool_3x3", 1)),
        ],
    }
)
"""Found by the paper's second-order search."""


def darts(
    *,
    evaluation: bool = False,
    channels: int | None = None,
    num_cells: int | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    affine: bool | None = None,
    auxiliary: bool | None = None,
    drop_path: float | None = None,
) -> SearchSpace:
    """The space: (180 * 7^8)^2, about 1.08e18 architectures, as published.

    Node ``i`` (2 to 5) keeps two of ``i`` inputs, ``1 * 3 * 6 * 10 = 180`` ways for a cell, each
    of its eight edges has one of seven operations, and there are two cells.

    The labels do not depend on the options: what one network finds, the other builds, here
    or by ``space.build(architecture, **EVALUATION)``.

    Args:
        evaluation: Whether options left out are :data:`EVALUATION`'s, not :data:`SEARCH`'s.
        channels: Of a node in the first cells.
        num_cells: All cells.
        num_classes: Outputs.
        in_channels: Of the images.
        affine: Whether batch norms have weights; without, pools are normalised too.
        auxiliary: Whether there is an auxiliary head.
        drop_path: Probability of dropping an edge that is not the identity.
    """
    given = {
        "channels": channels,
        "num_cells": num_cells,
        "affine": affine,
        "auxiliary": auxiliary,
        "drop_path": drop_path,
    }
    mode = EVALUATION if evaluation else SEARCH
    return SearchSpace.from_network(
        DARTS,
        canonical=canonical_cells,
        name="darts",
        num_classes=num_classes,
        in_channels=in_channels,
        **{**mode, **{name: value for name, value in given.items() if value is not None}},
    )
