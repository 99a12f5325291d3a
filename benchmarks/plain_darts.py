"""DARTS read plainly off its paper, for comparison: what a search step costs without a library.

Liu et al. 2019, arXiv:1806.09055, eq. 1-2 (a cell, a mixed operation) and 5-8 (the bilevel
step, first order and second), with the network of section 3.1.1. Each line is an equation;
nothing is shared with this package's supernets and mutators but the modules of single
operations. The order of parameters is that of the DARTS space's supernet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_plugins.operations import (
    DilatedConv,
    FactorizedReduce,
    PoolBN,
    ReLUConvBN,
    SeparableConv,
    Zero,
)

NODES = (2, 3, 4, 5)
NUM_EDGES = 14

Batch = tuple[Tensor, Tensor]


def operations(channels: int, stride: int) -> nn.ModuleList:
    """The eight candidates of an edge, in the order of the space."""
    skip = nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=False)
    return nn.ModuleList(
        [
            PoolBN("max", channels, stride),
            PoolBN("avg", channels, stride),
            skip,
            SeparableConv(channels, channels, 3, stride, affine=False),
            SeparableConv(channels, channels, 5, stride, affine=False),
            DilatedConv(channels, channels, 3, stride, affine=False),
            DilatedConv(channels, channels, 5, stride, affine=False),
            Zero(stride),
        ]
    )


class Cell(nn.Module):
    def __init__(
        self, c_before: int, c_in: int, channels: int, *, reduction: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        if after_reduction:
            self.before: nn.Module = FactorizedReduce(c_before, channels, affine=False)
        else:
            self.before = ReLUConvBN(c_before, channels, 1, affine=False)
        self.last = ReLUConvBN(c_in, channels, 1, affine=False)
        self.edges = nn.ModuleList(
            operations(channels, 2 if reduction and source < 2 else 1)
            for to in NODES
            for source in range(to)
        )

    def forward(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states = [self.before(before), self.last(last)]
        edges = zip(self.edges, weights, strict=True)
        for to in NODES:
            mixed = []
            for state in states[:to]:  # eq. 2
                candidates, shares = next(edges)
                mixed.append(sum(w * o(state) for w, o in zip(shares, candidates, strict=True)))
            states.append(sum(mixed))  # eq. 1
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """The network that is searched.

    Attributes:
        alphas: Of normal and of reduction cells, each of shape ``(edges, operations)``.
    """

    def __init__(self, channels: int = 16, num_cells: int = 8, num_classes: int = 10) -> None:
        super().__init__()
        c_before = c_in = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, c_in, 3, padding=1, bias=False), nn.BatchNorm2d(c_in)
        )
        self.reductions = (num_cells // 3, 2 * num_cells // 3)
        self.cells = nn.ModuleList()
        for i in range(num_cells):
            reduction, after = i in self.reductions, i - 1 in self.reductions
            channels *= 2 if reduction else 1
            cell = Cell(c_before, c_in, channels, reduction=reduction, after_reduction=after)
            self.cells.append(cell)
            c_before, c_in = c_in, len(NODES) * channels
        self.classifier = nn.Linear(c_in, num_classes)
        self.alphas = [
            (1e-3 * torch.randn(NUM_EDGES, 8)).requires_grad_() for _ in ("normal", "reduce")
        ]

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        shares = [alphas.softmax(dim=-1) for alphas in self.alphas]
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last, shares[i in self.reductions])
        return self.classifier(last.mean(dim=(2, 3)))

    def loss(self, batch: Batch) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)


class Search:
    """Algorithm 1: one step on alphas, then one on the weights.

    Args:
        network: What is searched.
        second_order: Whether alphas' gradient is that of eq. 7, else eq. 6 with xi = 0.
    """

    def __init__(self, network: Network, *, second_order: bool = False) -> None:
        self.network = network
        self.second_order = second_order
        self.weights = list(network.parameters())
        self.sgd = torch.optim.SGD(self.weights, 0.025, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam(network.alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def step(self, train: Batch, valid: Batch) -> float:
        self.adam.zero_grad()
        if self.second_order:
            self._unrolled(train, valid)
        else:
            self.network.loss(valid).backward()
        self.adam.step()
        self.sgd.zero_grad()
        loss = self.network.loss(train)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.sgd.step()
        return loss.item()

    def _unrolled(self, train: Batch, valid: Batch) -> None:
        """Eq. 7 and 8, into the gradients of alphas."""
        alphas, xi = self.network.alphas, 0.025
        slopes = torch.autograd.grad(self.network.loss(train), self.weights)
        virtual = copy.deepcopy(self.network)
        with torch.no_grad():
            for copied, w, slope in zip(virtual.parameters(), self.weights, slopes, strict=True):
                buffer = self.sgd.state[w].get("momentum_buffer", torch.zeros_like(w))
                copied.copy_(w - xi * (0.9 * buffer + slope + 3e-4 * w))
        virtual.alphas = alphas
        found = torch.autograd.grad(virtual.loss(valid), [*alphas, *virtual.parameters()])
        direct, v = found[: len(alphas)], found[len(alphas) :]
        step = 0.01 / torch.cat([x.flatten() for x in v]).norm()
        plus, minus = self._slopes_beside(v, step, train)
        for alpha, d, p, m in zip(alphas, direct, plus, minus, strict=True):
            alpha.grad = d - xi * (p - m) / (2 * step)

    def _slopes_beside(
        self, v: Sequence[Tensor], step: Tensor, batch: Batch
    ) -> Iterator[tuple[Tensor, ...]]:
        """Alphas' gradients at ``w + step * v`` and ``w - step * v``; w is put back."""
        for there, back in ((1, -1), (-1, 1)):
            self._move(v, there * step)
            yield torch.autograd.grad(self.network.loss(batch), self.network.alphas)
            self._move(v, back * step)

    @torch.no_grad()
    def _move(self, v: Sequence[Tensor], step: Tensor) -> None:
        for w, x in zip(self.weights, v, strict=True):
            w.add_(x * step)
