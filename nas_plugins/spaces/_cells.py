"""What the spaces of two-input blocks share: blocks, cells, the network that stacks them.

Zoph et al. 2018 (NASNet), arXiv:1707.07012, section 3: a cell reads the outputs of the two
cells before it; each of its blocks applies two operations to two earlier tensors and combines
them; the tensors that no block reads are concatenated.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_plugins.choices import Choose, Factory, MergedInputs
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.operations import FactorizedReduce, ReLUConvBN

__all__ = [
    "AuxiliaryHead",
    "AuxiliaryPool",
    "Block",
    "CellStack",
    "MakeOperation",
    "Output",
    "Projection",
    "UnusedCell",
    "canonical_blocks",
    "canonical_graph",
    "reductions",
]


class MakeOperation(Protocol):
    """Builds an operation by its name."""

    def __call__(self, name: str, channels: int, stride: int) -> nn.Module: ...


# -- blocks -----------------------------------------------------------------------------


class Add(nn.Module):
    """Sum of two tensors."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Concatenate(nn.Module):
    """Concatenation, ReLU, a pointwise convolution to the width of either, batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(self.convolution(torch.relu(torch.cat([x, y], dim=1))))


COMBINATIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "add": lambda channels: Add(),
    "concat": Concatenate,
}


class Block(nn.Module):
    """Two operations, each on an earlier tensor of the cell, combined.

    The weights of an operation belong to its block, its side and its source.

    Args:
        choose: Answers ``normal/3/x`` (the source of block 3's first input, 0 to 2) and
            ``normal/3/x/operation``, likewise ``normal/3/y``; and ``normal/3/combination``
            where there is more than one.
        label: Such as ``normal/3``.
        strides: One for each earlier tensor.
        channels: Of every tensor.
        operations: Names of the candidates.
        make: Builds them.
        combinations: ``add``, ``concat`` or both.
    """

    def __init__(
        self,
        choose: Choose,
        label: str,
        strides: Sequence[int],
        channels: int,
        operations: Sequence[str],
        make: MakeOperation,
        combinations: Sequence[str] = ("add",),
    ) -> None:
        super().__init__()

        def edge(side: str, stride: int) -> nn.Module:
            return choose.layer(
                f"{label}/{side}/operation",  # the same decision, whatever the source
                {name: partial(make, name, channels, stride) for name in operations},
            )

        def chosen(side: str) -> nn.Module:
            sources = {str(i): partial(edge, side, stride) for i, stride in enumerate(strides)}
            return choose.inputs(f"{label}/{side}", sources)

        self.x = chosen("x")
        self.y = chosen("y")
        self.combine: nn.Module
        if len(combinations) == 1:
            self.combine = COMBINATIONS[combinations[0]](channels)
        else:
            self.combine = choose.layer(
                f"{label}/combination",
                {name: partial(COMBINATIONS[name], channels) for name in combinations},
            )

    def forward(self, states: list[Tensor]) -> Tensor:
        return self.combine(self.x(states), self.y(states))


def canonical_blocks(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures that differ by the numbers of blocks, or the sides of inputs, alone.

    Both rename weights that are drawn independently, as
    :func:`nas_plugins.spaces.darts.canonical_cells` explains.
    """
    cells: dict[str, dict[int, list[tuple[int, str]]]] = {}
    for label in sorted(architecture):
        if label.endswith("/operation"):
            source = label.removesuffix("/operation")
            kind, number, _ = source.split("/")
            combination = architecture.get(f"{kind}/{number}/combination", "add")
            edge = (int(str(architecture[source])), f"{architecture[label]} {combination}")
            cells.setdefault(kind, {}).setdefault(int(number), []).append(edge)
    return tuple((kind, canonical_graph(cell)) for kind, cell in sorted(cells.items()))


def canonical_graph(nodes: Mapping[int, Sequence[tuple[int, Hashable]]]) -> Hashable:
    """Equal for cells that differ by the numbers of their nodes, or the order of their edges.

    Args:
        nodes: Number of each intermediate node, from 2, to its edges: source and operation.
    """
    forms = []
    for numbers in itertools.permutations(nodes):
        renamed = {0: 0, 1: 1, **dict(zip(nodes, numbers, strict=True))}
        form = sorted(
            (renamed[to], *sorted((renamed[source], op) for source, op in edges))
            for to, edges in nodes.items()
        )
        forms.append(tuple(form))
    # Numberings that no network has (an edge from a later node) do no harm: isomorphic
    # graphs have the same set of forms, hence the same least one.
    return min(forms)


# -- what a cell gives, and who reads it ------------------------------------------------


class Output(ABC):
    """What the stem or a cell gives: a list of tensors, of which some count as concatenated.

    Attributes:
        channels: Of each tensor.
    """

    channels: int

    @abstractmethod
    def read(self, choose: Choose, edge: Factory) -> nn.Module:
        """A concatenation followed by something linear, as the sum of one ``edge`` per tensor.

        That way a tensor which does not count has no weights, and a supernet has the keys of
        its children. The module maps the list of tensors to the sum.
        """


@dataclass
class StemOutput(Output):
    """The one tensor of the stem."""

    channels: int

    def read(self, choose: Choose, edge: Factory) -> nn.Module:
        return MergedInputs({"stem": edge()}, [0], "sum")


@dataclass
class UnusedOutput(Output):
    """Those tensors of a cell that none of its blocks reads.

    Attributes:
        channels: Of each tensor.
        labels: The blocks' ``inputs`` decisions.
        num_tensors: Of the cell, its inputs first.
        required: Tensors that count though they are read.
    """

    channels: int
    labels: Sequence[str]
    num_tensors: int
    required: Sequence[str] = ()

    def read(self, choose: Choose, edge: Factory) -> nn.Module:
        names = map(str, range(self.num_tensors))
        return choose.unused(self.labels, dict.fromkeys(names, edge), required=self.required)


class Projection(nn.Module):
    """ReLU, pointwise convolution and batch norm of an earlier output, halved where asked."""

    def __init__(
        self, choose: Choose, source: Output, channels: int, *, halve: bool = False
    ) -> None:
        super().__init__()

        def edge() -> nn.Module:
            if halve:
                return FactorizedReduce(source.channels, channels, norm=False)
            return nn.Sequential(nn.ReLU(), nn.Conv2d(source.channels, channels, 1, bias=False))

        self.read = source.read(choose, edge)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, output: list[Tensor]) -> Tensor:
        return self.norm(self.read(output))


class UnusedCell(nn.Module):
    """Two inputs and blocks; the output are the tensors that no block reads.

    Args:
        choose: Answers the decisions of :class:`Block`, as ``normal/…`` or ``reduce/…``.
        before, last: Outputs of the last but one and the last cell.
        channels: Of every tensor.
        num_blocks: Tensors 2, 3, …; 0 and 1 are the outputs of the two cells before.
        reduction: Whether this cell halves the resolution.
        after_reduction: Whether the last one did, so that the one before it is too large.
        operations, make, combinations: Of :class:`Block`.
        concatenated: Cell kind to the tensors that are in its output though they are read.
        project_twice: Whether a second pointwise convolution follows that on the last cell.
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
        combinations: Sequence[str] = ("add",),
        concatenated: Mapping[str, Sequence[str]] | None = None,
        project_twice: bool = False,
    ) -> None:
        super().__init__()
        self.before = Projection(choose, before, channels, halve=after_reduction)
        again = [ReLUConvBN(channels, channels, 1)] if project_twice else []
        self.last = nn.Sequential(Projection(choose, last, channels), *again)
        kind, stride = ("reduce", 2) if reduction else ("normal", 1)
        numbers = range(2, 2 + num_blocks)
        self.blocks = nn.ModuleList(
            Block(
                choose,
                f"{kind}/{number}",
                [stride, stride, *[1] * (number - 2)],
                channels,
                operations,
                make,
                combinations,
            )
            for number in numbers
        )
        labels = [f"{kind}/{number}/{side}" for number in numbers for side in "xy"]
        required = (concatenated or {}).get(kind, ())
        self.output = UnusedOutput(channels, labels, 2 + num_blocks, required)
        # An unused input of a reduction cell is too large for its output. (In a mixture its
        # share enters twice, here and where the output is read.)
        self.halve = nn.ModuleList(
            choose.unused(
                labels,
                {name: partial(FactorizedReduce, channels, channels)},
                required=[name] if name in required else [],
            )
            for name in (("0", "1") if reduction else ())
        )

    def forward(self, before: list[Tensor], last: list[Tensor]) -> list[Tensor]:
        states = [self.before(before), self.last(last)]
        for block in self.blocks:
            states.append(block(states))
        halved = [halve([state]) for halve, state in zip(self.halve, states, strict=False)]
        return [*halved, *states[len(halved) :]]


# -- networks ---------------------------------------------------------------------------


class AuxiliaryPool(nn.Module):
    """ReLU and the pooling before an auxiliary head: to 2x2, from 8x8 as published."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        if min(x.shape[-2:]) >= 8:
            x = F.avg_pool2d(x, 5, stride=3)
        return F.adaptive_avg_pool2d(x, 2)


class AuxiliaryHead(nn.Module):
    """Second classifier, two thirds of the way up, that helps the gradient through training.

    Args:
        read: Pools a cell's output with :class:`AuxiliaryPool` and projects it to 128 channels.
        num_classes: Outputs.
    """

    def __init__(self, read: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.read = read
        self.features = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, output: Tensor | list[Tensor]) -> Tensor:
        return self.classifier(self.features(self.read(output)))

    @staticmethod
    def projection(channels: int) -> nn.Module:
        """Of one tensor."""
        return nn.Sequential(AuxiliaryPool(), nn.Conv2d(channels, 128, 1, bias=False))


class Classifier(nn.Module):
    """ReLU, average over the pixels, dropout, linear classifier."""

    def __init__(self, choose: Choose, source: Output, num_classes: int, dropout: float) -> None:
        super().__init__()

        def edge() -> nn.Module:
            linear = nn.Linear(source.channels, num_classes, bias=False)
            pooled = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
            return nn.Sequential(*pooled, linear)

        self.read = source.read(choose, edge)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, output: list[Tensor]) -> Tensor:
        return self.read(output) + self.bias


class MakeCell(Protocol):
    """Builds a cell, a module from two outputs to its own, with an attribute ``output``."""

    def __call__(
        self,
        choose: Choose,
        before: Output,
        last: Output,
        channels: int,
        *,
        reduction: bool,
        after_reduction: bool,
    ) -> nn.Module: ...


def reductions(num_cells: int) -> tuple[int, int]:
    """Numbers of the two cells that reduce, at one and two thirds.

    Raises:
        UnsupportedSpaceError: Fewer than three cells.
    """
    if num_cells < 3:
        raise UnsupportedSpaceError(
            f"num_cells is {num_cells}; expected at least 3, as two cells reduce and one "
            "at least must not"
        )
    return num_cells // 3, 2 * num_cells // 3


class CellStack(nn.Module):
    """Stem, cells of which those at one and two thirds reduce, classifier.

    Args:
        choose: Answers the cells' decisions.
        make_cell: Builds one.
        channels: Of a tensor in the first cells; doubled by each reduction.
        num_cells: All cells, at least 3, so that both kinds occur.
        num_classes: Outputs.
        in_channels: Of the images.
        auxiliary: Whether there is an auxiliary head, after the second reduction.
        dropout: Probability of dropping a feature of the classifier.

    Shapes:
        input ``(batch, in_channels, height, width)``; output ``(batch, num_classes)``, with
        ``auxiliary`` in training a pair of those: logits and auxiliary logits.

    Raises:
        UnsupportedSpaceError: Fewer than three cells.
    """

    def __init__(
        self,
        choose: Choose,
        make_cell: MakeCell,
        *,
        channels: int,
        num_cells: int,
        num_classes: int,
        in_channels: int,
        auxiliary: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        reducing = reductions(num_cells)
        before: Output = StemOutput(3 * channels)
        last = before
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 3 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(3 * channels),
        )
        self.cells = nn.ModuleList()
        self.auxiliary: nn.Module | None = None
        self._auxiliary_after = reducing[1]
        for i in range(num_cells):
            channels *= 2 if i in reducing else 1
            cell = make_cell(
                choose,
                before,
                last,
                channels,
                reduction=i in reducing,
                after_reduction=i - 1 in reducing,
            )
            self.cells.append(cell)
            before, last = last, cell.output  # type: ignore[assignment]
            if auxiliary and i == self._auxiliary_after:
                read = last.read(choose, partial(AuxiliaryHead.projection, channels))
                self.auxiliary = AuxiliaryHead(read, num_classes)
        self.classifier = Classifier(choose, last, num_classes, dropout)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        auxiliary = None
        before = last = [self.stem(x)]
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if i == self._auxiliary_after and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(last)
        logits = self.classifier(last)
        return logits if auxiliary is None else (logits, auxiliary)
