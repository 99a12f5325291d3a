"""Larger networks give what the smaller ones gave, until they are trained."""

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import spaces
from nas_plugins.estimators.channel_groups import ChannelGroups
from nas_plugins.estimators.morphisms import MorphismError, SkippedConv, add_skip, deepen, widen

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def images(dtype=torch.float64, channels=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, channels, 8, 8, generator=generator, dtype=dtype)


def used(network, x):
    """With running statistics that are not those of a fresh network."""
    network.train()
    with torch.no_grad():
        network(2 * x + 1)
    return network


def outputs(network, x, training):
    network.train(training)
    with torch.no_grad():
        out = network(x)
    return out[0] if isinstance(out, tuple) else out


def assert_equal_functions(network, other, x, modes=(True, False)):
    for training in modes:
        difference = outputs(network, x, training) - outputs(other, x, training)
        assert difference.abs().max() < TOLERANCE[x.dtype]


class Residual(nn.Module):
    """A stem whose channels a block adds to, a depthwise filter, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, groups=4),
            nn.Conv2d(4, 6, 1),
            nn.ReLU(),
            nn.Conv2d(6, 4, 1),
        )
        self.side = nn.Conv2d(4, 5, 1)
        self.norm = nn.BatchNorm2d(9)
        self.head = nn.Linear(9 * 4, 7)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.block(x)
        x = torch.cat([x, torch.relu(self.side(x))], dim=1)
        x = nn.functional.adaptive_avg_pool2d(self.norm(x), 2)
        return self.head(x.view(x.size(0), -1))


# -- wider ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layer", ["stem.0", "block.1", "block.3", "side"])
def test_wider_is_the_same_function(layer, dtype):
    torch.manual_seed(0)
    x = images(dtype)
    network = used(Residual().to(dtype), x)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    wider = widen(network, layer, 11)
    assert wider.get_submodule(layer).out_channels == 11
    assert_equal_functions(network, wider, x, modes=(False, True))
    widths = {"stem.0": 4, "block.3": 4, "block.1": 6, "side": 5}
    assert network.get_submodule(layer).out_channels == widths[layer]
    assert before.keys() == network.state_dict().keys()


def test_tied_channels_are_widened_together():
    wider = widen(Residual(), "stem.0", 10)
    assert wider.block[3].out_channels == 10  # what is added
    assert wider.block[0].groups == wider.block[0].in_channels == 10  # what is filtered
    assert wider.stem[1].num_features == 10
    assert (wider.side.in_channels, wider.side.out_channels) == (10, 5)
    assert wider.norm.num_features == 10 + 5
    assert wider.head.in_features == (10 + 5) * 4
    assert (wider.block[1].in_channels, wider.block[1].out_channels) == (10, 6)


def test_copies_are_drawn_and_their_readers_share():
    """Chen et al.: rows are copied, columns divided by the number of copies."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    first, last = network[0].weight.detach(), network[2].weight.detach()
    wider = widen(network, "0", 50, seed=4)
    rows = wider[0].weight.detach()
    assert torch.equal(rows[:3], first)
    source = [int((first == row).all(dim=1).nonzero()) for row in rows]
    assert set(source[3:]) == {0, 1, 2}
    counts = np.bincount(source)
    for column, i in zip(wider[2].weight.detach().T, source, strict=True):
        torch.testing.assert_close(column, last[:, i] / counts[i])
    again, other = widen(network, "0", 50, seed=4), widen(network, "0", 50, seed=5)
    assert torch.equal(again[0].weight, rows)
    assert not torch.equal(other[0].weight, rows)


SPACES = {
    "nas_bench_201": {"channels": 4, "num_cells": 1},
    "enas_macro": {"channels": 6, "num_layers": 6},
    "proxylessnas": {},
}


@pytest.mark.parametrize("name", SPACES)
def test_children_of_spaces(name):
    """Every group of channels that can be widened, by one of its layers."""
    space = spaces.load(name, **SPACES[name])
    torch.manual_seed(0)
    network = space.build(space.sample(np.random.default_rng(1))).double()
    x = images() if name != "proxylessnas" else images().repeat(1, 1, 4, 4)
    used(network, x).eval()
    groups, seen = ChannelGroups(network), set()
    for layer, segment in groups.produced.items():
        group = groups.group(segment.unit)
        if group in seen or groups.reason_fixed(segment.unit) is not None or len(seen) == 4:
            continue
        seen.add(group)
        wider = widen(network, layer, segment.size + 3)
        assert sum(p.numel() for p in wider.parameters()) > sum(
            p.numel() for p in network.parameters()
        )
        assert_equal_functions(network, wider, x, modes=(False,))
    assert len(seen) > 2


class Unlike(nn.Module):
    """Channels of ``first`` meet what a test puts in the middle."""

    def __init__(self, middle, functional=None):
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 1), middle, nn.Conv2d(4, 2, 1)
        self.functional = functional or (lambda x: x)

    def forward(self, x):
        return self.last(self.functional(self.middle(self.first(x))))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Unlike(nn.Conv2d(4, 4, 3, padding=1, groups=2)), "'middle', a Conv2d"),
        (Unlike(nn.GroupNorm(2, 4)), "'middle', a GroupNorm"),
        (Unlike(nn.Softmax(dim=1)), "'middle', a Softmax"),
        (Unlike(nn.Identity(), lambda x: x.softmax(1)), "'softmax'"),
        (Unlike(nn.Identity(), lambda x: x.flip(1)), "'flip'"),
        (Unlike(nn.Identity(), lambda x: torch.cat([x[:, :2], x[:, 2:]], 1)), "'getitem'"),
        (Unlike(nn.Identity(), lambda x: x.mean(1, keepdim=True) + x), "'mean'"),
    ],
)
def test_what_notices_the_width_is_named(network, reason):
    with pytest.raises(MorphismError, match=reason):
        widen(network, "first", 6)


class OnlyInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.auxiliary(x)) if self.training else self.head(x)


def test_what_another_mode_uses_is_not_forgotten():
    network = OnlyInTraining()
    wider = widen(network, "body", 6)
    assert wider.auxiliary.in_features == wider.head.in_features == 6
    with pytest.raises(MorphismError, match="'auxiliary' is not used in evaluation mode"):
        widen(network.eval(), "body", 6)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_requests_that_make_no_sense():
    network = Residual()
    with pytest.raises(MorphismError, match="'head' cannot be widened.*network's output"):
        widen(network, "head", 20)
    with pytest.raises(MorphismError, match="is 4 already; got 4"):
        widen(network, "stem.0", 4)
    with pytest.raises(MorphismError, match="'stem.1' is no layer that can be widened"):
        widen(network, "stem.1", 8)
    with pytest.raises(MorphismError, match="Branching cannot be traced"):
        widen(Branching(), "layer", 8)


def test_a_layer_used_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.both, self.end = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.end(self.both(self.both(self.start(x)).relu()))

    torch.manual_seed(0)
    network = Twice().double()
    wider = widen(network, "start", 7)
    assert (wider.both.in_features, wider.both.out_features) == (7, 7)
    assert_equal_functions(network, wider, torch.randn(5, 2, dtype=torch.float64))


# -- deeper ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layer", ["stem", "stem.0", "block.1", "block.2", "side"])
def test_deeper_is_the_same_function(layer, dtype):
    torch.manual_seed(0)
    x = images(dtype)
    network = used(Residual().to(dtype), x)
    channels = {"stem": 4, "stem.0": 4, "block.1": 6, "block.2": 6, "side": 5}[layer]
    deeper = deepen(network, layer, channels, kernel_size=5)
    assert_equal_functions(network, deeper, x)
    new = deeper.get_submodule(layer)
    assert isinstance(new[1], nn.Conv2d)
    assert isinstance(new[-1], nn.ReLU) == (layer in ("stem", "block.2"))


def test_deeper_for_vectors_and_sequences():
    torch.manual_seed(0)
    vectors = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    deeper = deepen(vectors, "1", 5, dims=0)
    assert_equal_functions(vectors, deeper, torch.randn(4, 3))
    assert [type(m) for m in deeper[1]] == [nn.ReLU, nn.Linear, nn.ReLU]
    sequences = nn.Conv1d(3, 4, 3)
    assert_equal_functions(
        nn.Sequential(sequences),
        deepen(nn.Sequential(sequences), "0", 4, dims=1),
        torch.randn(2, 3, 9),
    )
    with pytest.raises(MorphismError, match="expected an odd number"):
        deepen(sequences, "", 4, kernel_size=4)
    with pytest.raises(MorphismError, match="no module 'elsewhere'"):
        deepen(vectors, "elsewhere", 5)


# -- with a skip ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 3, 3, padding=1),
        nn.Conv2d(3, 3, 5, padding="same", bias=False),
        nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3),
    ],
    ids=["plain", "same", "depthwise"],
)
def test_with_a_skip_it_is_the_same_function(conv, dtype):
    network = nn.Sequential(conv, nn.BatchNorm2d(3), nn.ReLU()).to(dtype)
    skipped = add_skip(network, "0")
    assert isinstance(skipped[0], SkippedConv)
    assert_equal_functions(network, skipped, images(dtype))
    assert not torch.equal(skipped[0].conv.weight, network[0].weight)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 3, 3),
        nn.Conv2d(3, 3, 3, padding=1, stride=2),
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Conv2d(3, 3, 2, padding=1),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
    ],
)
def test_where_a_skip_does_not_fit(module):
    with pytest.raises(MorphismError, match="expected a convolution"):
        add_skip(nn.Sequential(module), "0")


# -- together -------------------------------------------------------------------------------


def test_all_together_and_then_trained():
    torch.manual_seed(0)
    x, target = images(), torch.arange(4)
    network = used(Residual().double(), x)
    grown = add_skip(deepen(widen(network, "stem.0", 9), "stem", 9), "stem.1")
    grown = widen(grown, "block.1", 12)
    assert_equal_functions(network, grown, x, modes=(False,))
    optimizer = torch.optim.SGD(grown.train().parameters(), 0.05)
    losses = []
    for _ in range(5):
        loss = nn.functional.cross_entropy(grown(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in grown.parameters())


def test_frozen_and_sleeping_parts_stay_so():
    frozen = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    frozen[1].eval()
    frozen[0].weight.requires_grad_(False)
    deeper = deepen(frozen, "0", 4)
    assert deeper.training
    assert not deeper[1].training
    wider = widen(frozen.eval(), "0", 6)
    assert not wider[0].weight.requires_grad
    assert not add_skip(frozen, "2")[2].training


def test_weights_that_are_computed_from_others_are_named():
    quantised = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1))
    nn.utils.parametrize.register_parametrization(quantised[0], "weight", nn.Identity())
    with pytest.raises(MorphismError, match="'0' is computed from another"):
        add_skip(quantised, "0")
    with pytest.raises(MorphismError, match="'0' is computed from another"):
        widen(quantised, "0", 6)


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = self.conv(x)
        return self.head(torch.cat(tensors=[x, x], dim=1))


def test_what_is_concatenated_by_name_is_widened():
    x = images(torch.float32)
    network = Concatenated()
    assert_equal_functions(network, widen(network, "conv", 5), x)
