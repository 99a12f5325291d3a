"""The convolutional space of NAS against section 3.3 of the paper."""

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import UnsupportedSpaceError
from nas_plugins.drawing.structure import picture
from nas_plugins.spaces.nas_cnn import nas_cnn


def plain(space, **choices):
    """Filters of 3x3, nothing connected but what is given."""
    fixed = {f"layer{i}/{side}": 3 for i in range(4) for side in ("height", "width")}
    return space.complete({**fixed, **choices})


def test_size_and_decisions():
    space = nas_cnn()
    assert space.size == 64**15 * 2 ** (15 * 14 // 2)
    assert f"{space.size:.1e}" == "5.0e+58"
    strided = nas_cnn(num_layers=2, strides=(1, 2, 3))
    assert strided.size == (64 * 9) ** 2 * 2
    assert all(d.describe_condition() == "always" for d in space.decisions.values())


def test_what_is_connected_to_nothing_reads_the_image_or_goes_to_the_classifier():
    space = nas_cnn(num_layers=4)
    skips = {"layer2/inputs/layer0": True, "layer3/inputs/layer0": True}
    child = space.build(plain(space, **skips, **{"layer2/filters": 64}))
    assert child.inputs == [[], [], [0], [0]]
    assert child.unread == [1, 2, 3]
    assert [layer[0].in_channels for layer in child.layers] == [3, 3, 24, 24]
    assert child.classifier.in_features == 24 + 64 + 24


def test_inputs_are_concatenated_in_depth():
    space = nas_cnn(num_layers=3)
    skips = {"layer1/inputs/layer0": True, "layer2/inputs/layer0": True}
    child = space.build(plain(space, **skips, **{"layer2/inputs/layer1": True})).eval()
    x = torch.rand(2, 3, 8, 8)
    first = child.layers[0](x)
    second = child.layers[1](first)
    last = child.layers[2](torch.cat([first, second], dim=1))
    torch.testing.assert_close(child(x), child.classifier(last.mean(dim=(2, 3))))


def test_smaller_inputs_are_padded_with_zeros():
    space = nas_cnn(num_layers=3, strides=(1, 2, 3))
    skips = {"layer2/inputs/layer0": True, "layer2/inputs/layer1": True}
    strides = {"layer0/stride_height": 3, "layer1/stride_width": 2}
    child, seen = space.build(plain(space, **skips, **strides)).eval(), []
    child.layers[2].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    child(torch.rand(1, 3, 9, 9))
    (read,) = seen
    assert read.shape == (1, 48, 9, 9)
    assert not read[:, :24, 3:].any()  # a third of the height, rounded up
    assert not read[:, 24:, :, 5:].any()
    assert read[:, :24, :3].any()


@pytest.mark.parametrize(("height", "width"), [(1, 7), (5, 3)])
def test_filters_of_any_height_and_width_keep_the_size(height, width):
    space = nas_cnn(num_layers=1)
    wish = {"layer0/height": height, "layer0/width": width, "layer0/filters": 36}
    child = space.build(space.complete(wish))
    assert sum(p.numel() for p in child.layers.parameters()) == 3 * 36 * height * width + 72
    assert child.layers[0](torch.rand(2, 3, 6, 6)).shape == (2, 36, 6, 6)
    assert isinstance(child.layers[0][2], nn.ReLU)


def test_picture_shows_the_skips_and_the_image():
    space = nas_cnn(num_layers=3)
    (graph,) = picture(space, plain(space, **{"layer2/inputs/layer0": True})).graphs
    (image,) = [name for name, node in graph.nodes.items() if node.kind == "input"]
    (output,) = [name for name, node in graph.nodes.items() if node.kind == "output"]
    assert {(e.source, e.target) for e in graph.edges} == {
        (image, "layer0"),
        (image, "layer1"),
        ("layer0", "layer2"),
        ("layer1", output),
        ("layer2", output),
    }


def test_children_hold_no_idle_weights():
    space, rng = nas_cnn(num_layers=5, filters=(2, 4)), np.random.default_rng(0)
    for _ in range(5):
        child = space.build(space.sample(rng))
        child(torch.rand(2, 3, 8, 8)).sum().backward()
        assert all(p.grad is not None for p in child.parameters())


def test_no_layers_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="num_layers is 0"):
        nas_cnn(num_layers=0)
