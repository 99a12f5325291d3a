"""The ENAS and ProxylessNAS spaces against their papers' sizes and counts derived by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import UnsupportedSpaceError
from nas_plugins.spaces.enas_macro import enas_macro
from nas_plugins.spaces.enas_micro import enas_micro
from nas_plugins.spaces.proxylessnas import proxylessnas


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


def traced_shape(module, child, image):
    """Shape that a module gives in a forward pass of one image."""
    shapes = []
    module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    child.eval()(torch.rand(1, 3, image, image))
    return shapes[-1]


# -- ENAS macro -------------------------------------------------------------------------


def macro_choices(space, operation, skips=()):
    return {
        label: operation if label.endswith("/operation") else label in skips
        for label in space.decisions
    }


def test_macro_size_is_the_published_one():
    space = enas_macro()
    assert space.size == 6**12 * 2**66
    assert f"{space.size:.1e}" == "1.6e+29"
    skips = [label for label in space.decisions if "/inputs/" in label]
    assert sorted(skips) == sorted(
        f"layer{k}/inputs/{source}"
        for k in range(1, 12)
        for source in ["stem", *(f"layer{j}" for j in range(k - 1))]
    )


@pytest.mark.parametrize(
    ("operation", "weights"),
    [
        ("conv_3x3", lambda c: c * c + 2 * c + 9 * c * c + 2 * c),
        ("sep_conv_5x5", lambda c: c * c + 2 * c + 25 * c + c * c + 2 * c),
        ("max_pool_3x3", lambda c: c * c + 2 * c),
    ],
)
def test_macro_parameters(operation, weights):
    c, space = 36, enas_macro()
    child = space.build(macro_choices(space, operation))
    stem, merges, halvings = 27 * c + 2 * c, 11 * (c * c + 2 * c), 2 * (c * c + 2 * c)
    expected = stem + 12 * weights(c) + merges + halvings + 10 * c + 10
    assert num_parameters(child) == expected


def test_macro_skips_pay_for_the_reductions_they_cross():
    c, space = 8, enas_macro(channels=8)
    plain = num_parameters(space.build(macro_choices(space, "conv_3x3")))
    crossed = {
        "layer3/inputs/stem": 0,
        "layer4/inputs/stem": 1,
        "layer5/inputs/layer3": 1,
        "layer6/inputs/layer4": 0,
        "layer9/inputs/layer7": 1,
        "layer8/inputs/layer3": 2,
    }
    for skip, times in crossed.items():
        child = space.build(macro_choices(space, "conv_3x3", [skip]))
        assert num_parameters(child) - plain == c * c + times * (c * c + 2 * c), skip


def test_macro_merge_is_concatenation_then_a_pointwise_convolution():
    space = enas_macro(channels=4)
    skips = ["layer2/inputs/stem", "layer2/inputs/layer0"]
    child = space.build(macro_choices(space, "conv_3x3", skips)).double().eval()
    layer = child.layers[2]
    states = [torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(3)]
    edges = layer.merge.edges
    operation = edges["layer1"][0]
    published = torch.cat([states[0], states[1], operation(states[2])], dim=1).relu()
    weight = torch.cat([edge[-1].weight for edge in edges.values()], dim=1)
    assert weight.shape == (4, 12, 1, 1)
    expected = layer.norm(nn.functional.conv2d(published, weight))
    torch.testing.assert_close(layer(states), expected, rtol=1e-12, atol=1e-12)


def test_macro_halves_at_a_third_and_two_thirds():
    space = enas_macro(channels=4)
    child = space.build(space.sample(np.random.default_rng(0)))
    sizes = [traced_shape(layer, child, 32)[-1] for layer in child.layers]
    assert sizes == [32] * 4 + [16] * 4 + [8] * 4


def test_macro_children_hold_no_idle_weights():
    space = enas_macro(channels=4)
    child = space.build(space.sample(np.random.default_rng(1)))
    child(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in child.parameters())


# -- ENAS micro -------------------------------------------------------------------------


def micro_choices(space, operation, source="0"):
    return {
        label: operation if label.endswith("/operation") else source for label in space.decisions
    }


def test_micro_size():
    space = enas_micro()
    assert space.size == (5**10 * math.factorial(6) ** 2) ** 2
    assert f"{space.size:.2e}" == "2.56e+25"
    assert all(d.describe_condition() == "always" for d in space.decisions.values())


def test_micro_parameters():
    """Eight cells of which the third and the sixth reduce; all is identity, then separable."""
    c, space = 20, enas_micro()
    widths = [c, c, 2 * c, 2 * c, 2 * c, 4 * c, 4 * c, 4 * c]
    # Every node reads input 0, so that input 1 and all five nodes are concatenated.
    outputs = [3 * c, 3 * c, *(6 * w for w in widths)]
    stem, classifier = 27 * 3 * c + 2 * 3 * c, 10 * outputs[-1] + 10
    projections = sum(
        before * w + 2 * w + last * w + 2 * w + w * w + 2 * w
        for before, last, w in zip(outputs, outputs[1:], widths, strict=False)
    )
    # An identity of stride 2 is a factorized reduction: ten edges in a cell, all from input 0.
    halved = sum(w * w + 2 * w for w in (widths[2], widths[5]))
    strided, stem = 10 * halved, stem + halved  # and the unused input
    identity = num_parameters(space.build(micro_choices(space, "identity")))
    assert identity == stem + projections + strided + classifier
    separable = num_parameters(space.build(micro_choices(space, "sep_conv_3x3")))
    convolutions = sum(10 * 2 * (9 * w + w * w + 2 * w) for w in widths)
    assert separable == stem + projections + convolutions + classifier


def test_micro_shapes():
    space = enas_micro(channels=4)
    child = space.build(space.validate(micro_choices(space, "sep_conv_3x3"))).eval()
    shapes = []
    for cell in child.cells:
        cell.register_forward_hook(lambda _, __, out: shapes.append(tuple(out[-1].shape[1:])))
    child(torch.rand(1, 3, 32, 32))
    assert shapes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 3 + [(16, 8, 8)] * 3


def test_micro_weights_belong_to_node_side_and_source():
    supernet = enas_micro(channels=4, num_cells=3).supernet()
    node = supernet.network.cells[0].blocks[1]
    convolutions = [
        edge.candidates["sep_conv_3x3"] for side in (node.x, node.y) for edge in side.edges.values()
    ]
    assert len({id(c[0][1].weight) for c in convolutions}) == 2 * 3


def test_micro_canonical_form():
    space = enas_micro(channels=4, num_cells=3)
    base = space.validate(micro_choices(space, "identity")).replace(
        **{"normal/2/x/operation": "sep_conv_3x3", "normal/3/y/operation": "max_pool_3x3"}
    )
    swapped = base.replace(
        **{"normal/2/x/operation": "identity", "normal/2/y/operation": "sep_conv_3x3"}
    )
    renumbered = base.replace(
        **{
            "normal/2/x/operation": "max_pool_3x3",
            "normal/3/y/operation": "sep_conv_3x3",
        }
    )
    other = base.replace(**{"normal/3/x": "2"})
    assert space.canonical(base) == space.canonical(swapped) == space.canonical(renumbered)
    assert space.canonical(base) != space.canonical(other)


# -- ProxylessNAS -----------------------------------------------------------------------


def test_proxyless_size_and_where_a_layer_may_be_left_out():
    space = proxylessnas()
    assert space.size == 6**6 * 7**15
    assert len(space.decisions) == 21
    shapes_change = {label for label, d in space.decisions.items() if "zero" not in d.choices}
    assert shapes_change == {f"stage{stage}/layer0" for stage in range(6)}


def test_proxyless_small_images_have_the_same_decisions():
    assert proxylessnas(small_images=True).decisions == proxylessnas().decisions


def test_proxyless_blocks_of_mobilenet_v2_make_mobilenet_v2():
    """3,504,872 parameters: torchvision's mobilenet_v2."""
    space = proxylessnas(widths=(24, 32, 64, 96, 160, 320), depths=(2, 3, 4, 3, 3, 1))
    child = space.build(dict.fromkeys(space.decisions, "mbconv6_3x3"))
    assert num_parameters(child) == 3_504_872


@pytest.mark.parametrize(("expansion", "kernel"), [(3, 5), (6, 7)])
def test_proxyless_parameters_of_a_block(expansion, kernel):
    space, c = proxylessnas(), 40
    architecture = space.default().replace(
        **{"stage1/layer1": f"mbconv{expansion}_{kernel}x{kernel}"}
    )
    without = num_parameters(space.build(architecture.replace(**{"stage1/layer1": "zero"})))
    wide = expansion * c
    expected = c * wide + 2 * wide + kernel**2 * wide + 2 * wide + wide * c + 2 * c
    assert num_parameters(space.build(architecture)) - without == expected


@pytest.mark.parametrize(("small_images", "image", "size"), [(True, 32, 4), (False, 64, 2)])
def test_proxyless_resolution(small_images, image, size):
    space = proxylessnas(small_images=small_images, width_multiplier=0.25, num_classes=10)
    child = space.build(space.default())
    assert traced_shape(child.blocks, child, image) == (1, 80, size, size)


def test_proxyless_zero_leaves_the_shortcut_alone():
    space = proxylessnas(widths=(8, 8), depths=(2, 1), strides=(1, 1), width_multiplier=0.5, last=8)
    architecture = space.default().replace(**{"stage0/layer1": "zero"})
    block = space.build(architecture).blocks[1]
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("multiplier", "last"), [(0.5, 1280), (1.4, 1792)])
def test_proxyless_last_layer_only_grows(multiplier, last):
    space = proxylessnas(width_multiplier=multiplier)
    child = space.build(space.default())
    assert child.classifier.in_features == last
    assert child.head[0].in_channels == 320 * multiplier


# -- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (enas_macro, {"num_layers": 2}, "num_layers is 2"),
        (enas_micro, {"num_cells": 2}, "num_cells is 2"),
        (proxylessnas, {"depths": (1, 1)}, "differ in length"),
    ],
)
def test_networks_that_cannot_be_are_refused(space, options, message):
    with pytest.raises(UnsupportedSpaceError, match=message):
        space(**options)
