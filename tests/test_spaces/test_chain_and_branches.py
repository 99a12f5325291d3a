"""Chains, chains with branches: sizes, shapes, canonical form, merging."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import Architecture, UnsupportedSpaceError
from nas_plugins.choices import MergedInputs
from nas_plugins.spaces.chain import OPERATIONS, chain
from nas_plugins.spaces.multi_branch import multi_branch

CONV = {"operation": "conv", "kernel": "3", "width": 1, "stride": 1}
PER_LAYER = (4 * 2 + 1) * 3 * 2  # kernels for all operations but one, widths, strides


def layers(*choices, **more):
    """An architecture of these layers, each given by what differs from :data:`CONV`."""
    named = {"depth": len(choices), **more}
    for i, differing in enumerate(choices):
        layer = {**CONV, **differing}
        if layer["operation"] == "identity":
            del layer["kernel"]
        named.update({f"layer{i}/{part}": choice for part, choice in layer.items()})
    return Architecture(named)


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


def test_sizes():
    assert chain().size == sum(PER_LAYER**d for d in range(1, 7))
    per_layer = [PER_LAYER, *(PER_LAYER * 2 * 2**i for i in range(1, 6))]
    assert multi_branch().size == sum(math.prod(per_layer[:d]) for d in range(1, 7))


def test_each_part_shapes_its_layer():
    network = chain().build(
        layers(
            {"width": 2, "stride": 2},
            {"operation": "separable_conv", "kernel": "5", "width": 4},
            {"operation": "max_pool", "width": 4, "stride": 2},
            {"operation": "avg_pool", "width": 1},
        )
    )
    first, depthwise, pointwise, projection = convolutions(network)
    assert (first.in_channels, first.out_channels, first.stride) == (3, 32, (2, 2))
    assert (depthwise.groups, depthwise.kernel_size) == (32, (5, 5))
    assert (pointwise.out_channels, pointwise.kernel_size) == (64, (1, 1))
    assert (projection.in_channels, projection.out_channels) == (64, 16)
    pools = [m for m in network.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    assert [(type(p).__name__, p.stride) for p in pools] == [("MaxPool2d", 2), ("AvgPool2d", 1)]
    assert network.layers.head[-1].in_features == 16


@pytest.mark.parametrize("size", [1, 7, 8])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_strides_round_up(operation, size):
    architecture = layers(*[{"operation": operation, "stride": 2, "width": 2}] * 3)
    network = chain(channels=2).build(architecture).eval()
    reached = network.layers[:-1](torch.rand(1, 3, size, size))
    assert reached.shape == (1, 4, math.ceil(size / 8), math.ceil(size / 8))


def test_an_identity_that_changes_nothing_is_no_layer():
    space = chain(channels=4)
    plain = layers({}, {"width": 2})
    padded = layers(
        {}, {"operation": "identity"}, {"width": 2}, {"operation": "identity", "width": 2}
    )
    assert space.canonical(plain) == space.canonical(padded)
    keys = [list(space.build(a).state_dict().values()) for a in (plain, padded)]
    assert [t.shape for t in keys[0]] == [t.shape for t in keys[1]]
    with torch.no_grad():
        first, second = (space.build(a).eval() for a in (plain, padded))
        for mine, its in zip(first.parameters(), second.parameters(), strict=True):
            its.copy_(mine)
        x = torch.rand(2, 3, 8, 8)
        assert torch.equal(first(x), second(x))
    for other in (
        layers({}, {"operation": "identity", "stride": 2}, {"width": 2}),
        layers({}, {"operation": "identity", "width": 4}, {"width": 2}),
        layers({"operation": "identity"}, {}, {"width": 2}),  # the first comes after the image
    ):
        assert space.canonical(other) != space.canonical(plain)


def test_a_budget_narrows_every_layer():
    space = chain(channels=8)
    architecture = layers({}, {"width": 4}, {"width": 2})
    wide, narrow = space.build(architecture), space.build(architecture, channels=2)
    assert [c.out_channels for c in convolutions(wide)] == [8, 32, 16]
    assert [c.out_channels for c in convolutions(narrow)] == [2, 8, 4]


def test_a_supernet_mixes_what_is_not_a_value():
    space = chain(channels=2, depth=(1, 3))
    values = {k: d.default for k, d in space.decisions.items() if d.verb == "value"}
    with pytest.raises(UnsupportedSpaceError, match=r"'layer0/width'.*fixed={'layer0/width'"):
        space.supernet()
    supernet = space.supernet(fixed={**values, "layer0/width": 4, "layer1/stride": 2})
    assert set(supernet.gates) == space.decisions.keys() - values.keys()
    assert supernet(torch.rand(2, 3, 8, 8)).shape == (2, 10)  # a head for every depth
    heads = supernet.network.layers.heads
    assert [heads[d][-1].in_features for d in "123"] == [8, 2, 2]


# -- branches ------------------------------------------------------------------------------


def branches(*choices, merge, skips=()):
    merges = {f"layer{i}/merge": merge for i in range(1, len(choices))}
    inputs = {
        f"layer{i}/inputs/{name}": (i, name) in skips
        for i in range(1, len(choices))
        for name in ("image", *(f"layer{j}" for j in range(i - 1)))
    }
    return layers(*choices, **merges, **inputs)


def test_concatenation_is_one_convolution_of_it():
    """The sum of a pointwise convolution per input is that of the concatenation, exactly."""
    space = multi_branch(channels=4)
    architecture = branches(
        *({}, {"width": 2}, {"width": 4}),
        merge="concat",
        skips={(2, "image"), (2, "layer0")},
    )
    merge = space.build(architecture).layers[2].merge.double()
    assert isinstance(merge, MergedInputs)
    widths = (3, 4, 8)
    states = [torch.rand(2, c, 5, 5, dtype=torch.double) for c in widths]
    kernels = [edge[-1].weight for edge in merge.edges.values()]
    assert [k.shape for k in kernels] == [(8, c, 1, 1) for c in widths]
    whole = nn.functional.conv2d(torch.cat(states, 1), torch.cat(kernels, 1))
    torch.testing.assert_close(merge(states), whole)


def test_a_sum_projects_only_what_does_not_fit():
    space = multi_branch(channels=4)
    architecture = branches(*[{}] * 4, merge="sum", skips={(3, "image"), (3, "layer1")})
    merge = space.build(architecture).layers[3].merge
    assert list(merge.edges) == ["image", "layer1", "layer2"]
    assert len(convolutions(merge.edges["image"])) == 1
    assert isinstance(merge.edges["layer1"], nn.Identity)
    states = [torch.rand(1, c, 3, 3) for c in (3, 4, 4, 4)]
    expected = merge.edges["image"](states[0]) + states[2] + states[3]
    torch.testing.assert_close(merge(states), expected)


@pytest.mark.parametrize("size", [5, 8])
@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_inputs_of_higher_resolution_are_pooled(merge, size):
    everything = {(i, n) for i in range(4) for n in ("image", "layer0", "layer1")}
    architecture = branches(*[{"stride": 2}] * 4, merge=merge, skips=everything)
    network = multi_branch(channels=2).build(architecture).eval()
    assert network(torch.rand(2, 3, size, size)).shape == (2, 10)


def test_the_layer_before_is_always_read():
    space, rng = multi_branch(depth=(4, 4)), np.random.default_rng(0)
    assert "layer3/inputs/layer2" not in space.decisions
    network = space.build(space.sample(rng))
    for i in (1, 2, 3):
        assert f"layer{i - 1}" in network.layers[i].merge.edges
