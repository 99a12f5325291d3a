"""The MnasNet space: its published size, the networks found in it, and its supernet."""

import pytest
import torch
from torch import nn

from nas_plugins import UnsupportedSpaceError
from nas_plugins.estimators.cost import cost_of
from nas_plugins.estimators.latency import Conditions
from nas_plugins.estimators.latency_profile import measure_table
from nas_plugins.mutators import ProxylessNAS
from nas_plugins.operations import MBConv, PoolBN, SqueezeExcite
from nas_plugins.spaces.mnasnet import (
    MNASNET_A1,
    MNASNET_A1_WIDTHS,
    MNASNET_B1,
    MNASNET_B1_WIDTHS,
    MOBILENET_V2,
    TINY,
    WIDTHS,
    mnasnet,
)
from nas_plugins.testing.mutators import Search

IMAGE = (3, 224, 224)


def test_five_blocks_have_the_published_size():
    """Section 3.2: S = 432, B = 5, about 10^13."""
    five = mnasnet(widths=(24, 32, 64, 96, 160), depths=(2, 3, 4, 3, 3), strides=(2, 2, 2, 1, 2))
    assert five.size == 432**5 == 15_045_919_506_432
    assert mnasnet().size == (432 * 2 // 3) ** 2 * 432**5


@pytest.mark.parametrize(
    ("widths", "architecture", "parameters", "millions_of_multiply_adds"),
    [
        (MNASNET_A1_WIDTHS, MNASNET_A1, 3_887_038, 312),  # 3.9 M and 312 M in the paper's table 1
        (MNASNET_B1_WIDTHS, MNASNET_B1, 4_383_312, 314),  # torchvision's mnasnet1_0
        (WIDTHS, MOBILENET_V2, 3_504_872, 301),  # torchvision's mobilenet_v2
    ],
    ids=["a1", "b1", "mobilenet_v2"],
)
def test_published_networks_cost_what_is_published(
    widths, architecture, parameters, millions_of_multiply_adds
):
    space = mnasnet(widths=widths)
    assert architecture in space
    counted = cost_of(space, architecture, IMAGE)
    assert counted.parameters == parameters
    assert round(counted.multiply_adds / 1e6) == millions_of_multiply_adds


def test_mobilenet_v2_has_torchvisions_tensors():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        ours, theirs = mnasnet().build(MOBILENET_V2), torchvision.models.mobilenet_v2()
    shapes = [[tuple(t.shape) for t in m.state_dict().values()] for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_choices_are_built():
    space = mnasnet(**TINY)
    chosen = {"block2/op": "mbconv3", "block2/kernel": "5", "block2/se": "quarter"}
    architecture = space.default().replace(
        **chosen, **{"block2/skip": "pooling", "block2/layers": 3, "block2/filters": 1.25}
    )
    first, *others = space.build(architecture).blocks[1]
    assert len(others) == 2
    assert first.operation[0].in_channels == 8  # 0.75 times 8, rounded
    for layer in others:
        assert isinstance(layer.operation, MBConv)
        (depthwise,) = (m for m in layer.operation if getattr(m, "groups", 1) > 1)
        assert (depthwise.kernel_size, depthwise.in_channels) == ((5, 5), 3 * 24)
        (attention,) = (m for m in layer.operation if isinstance(m, SqueezeExcite))
        assert attention.factors[1].out_channels == 24 // 4
        assert isinstance(layer.skip, PoolBN)
    plain = space.build(architecture.replace(**{"block2/op": "conv"})).blocks[1][1]
    assert plain.operation[0].kernel_size == (5, 5)
    assert plain.operation[0].groups == 1


@pytest.mark.parametrize("skip", ["none", "identity", "pooling"])
def test_skips_add_what_they_say(skip):
    space = mnasnet(**TINY)
    architecture = space.default().replace(**{"block2/layers": 2, "block2/skip": skip})
    first, second = space.build(architecture).eval().blocks[1]
    x = torch.randn(2, 8, 6, 6)
    y = first(x)
    torch.testing.assert_close(y, first.operation(x))  # it changes the shape
    averages = nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    added = {"none": torch.zeros_like(y), "identity": y, "pooling": averages}[skip]
    torch.testing.assert_close(second(y), second.operation(y) + added)


def test_skips_of_a_single_layer_make_no_difference():
    space = mnasnet(**TINY)
    base = space.default().replace(**{"block1/layers": 1, "block2/layers": 2})

    def same(**changed):
        return space.canonical(base) == space.canonical(base.replace(**changed))

    assert same(**{"block1/skip": "pooling"})
    assert not same(**{"block2/skip": "pooling"})
    assert not same(**{"block1/layers": 2})


@pytest.mark.parametrize(("small_images", "image", "size"), [(True, 32, 4), (False, 64, 2)])
def test_resolution(small_images, image, size):
    space = mnasnet(small_images=small_images, last=8, num_classes=10)
    child = space.build(MOBILENET_V2)
    seen = []
    child.blocks.register_forward_hook(lambda *of: seen.append(of[-1].shape))
    with torch.no_grad():
        child(torch.randn(2, 3, image, image))
    assert seen == [(2, 320, size, size)]


def test_proxylessnas_searches_its_blocks_with_a_measured_table():
    """Filters fixed; everything else is a candidate."""
    space = mnasnet(**TINY, in_channels=4, num_classes=2, stem_stride=1)
    fixed = {label: 1.0 for label in space.decisions if label.endswith("filters")}
    table = measure_table(space, Conditions(input_shape=(4, 4, 4), repeats=2), rounds=1)
    assert {label.partition("/")[2] for label in table} >= {"op", "kernel", "se", "skip"}
    search = Search(
        lambda supernet, seed: ProxylessNAS(supernet, latency_ms=table, latency_weight=1.0),
        space,
        fixed=fixed,
    ).run(0, 3)
    (found,) = search.derive()
    assert found in space
    assert fixed.items() <= found.items()
    assert "block2/layers" in search.supernet.gates


def test_blocks_that_do_not_match_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="differ in length"):
        mnasnet(depths=(1, 2))
