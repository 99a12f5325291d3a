"""Cells whose weights have few bits: what is rounded, what it takes to store, that it trains."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas_plugins.estimators.cost import cost_of
from nas_plugins.estimators.objectives import mnasnet_reward
from nas_plugins.quantization import LinearQuantizer, quantize, stored_bits
from nas_plugins.spaces import load

CELL = {"1<-0": "nor_conv_3x3", "2<-0": "skip_connect", "2<-1": "nor_conv_1x1"}


def space_of(bits=(16, 8, 4)):
    return load("jasqnet", space="nas_bench_201", bits=bits, channels=4, num_cells=1)


def architecture_of(space, **bits):
    chosen = {label: "none" for label in space.decisions if label.startswith("cell/")}
    chosen |= {f"cell/{edge}": operation for edge, operation in CELL.items()}
    chosen |= {"cell/3<-2": "skip_connect", "cell/3<-0": "nor_conv_3x3"}
    widths = {label: 16 for label in space.decisions if label.startswith("bits/")}
    return space.validate({**chosen, **widths, **{f"bits/{k}": v for k, v in bits.items()}})


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_is_pytorchs_own(bits):
    weights = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = (weights.clone().requires_grad_() for _ in range(2))
    highest = 2 ** (bits - 1) - 1
    scale = float(weights.abs().max() / highest)
    expected = torch.fake_quantize_per_tensor_affine(theirs, scale, 0, -highest - 1, highest)
    rounded = LinearQuantizer(bits)(ours)
    assert torch.allclose(rounded, expected, atol=1e-6)
    (rounded**2).sum().backward()
    (expected**2).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert len(rounded.unique()) <= 2**bits


def test_weights_of_zero_stay():
    assert torch.equal(LinearQuantizer(4)(torch.zeros(3)), torch.zeros(3))


def test_each_block_has_its_own_bits():
    space = space_of()
    assert [label for label in space.decisions if label.startswith("bits/")] == sorted(
        ["bits/stem/0", "bits/classifier", *(f"bits/body/{i}" for i in range(5))]
    )
    child = space.build(architecture_of(space, **{"body/0": 4, "stem/0": 8}))
    widths = {}
    for name, module in child.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            widths[name] = module.parametrizations.weight[0].bits
            assert len(module.weight.unique()) <= 2 ** widths[name]
    assert {name: w for name, w in widths.items() if w < 16} == {
        "stem.0": 8,
        **{name: 4 for name in widths if name.startswith("body.0.")},
    }
    assert sum(name.startswith("body.0.") for name in widths) == 3


def test_32_bits_are_the_plain_child():
    space, plain = space_of(bits=[32, 4]), load("nas_bench_201", channels=4, num_cells=1)
    whole = dict.fromkeys((k[5:] for k in space.decisions if k.startswith("bits/")), 32)
    architecture = architecture_of(space, **whole)
    torch.manual_seed(0)
    child = space.build(architecture)
    torch.manual_seed(0)
    other = plain.build({k: v for k, v in architecture.items() if k.startswith("cell/")})
    assert child.state_dict().keys() == other.state_dict().keys()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(child(x), other(x))
    assert stored_bits(child) == stored_bits(other)


def test_size_is_counted_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    # Weights 108 and 8, biases 4 and 2, norm: 4 scales, 4 shifts, 4 means, 4 variances, and a
    # count of 64 bits.
    assert stored_bits(network) == (108 + 8 + 4 + 2 + 16) * 32 + 64
    quantize(network[0], 4)
    assert stored_bits(network) == 108 * 4 + (8 + 4 + 2 + 16) * 32 + 64
    quantize(network[3], 8)
    assert stored_bits(network) == 108 * 4 + 8 * 8 + (4 + 2 + 16) * 32 + 64


def test_bits_are_a_cost_without_a_child():
    space = space_of()
    large, small = (architecture_of(space, **{"body/4": bits}) for bits in (16, 4))
    costs = [cost_of(space, a, (3, 8, 8)) for a in (large, small)]
    # The last cell has 16 channels: two 3x3 and one 1x1 convolution of 16 to 16.
    assert costs[0].bits - costs[1].bits == 16 * 16 * (9 + 9 + 1) * 12
    assert costs[0].parameters == costs[1].parameters
    assert costs[1].bits == stored_bits(space.build(small))
    rewards = [
        mnasnet_reward(0.9, {"bits": c.bits}, {"bits": costs[1].bits}, alpha=0.0, beta=-1.0)
        for c in costs
    ]
    assert rewards == pytest.approx([0.9 * costs[1].bits / costs[0].bits, 0.9])


def test_a_child_of_four_bits_trains():
    space = space_of()
    torch.manual_seed(0)
    whole = dict.fromkeys((k[5:] for k in space.decisions if k.startswith("bits/")), 4)
    child = space.build(architecture_of(space, **whole))
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 10
    optimizer = torch.optim.SGD(child.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(child(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("bits", [1, 17, 64])
def test_refuses_impossible_widths(bits):
    with pytest.raises(ValueError, match=f"bits is {bits}; expected 2 to 16, or 32"):
        quantize(nn.Linear(2, 2), bits)
