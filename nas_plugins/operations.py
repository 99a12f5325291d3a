"""Operations that the published spaces share.

Sources: Liu et al. 2019 (DARTS), quark0/darts@f276dd3 cnn/operations.py; Dong & Yang 2020
(NAS-Bench-201); Sandler et al. 2018 (MobileNetV2), mit-han-lab/proxylessnas@80c1c37. All take
and give tensors of shape ``(batch, channels, height, width)``; a stride of 2 halves height and
width, rounding up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nas_plugins.errors import UnsupportedSpaceError

__all__ = [
    "Bottleneck",
    "ConvBNReLU",
    "DilatedConv",
    "DropPath",
    "FactorizedReduce",
    "MBConv",
    "PoolBN",
    "ReLUConvBN",
    "SeparableConv",
    "SqueezeExcite",
    "Zero",
    "conv_bn",
    "make_operation",
    "rounded_channels",
]


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch normalisation."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, affine: bool = True
    ) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )


class Bottleneck(nn.Sequential):
    """ReLU and batch norm about a convolution of a quarter of the channels, or all of few.

    As the published code of AmoebaNet has the operations of NASNet that are not separable:
    tensorflow/tpu@645a455 models/official/amoeba_net/network_utils.py.

    Args:
        channels: Of input and output.
        kernels: Of one convolution, or of two in sequence such as ``(1, 7), (7, 1)``.
        stride: Of all together.
        dilation: Of the kernels.
    """

    def __init__(
        self,
        channels: int,
        kernels: Sequence[tuple[int, int]],
        stride: int = 1,
        *,
        dilation: int = 1,
    ) -> None:
        inner = max(1, int(channels * (3 / 8 if max(kernels) == (3, 1) else 1 / 4)))
        layers: list[nn.Module] = [*ReLUConvBN(channels, inner, 1)]
        for height, width in kernels:
            layers += [
                nn.ReLU(),
                nn.Conv2d(
                    inner,
                    inner,
                    (height, width),
                    # Each of a pair of flat kernels strides along itself.
                    (stride if height > 1 else 1, stride if width > 1 else 1),
                    (dilation * (height // 2), dilation * (width // 2)),
                    dilation,
                    bias=False,
                ),
                nn.BatchNorm2d(inner),
            ]
        super().__init__(*layers, *ReLUConvBN(inner, channels, 1))


def conv_bn(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Convolution without bias, and its batch normalisation."""
    return [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]


def rounded_channels(channels: float) -> int:
    """The nearest multiple of 8 that is at least 8 and no more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class DilatedConv(nn.Sequential):
    """ReLU, depthwise convolution with dilation 2, pointwise convolution, batch norm."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, affine: bool = True
    ) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_in, kernel, stride, kernel - 1, dilation=2, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )


class SeparableConv(nn.Sequential):
    """Depthwise-separable convolution, applied twice as in NASNet; the first has the stride."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, affine: bool = True
    ) -> None:
        super().__init__(
            *_depthwise_separable(c_in, c_in, kernel, stride, affine),
            *_depthwise_separable(c_in, c_out, kernel, 1, affine),
        )


def _depthwise_separable(
    c_in: int, c_out: int, kernel: int, stride: int, affine: bool
) -> list[nn.Module]:
    return [
        nn.ReLU(),
        nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out, affine=affine),
    ]


class MBConv(nn.Sequential):
    """Inverted bottleneck: widen, convolve depthwise, narrow without an activation.

    Sandler et al. 2018 (MobileNetV2). An expansion of 1 leaves out the widening.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        expansion: Factor of the widening.
        kernel: Size of the depthwise convolution, or what stands in its place, on
            ``c_in * expansion`` channels.
        stride: Of the depthwise convolution.
        attention: After the depthwise convolution's activation, on as many channels.
        activation: Makes each activation.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        expansion: int,
        kernel: int | nn.Module,
        stride: int = 1,
        *,
        attention: nn.Module | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU6,
    ) -> None:
        wide = c_in * expansion
        super().__init__(
            *([*conv_bn(c_in, wide, 1), activation()] if expansion > 1 else []),
            *(
                conv_bn(wide, wide, kernel, stride, groups=wide)
                if isinstance(kernel, int)
                else [kernel, nn.BatchNorm2d(wide)]
            ),
            activation(),
            *([] if attention is None else [attention]),
            *conv_bn(wide, c_out, 1),
        )


class SqueezeExcite(nn.Module):
    """Scale each channel by a factor in (0, 1) that the averages of all channels give.

    Hu et al. 2018, arXiv:1709.01507.

    Args:
        channels: Of the input.
        squeezed: Between the two pointwise convolutions.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.factors = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors(x)


class PoolBN(nn.Sequential):
    """``max`` or ``avg`` pooling, then batch norm without parameters where asked."""

    def __init__(
        self, kind: str, channels: int, stride: int = 1, *, kernel: int = 3, norm: bool = True
    ) -> None:
        pool: nn.Module
        if kind == "avg":
            pool = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
        elif kernel % 2:
            pool = nn.MaxPool2d(kernel, stride, kernel // 2)
        else:  # padded at the end alone, so that it keeps the size
            padding = nn.ConstantPad2d((0, kernel - 1, 0, kernel - 1), -math.inf)
            pool = nn.Sequential(padding, nn.MaxPool2d(kernel, stride))
        super().__init__(pool, *([nn.BatchNorm2d(channels, affine=False)] if norm else []))


class FactorizedReduce(nn.Module):
    """Halve the resolution by two shifted stride-2 pointwise convolutions, concatenated."""

    def __init__(self, c_in: int, c_out: int, *, affine: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out, affine=affine) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        # Shift by one pixel; padding keeps odd sizes equal on both sides.
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))


class Zero(nn.Module):
    """The operation ``none``: zeros, at the strided resolution."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class DropPath(nn.Module):
    """In training, zero a branch for some of the images and scale up the others to keep its mean.

    Larsson et al. 2017 (FractalNet), as used by DARTS.

    Args:
        probability: That an image's branch is dropped, in [0, 1).

    Attributes:
        probability: May be changed between steps, say raised linearly over the epochs.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"drop path probability is {probability}; expected within [0, 1)")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        mask = torch.empty(len(x), 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask / keep

    def extra_repr(self) -> str:
        return f"probability={self.probability}"


def make_operation(name: str, channels: int, stride: int, drop_path: float) -> nn.Module:
    """An operation of NASNet, AmoebaNet, PNAS or ENAS by its name; all but the identity drop paths.

    Raises:
        UnsupportedSpaceError: No such operation.
    """
    if name == "identity":
        return nn.Identity() if stride == 1 else ReLUConvBN(channels, channels, 1, stride)
    return nn.Sequential(_operation(name, channels, stride), DropPath(drop_path))


def _operation(name: str, channels: int, stride: int) -> nn.Module:
    kind, _, kernel = name.rpartition("_")
    size = int(kernel[0]) if kernel[:1].isdigit() else 0
    if not size:
        kind = ""
    if kind == "conv_1x3" or kind == "conv_1x7":
        return Bottleneck(channels, [(1, size), (size, 1)], stride)
    if name == "conv_1x1":
        return ReLUConvBN(channels, channels, 1, stride)
    if kind in ("conv", "dil_conv"):
        dilation = 2 if kind == "dil_conv" else 1
        return Bottleneck(channels, [(size, size)], stride, dilation=dilation)
    if kind == "sep_conv":
        return SeparableConv(channels, channels, size, stride)
    if kind == "dil_sep_conv":
        return nn.Sequential(
            DilatedConv(channels, channels, size, stride), DilatedConv(channels, channels, size)
        )
    if kind in ("avg_pool", "max_pool"):
        return PoolBN(kind[:3], channels, stride, kernel=size, norm=False)
    raise UnsupportedSpaceError(
        f"operation is {name!r}; expected identity, or such as conv_3x3, conv_1x7_7x1, "
        "sep_conv_5x5, dil_conv_3x3, dil_sep_conv_3x3, max_pool_3x3 or avg_pool_3x3"
    )
