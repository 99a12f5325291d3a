"""The whole of a DARTS search against the paper read plainly, which the benchmarks measure."""

import pytest
import torch

from benchmarks import plain_darts
from nas_plugins import spaces
from nas_plugins.mutators import DARTS


def edge_labels():
    return [
        [f"{kind}/{to}<-{source}" for to in plain_darts.NODES for source in range(to)]
        for kind in ("normal", "reduce")
    ]


@pytest.mark.parametrize("order", [1, 2])
def test_steps_are_those_of_the_paper(order):
    torch.manual_seed(0)
    supernet = spaces.load("darts", channels=2, num_cells=3).supernet().double()
    mutator = DARTS(supernet, order=order).double()
    plain = plain_darts.Network(channels=2, num_cells=3).double()
    alphas = dict(zip(mutator.labels, mutator.alphas, strict=True))
    with torch.no_grad():
        for ours, theirs in zip(supernet.parameters(), plain.parameters(), strict=True):
            theirs.copy_(ours)
    plain.alphas = [
        torch.stack([alphas[label].detach() for label in of]).requires_grad_()
        for of in edge_labels()
    ]
    search = plain_darts.Search(plain, second_order=order == 2)
    optimizer = torch.optim.SGD(supernet.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    train, valid = [
        (torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([1, 3, 5, 7])) for _ in "ab"
    ]

    def loss(batch):
        return torch.nn.functional.cross_entropy(supernet(batch[0]), batch[1])

    for _ in range(2):
        search.step(train, valid)
        mutator.architecture_step(loss, train, valid, optimizer)
        mutator.open_for_weights()
        optimizer.zero_grad()
        loss(train).backward()
        torch.nn.utils.clip_grad_norm_(supernet.parameters(), 5.0)
        optimizer.step()
    for of, theirs in zip(edge_labels(), plain.alphas, strict=True):
        ours = torch.stack([alphas[label] for label in of])
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    for ours, theirs in zip(supernet.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
