"""The MnasNet space, blocks of equal layers around MobileNetV2.

Tan et al. 2019, arXiv:1807.11626, section 3.2 and figure 4. Found networks:
tensorflow/tpu models/official/mnasnet/mnasnet_models.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.choices import Choose, Factory
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.operations import (
    MBConv,
    PoolBN,
    SqueezeExcite,
    Zero,
    conv_bn,
    rounded_channels,
)
from nas_plugins.space import SearchSpace

__all__ = [
    "EXPANSIONS",
    "MNASNET_A1",
    "MNASNET_A1_WIDTHS",
    "MNASNET_B1",
    "MNASNET_B1_WIDTHS",
    "MOBILENET_V2",
    "Layer",
    "MnasNet",
    "canonical_mnasnet",
    "mnasnet",
]

EXPANSIONS: Mapping[str, int] = {"dwconv": 1, "mbconv3": 3, "mbconv6": 6}
"""Operation to the expansion of its inverted bottleneck; ``conv`` is an ordinary convolution."""

KERNELS = (3, 5)
SE_RATIO = 0.25
FILTERS = (0.75, 1.0, 1.25)

WIDTHS = (16, 24, 32, 64, 96, 160, 320)
DEPTHS = (1, 2, 3, 4, 3, 3, 1)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of MobileNetV2's seven blocks."""

TINY: Mapping[str, Any] = {"widths": [8, 16], "depths": [1, 2], "strides": [1, 2], "last": 16}


class Layer(nn.Module):
    """One layer of a block; all layers of a block are given the same choices.

    Args:
        choose: Answers ``<block>/op``, ``/kernel``, ``/se`` and ``/skip``.
        block: Such as ``block3``.
        c_in: Channels of the input.
        c_out: Channels of the output.
        stride: 1 or 2.
        first: Of its block: it changes the shape and has no skip, whatever is chosen.
    """

    def __init__(
        self, choose: Choose, block: str, c_in: int, c_out: int, stride: int, *, first: bool
    ) -> None:
        super().__init__()

        def convolution(c_from: int, c_to: int, groups: int) -> nn.Module:
            return choose.layer(
                f"{block}/kernel",
                {
                    str(k): partial(
                        nn.Conv2d, c_from, c_to, k, stride, k // 2, groups=groups, bias=False
                    )
                    for k in KERNELS
                },
            )

        def squeeze_excite(channels: int) -> nn.Module:
            squeezed = max(1, int(c_in * SE_RATIO))
            return choose.layer(
                f"{block}/se",
                {"none": nn.Identity, "quarter": partial(SqueezeExcite, channels, squeezed)},
            )

        def plain() -> nn.Module:
            return nn.Sequential(
                convolution(c_in, c_out, 1),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
                squeeze_excite(c_out),
            )

        def bottleneck(expansion: int) -> nn.Module:
            wide = c_in * expansion
            return MBConv(
                c_in,
                c_out,
                expansion,
                convolution(wide, wide, wide),
                attention=squeeze_excite(wide),
                activation=nn.ReLU,
            )

        self.operation = choose.layer(
            f"{block}/op",
            {"conv": plain, **{name: partial(bottleneck, e) for name, e in EXPANSIONS.items()}},
        )
        skips: dict[str, Factory] = {
            "none": Zero,
            "identity": nn.Identity,
            "pooling": partial(PoolBN, "avg", c_out, norm=False),
        }
        # Asked in first layers too, so that the decision does not depend on their number.
        self.skip = choose.layer(f"{block}/skip", dict.fromkeys(skips, Zero) if first else skips)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        out = self.operation(x)
        if self.first or isinstance(self.skip, Zero):
            return out
        return out + self.skip(x)


class MnasNet(nn.Module):
    """Stem, blocks of layers, classifier.

    Args:
        choose: Answers, for ``block1`` …, ``/filters`` and ``/layers`` and what
            :class:`Layer` asks. Filters shape what comes after: a supernet has them fixed.
        widths: Channels of each block, of which ``/filters`` is the share.
        depths: Layers of each block, of which there may be one less, but not none, or more.
        strides: Of each block's first layer.
        stem_stride: Of the first convolution.
        last: Channels before the classifier.
        num_classes: Outputs.
        in_channels: Of the images.

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.

    Raises:
        UnsupportedSpaceError: ``widths``, ``depths`` and ``strides`` differ in length.
    """

    def __init__(
        self,
        choose: Choose,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        strides: Sequence[int] = STRIDES,
        stem_stride: int = 2,
        last: int = 1280,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not len(widths) == len(depths) == len(strides) > 0:
            raise UnsupportedSpaceError(
                f"widths={list(widths)}, depths={list(depths)} and strides={list(strides)} "
                "differ in length; expected one of each per block"
            )
        c_in = 32
        self.stem = nn.Sequential(*conv_bn(in_channels, c_in, 3, stem_stride), nn.ReLU())
        blocks: list[nn.Module] = []
        for i, (width, depth, stride) in enumerate(zip(widths, depths, strides, strict=True), 1):
            c_out = rounded_channels(width * choose.value(f"block{i}/filters", list(FILTERS)))

            def layer(
                position: int, i: int = i, c_in: int = c_in, c_out: int = c_out, s: int = stride
            ) -> nn.Module:
                first = position == 0
                return Layer(
                    choose,
                    f"block{i}",
                    c_in if first else c_out,
                    c_out,
                    s if first else 1,
                    first=first,
                )

            choices = sorted({max(1, depth - 1), depth, depth + 1})
            blocks.append(choose.repeat(f"block{i}/layers", layer, choices))
            c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            *conv_bn(c_in, last, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.stem(x))))


def canonical_mnasnet(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures that differ in the skips of blocks of a single layer alone."""
    single = {k.removesuffix("layers") for k, v in architecture.items() if v == 1 and "layers" in k}
    unused = {f"{block}skip" for block in single}
    return frozenset((k, v) for k, v in architecture.items() if k not in unused)


def mnasnet(
    *,
    small_images: bool = False,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    strides: Sequence[int] | None = None,
    stem_stride: int | None = None,
    last: int = 1280,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> SearchSpace:
    """The space: 288^2 * 432^5, about 1.2e18 architectures.

    A block has 4 operations (convolution, depthwise-separable convolution, inverted
    bottleneck with expansion 3 or 6), 2 kernels, 2 squeeze-and-excitation ratios, 3 skips,
    3 numbers of filters and 3 of layers: 432, the paper's S. The five blocks for which
    MobileNetV2 has more than one layer, 3 on average, give the paper's 432^5, about 10^13
    (section 3.2: "a typical case", S = 432, B = 5, N = 3); the two of one layer cannot have
    one less.

    What the paper leaves open: the skips, which exist in all layers of a block but the
    first, are the input itself or its 3x3 average; squeeze-and-excitation comes before the
    last convolution, with a quarter of the layer's input channels, as in the published
    networks. Their widths are not all of the paper's multiples of MobileNetV2's (112 is
    7/6 of 96), so that :data:`MNASNET_A1` and :data:`MNASNET_B1` are architectures of the
    space with ``widths`` of their own.

    Args:
        small_images: For images of about 32x32: the stem and the second block keep the
            resolution. ``strides`` and ``stem_stride`` take precedence.
        widths: Channels of each block.
        depths: Layers of each block.
        strides: Of each block's first layer.
        stem_stride: Of the first convolution.
        last: Channels before the classifier.
        num_classes: Outputs.
        in_channels: Of the images.
    """
    if strides is None:
        strides = (1, 1, *STRIDES[2:]) if small_images else STRIDES
    if stem_stride is None:
        stem_stride = 1 if small_images else 2
    return SearchSpace.from_network(
        MnasNet,
        canonical=canonical_mnasnet,
        name="mnasnet",
        widths=list(widths),
        depths=list(depths),
        strides=list(strides),
        stem_stride=stem_stride,
        last=last,
        num_classes=num_classes,
        in_channels=in_channels,
    )


def _architecture(*blocks: tuple[str, int, str, int]) -> Architecture:
    """From operation, kernel, squeeze-and-excitation and layers of each block."""
    choices: dict[str, str | int | float] = {}
    for i, (op, kernel, se, layers) in enumerate(blocks, 1):
        skip = "none" if i == 1 else "identity"
        values = {"op": op, "kernel": str(kernel), "se": se, "skip": skip}
        choices |= {f"block{i}/{name}": value for name, value in values.items()}
        choices |= {f"block{i}/filters": 1.0, f"block{i}/layers": layers}
    return Architecture(choices)


MOBILENET_V2 = _architecture(
    ("dwconv", 3, "none", 1), *(("mbconv6", 3, "none", layers) for layers in DEPTHS[1:])
)
"""Sandler et al. 2018, but for ReLU in place of ReLU6: 3,504,872 parameters."""

MNASNET_A1_WIDTHS = (16, 24, 40, 80, 112, 160, 320)
MNASNET_A1 = _architecture(
    ("dwconv", 3, "none", 1),
    ("mbconv6", 3, "none", 2),
    ("mbconv3", 5, "quarter", 3),
    ("mbconv6", 3, "none", 4),
    ("mbconv6", 3, "quarter", 2),
    ("mbconv6", 5, "quarter", 3),
    ("mbconv6", 3, "none", 1),
)
"""Figure 7 (a), under its own widths: 3,887,038 parameters, 312 M multiply-adds."""

MNASNET_B1_WIDTHS = (16, 24, 40, 80, 96, 192, 320)
MNASNET_B1 = _architecture(
    ("dwconv", 3, "none", 1),
    ("mbconv3", 3, "none", 3),
    ("mbconv3", 5, "none", 3),
    ("mbconv6", 5, "none", 3),
    ("mbconv6", 3, "none", 2),
    ("mbconv6", 5, "none", 4),
    ("mbconv6", 3, "none", 1),
)
"""Without squeeze-and-excitation, under its own widths: 4,383,312 parameters."""
