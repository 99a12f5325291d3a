"""PC-DARTS: what partial channels and edge weights compute, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.mutators import PCDARTS
from nas_plugins.spaces import load
from nas_plugins.testing.mutators import Search, cell_space


class StridedNet(nn.Module):
    def __init__(self, choose, channels=8, make=None):
        super().__init__()
        candidates = {
            "conv": lambda: nn.Conv2d(channels, channels, 3, 2, 1),
            "pool": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.BatchNorm2d(channels)),
        }
        self.op = choose.layer("op", {**candidates, **({} if make is None else {"other": make})})

    def forward(self, x):
        return self.op(x)


def test_a_quarter_is_mixed_the_rest_is_pooled_and_all_are_shuffled():
    torch.manual_seed(0)
    supernet = SearchSpace.from_network(StridedNet).supernet()
    wide = supernet.network.op.candidates["conv"].weight.detach().clone()
    PCDARTS(supernet).open_for_weights()
    conv, pool = supernet.network.op.candidates.values()
    torch.testing.assert_close(conv.weight, wide[:2, :2] * 2)
    for size in (6, 7):  # odd sizes round up, as convolutions do
        x = torch.randn(3, 8, size, size)
        p = supernet.gates["op"].weights
        mixed = p[0] * conv(x[:, :2]) + p[1] * pool(x[:, :2])
        passed = F.max_pool2d(x[:, 2:], 2, 2, ceil_mode=True)
        expected = torch.cat([mixed, passed], 1)[:, [0, 2, 4, 6, 1, 3, 5, 7]]
        torch.testing.assert_close(supernet(x), expected)


def test_narrowed_weights_are_distributed_as_fresh_ones():
    torch.manual_seed(0)
    space = SearchSpace.from_network(StridedNet, channels=64)
    supernet = space.supernet()
    PCDARTS(supernet)
    narrow = supernet.network.op.candidates["conv"].weight
    fresh = nn.Conv2d(16, 16, 3, 2, 1).weight
    assert narrow.shape == fresh.shape
    assert narrow.std().item() == pytest.approx(fresh.std().item(), rel=0.05)
    assert narrow.abs().max().item() == pytest.approx(fresh.abs().max().item(), rel=0.02)


def test_edges_are_normalised_and_derived_by_both():
    search = Search(lambda s, seed: PCDARTS(s, warmup=0.0), cell_space())
    mutator = search.mutator
    search.run(0, 2)
    for label in ("node2", "node3"):
        torch.testing.assert_close(search.supernet.gates[label].weights.sum(), torch.tensor(1.0))
    assert any(beta.abs().max() > 0.1**3 for beta in mutator.edge_betas)
    with torch.no_grad():
        for alpha in mutator.alphas:
            alpha.zero_()
        mutator.alphas[mutator.labels.index("3<-0")][0] = 1.0  # strongest operation
        mutator.edge_betas[1].copy_(torch.tensor([-2.0, 1.0, 0.0]))
    assert mutator.derive()[0]["node3"] == "1+2"


def test_gradients_of_betas_are_slopes():
    search = Search(lambda s, seed: PCDARTS(s, warmup=0.0), cell_space())
    mutator = search.mutator.double()
    search.supernet.double()
    search.batches = [(x.double(), y) for x, y in search.batches]
    found = []
    betas = mutator.edge_betas
    hook = mutator.optimizer().register_step_pre_hook(
        lambda *_: found.extend(b.grad.clone() for b in betas)
    )
    before = [p.detach().clone() for p in mutator.parameters()]
    search.architecture_step()
    hook.remove()
    with torch.no_grad():
        for parameter, value in zip(mutator.parameters(), before, strict=True):
            parameter.copy_(value)
    for beta, gradient in zip(betas, found, strict=True):
        for i in range(len(beta)):
            sides = []
            for sign in (1, -1):
                beta.data[i] += sign * 1e-5
                mutator.open_for_weights()
                sides.append(search.loss(search.batches[1]).item())
                beta.data[i] -= sign * 1e-5
            slope = (sides[0] - sides[1]) / 2e-5
            assert gradient[i].item() == pytest.approx(slope, abs=1e-8)


def test_alphas_rest_while_weights_warm_up():
    search = Search(lambda s, seed: PCDARTS(s, warmup=0.5), cell_space())
    assert search.architecture_step() == {}
    search.mutator.open_for_weights(0.5)
    assert "arch_loss" in search.architecture_step()


@pytest.mark.parametrize("name", ["darts", "nas_bench_201"])
def test_takes_the_published_cells(name):
    options = {"channels": 8, "num_cells": 3 if name == "darts" else 1}
    supernet = load(name, **options).supernet()
    before = sum(p.numel() for p in supernet.parameters())
    PCDARTS(supernet).open_for_weights()
    assert sum(p.numel() for p in supernet.parameters()) < before
    assert supernet(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def refused(channels=8, make=None):
    space = SearchSpace.from_network(StridedNet, channels=channels, make=make)
    supernet = space.supernet()
    shapes = [p.shape for p in supernet.parameters()]
    with pytest.raises(UnsupportedSpaceError) as caught:
        PCDARTS(supernet)
    assert [p.shape for p in supernet.parameters()] == shapes
    return str(caught.value)


def test_what_cannot_be_narrowed_is_named():
    assert "candidate 'conv' of 'op' holds Conv2d(6, 6" in refused(6)
    assert "candidate 'other' of 'op' holds a Linear" in refused(make=lambda: nn.Linear(8, 8))
    assert "holds Conv2d(8, 8" in refused(make=lambda: nn.Conv2d(8, 8, 3, 2, 1, groups=2))


def test_a_supernet_is_narrowed_once():
    supernet = cell_space().supernet()
    PCDARTS(supernet)
    with pytest.raises(UnsupportedSpaceError, match="made partial before"):
        PCDARTS(supernet)


def test_candidates_that_widen_are_named():
    class Widening(nn.Module):
        def __init__(self, choose):
            super().__init__()
            self.op = choose.layer("op", {"a": lambda: nn.Conv2d(8, 16, 1)})

        def forward(self, x):
            return self.op(x)

    supernet = SearchSpace.from_network(Widening).supernet()
    PCDARTS(supernet).open_for_weights()
    with pytest.raises(UnsupportedSpaceError, match="make 4 of 2 channels"):
        supernet(torch.randn(1, 8, 4, 4))
