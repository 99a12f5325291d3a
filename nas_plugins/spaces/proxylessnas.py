"""The ProxylessNAS space, inverted residual blocks of which some may be left out.

Cai et al. 2019, arXiv:1812.00332, section 4.2.
Reference: mit-han-lab/proxylessnas@80c1c37 search/models/super_nets/super_proxyless.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas_plugins.choices import Choose, Factory
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.operations import MBConv, Zero, conv_bn, rounded_channels
from nas_plugins.space import SearchSpace

__all__ = ["OPERATIONS", "ProxylessNAS", "proxylessnas"]

OPERATIONS: Mapping[str, tuple[int, int]] = {
    f"mbconv{expansion}_{kernel}x{kernel}": (expansion, kernel)
    for kernel in (3, 5, 7)
    for expansion in (3, 6)
}
"""Name to expansion and kernel; a block with a shortcut may also be ``zero``."""

WIDTHS = (24, 40, 80, 96, 192, 320)
DEPTHS = (4, 4, 4, 4, 4, 1)
STRIDES = (2, 2, 2, 1, 2, 1)
"""Of the six stages, the paper's on ImageNet."""

TINY: Mapping[str, Any] = {"widths": [8, 16], "depths": [3, 2], "strides": [1, 2], "last": 16}


class Block(nn.Module):
    """A chosen operation, beside a shortcut where the shape stays; ``zero`` leaves that alone.

    Args:
        choose: Answers ``label``.
        label: Such as ``stage2/layer0``.
        c_in, c_out: Channels.
        stride: 1 or 2.
    """

    def __init__(self, choose: Choose, label: str, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and c_in == c_out
        candidates: dict[str, Factory] = {
            name: partial(MBConv, c_in, c_out, expansion, kernel, stride)
            for name, (expansion, kernel) in OPERATIONS.items()
        }
        if self.shortcut:
            candidates["zero"] = Zero
        self.operation = choose.layer(label, candidates)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.operation, Zero):  # in a child; adding zeros takes time
            return x
        out = self.operation(x)
        return x + out if self.shortcut else out


class ProxylessNAS(nn.Module):
    """Stem, a fixed block without expansion, stages of searched blocks, classifier.

    Deviation from the reference: batch norms keep PyTorch's epsilon, 1e-5 instead of 1e-3.

    Args:
        choose: Answers ``stage0/layer0`` … ``stage5/layer0``; see :class:`Block`.
        widths: Channels of each stage, before the multiplier.
        depths: Blocks of each stage.
        strides: Of each stage's first block, 1 or 2.
        width_multiplier: Of all channels but the last, which only grow with it; the
            products are rounded to multiples of 8.
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
        width_multiplier: float = 1.0,
        stem_stride: int = 2,
        last: int = 1280,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not len(widths) == len(depths) == len(strides) > 0:
            raise UnsupportedSpaceError(
                f"widths={list(widths)}, depths={list(depths)} and strides={list(strides)} "
                "differ in length; expected one of each per stage"
            )
        c_stem, c_in = (rounded_channels(c * width_multiplier) for c in (32, 16))
        self.stem = nn.Sequential(*conv_bn(in_channels, c_stem, 3, stem_stride), nn.ReLU6())
        self.first = MBConv(c_stem, c_in, 1, 3)
        blocks: list[nn.Module] = []
        for stage, (width, depth, stride) in enumerate(zip(widths, depths, strides, strict=True)):
            c_out = rounded_channels(width * width_multiplier)
            for i in range(depth):
                label = f"stage{stage}/layer{i}"
                blocks.append(Block(choose, label, c_in, c_out, stride if i == 0 else 1))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        c_last = rounded_channels(last * max(width_multiplier, 1.0))
        self.head = nn.Sequential(
            *conv_bn(c_in, c_last, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(c_last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.first(self.stem(x)))))


def proxylessnas(
    *,
    small_images: bool = False,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    strides: Sequence[int] | None = None,
    width_multiplier: float = 1.0,
    stem_stride: int | None = None,
    last: int = 1280,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> SearchSpace:
    """The space: 6^6 * 7^15, about 2.2e17 architectures.

    The first block of each of the six stages changes the shape and has 6 candidates; the
    other 15 may be ``zero`` as well, which skips them.

    Args:
        small_images: For images of about 32x32: the stem and the first stage keep the
            resolution, so that the last stage has an eighth of it, not a 32nd. ``strides``
            and ``stem_stride`` take precedence. The decisions are the same.
        widths: Channels of each stage.
        depths: Blocks of each stage.
        strides: Of each stage's first block.
        width_multiplier: Of the channels.
        stem_stride: Of the first convolution.
        last: Channels before the classifier.
        num_classes: Outputs.
        in_channels: Of the images.
    """
    if strides is None:
        strides = (1, *STRIDES[1:]) if small_images else STRIDES
    if stem_stride is None:
        stem_stride = 1 if small_images else 2
    return SearchSpace.from_network(
        ProxylessNAS,
        name="proxylessnas",
        widths=list(widths),
        depths=list(depths),
        strides=list(strides),
        width_multiplier=width_multiplier,
        stem_stride=stem_stride,
        last=last,
        num_classes=num_classes,
        in_channels=in_channels,
    )
