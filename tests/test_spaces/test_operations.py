"""The shared operations: shapes at every stride and size, and what each one computes."""

import math

import pytest
import torch
from torch import nn

from nas_plugins.operations import (
    ConvBNReLU,
    DilatedConv,
    FactorizedReduce,
    PoolBN,
    ReLUConvBN,
    SeparableConv,
    Zero,
    make_operation,
)
from nas_plugins.spaces.amoebanet import AMOEBANET_B_OPERATIONS
from nas_plugins.spaces.nasnet import OPERATIONS as NASNET

STRIDED = {
    "conv": lambda s: ConvBNReLU(4, 4, 3, s),
    "grouped": lambda s: ConvBNReLU(4, 4, 5, s, groups=4),
    "relu_conv": lambda s: ReLUConvBN(4, 4, 3, s),
    "pointwise": lambda s: ReLUConvBN(4, 4, 1, s),
    "separable": lambda s: SeparableConv(4, 4, 5, s),
    "dilated_3": lambda s: DilatedConv(4, 4, 3, s),
    "dilated_5": lambda s: DilatedConv(4, 4, 5, s),
    "max_pool": lambda s: PoolBN("max", 4, s),
    "avg_pool_5": lambda s: PoolBN("avg", 4, s, kernel=5, norm=False),
    "zero": lambda s: Zero(s),
    **{
        name: lambda s, name=name: make_operation(name, 4, s, 0.0)
        for name in (*NASNET, *AMOEBANET_B_OPERATIONS)
    },
}


@pytest.mark.parametrize("size", [1, 5, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", sorted(STRIDED))
def test_strides_halve_and_round_up(name, stride, size):
    out = STRIDED[name](stride)(torch.rand(3, 4, size, size))
    assert out.shape == (3, 4, math.ceil(size / stride), math.ceil(size / stride))


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("size", [1, 7, 8])
def test_factorized_reduce_keeps_every_other_pixel_of_both_parities(size, channels):
    reduce = FactorizedReduce(3, channels).eval()
    x = torch.randn(2, 3, size, size)
    out = reduce(x)
    assert out.shape == (2, channels, math.ceil(size / 2), math.ceil(size / 2))
    even = reduce.even(x.relu())
    odd = torch.einsum("bihw,oi->bohw", x.relu()[:, :, 1::2, 1::2], reduce.odd.weight.flatten(1))
    scale = 1 / math.sqrt(1 + reduce.norm.eps)
    torch.testing.assert_close(out[:, : channels // 2], even * scale)
    rows, columns = odd.shape[2:]
    shifted = out[:, channels // 2 :]
    torch.testing.assert_close(shifted[:, :, :rows, :columns], odd * scale)
    assert not shifted[:, :, rows:].any()  # past the edge of an odd size there is nothing


def test_average_pooling_leaves_the_padding_out():
    torch.testing.assert_close(
        PoolBN("avg", 1, norm=False)(torch.ones(1, 1, 3, 3)), torch.ones(1, 1, 3, 3)
    )


def test_zero_has_no_gradient_path():
    x = torch.rand(1, 2, 4, 4, requires_grad=True)
    out = Zero(2)(x)
    assert not out.any()
    assert not out.requires_grad


def test_norms_without_weights():
    for module in (SeparableConv(4, 4, 3, affine=False), FactorizedReduce(4, 4, affine=False)):
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert all(norm.weight is None for norm in norms)


def test_pooling_of_an_even_kernel_reads_the_pixel_itself_and_the_next():
    x = torch.tensor([[[[1.0, -2.0, -5.0]]]])
    pooled = PoolBN("max", 1, kernel=2, norm=False)(x)
    assert pooled.flatten().tolist() == [1.0, -2.0, -5.0]
