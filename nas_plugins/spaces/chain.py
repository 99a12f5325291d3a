"""Chain-structured networks, layer upon layer.

The form that Elsken et al. 2019 (arXiv:1808.05377, section 2) put first: how many layers,
which operation each applies, with how many filters, which kernel size and which stride.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas_plugins.choices import Choose
from nas_plugins.operations import ConvBNReLU, PoolBN
from nas_plugins.space import SearchSpace

__all__ = ["OPERATIONS", "Chain", "LayerChoices", "canonical_chain", "chain"]

OPERATIONS = ("conv", "separable_conv", "max_pool", "avg_pool", "identity")

TINY: Mapping[str, Any] = {"channels": 4, "depth": (1, 3), "widths": (1, 2)}


class Subsample(nn.Module):
    """Every ``stride``-th pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


def _operation(name: str, c_in: int, c_out: int, kernel: int, stride: int) -> nn.Module:
    if name == "conv":
        return ConvBNReLU(c_in, c_out, kernel, stride)
    if name == "separable_conv":
        depthwise = ConvBNReLU(c_in, c_in, kernel, stride, groups=c_in)
        return nn.Sequential(depthwise, ConvBNReLU(c_in, c_out, 1))
    module: nn.Module
    if name == "identity":
        module = nn.Identity() if stride == 1 else Subsample(stride)
    else:
        module = PoolBN(name[:3], c_in, stride, kernel=kernel, norm=False)
    # These keep their channels; where the width changes a pointwise convolution follows.
    return module if c_in == c_out else nn.Sequential(module, ConvBNReLU(c_in, c_out, 1))


class LayerChoices:
    """What one layer asks: ``layer3/operation``, ``/kernel``, ``/width`` and ``/stride``.

    Width and stride shape what comes after, so later layers ask for them too: the same
    label is the same decision. They are values, which a supernet has fixed.

    Args:
        choose: Answers.
        in_channels: Of the images.
        channels: Filters of width 1.
        widths: Choices of the number of filters, in multiples of ``channels``.
        kernels, strides: Choices of every layer. Kernel sizes are odd.
    """

    def __init__(
        self,
        choose: Choose,
        *,
        in_channels: int,
        channels: int,
        widths: Sequence[float],
        kernels: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        self._choose = choose
        self._in_channels = in_channels
        self._channels = channels
        self._widths = list(widths)
        self._kernels = list(kernels)
        self._strides = list(strides)

    def channels(self, layer: int) -> int:
        """Channels of a layer's output; layer -1 is the image."""
        if layer < 0:
            return self._in_channels
        width = self._choose.value(f"layer{layer}/width", self._widths)
        return max(1, round(self._channels * width))

    def stride(self, layer: int) -> int:
        return int(self._choose.value(f"layer{layer}/stride", self._strides))

    def operation(self, layer: int) -> nn.Module:
        """The layer's module, ``(batch, channels(layer - 1), h, w)`` to its own channels."""
        make = partial(
            _operation,
            c_in=self.channels(layer - 1),
            c_out=self.channels(layer),
            stride=self.stride(layer),
        )

        def with_kernel(name: str) -> nn.Module:
            return self._choose.layer(
                f"layer{layer}/kernel",
                {str(kernel): partial(make, name, kernel=kernel) for kernel in self._kernels},
            )

        candidates: dict[str, Callable[[], nn.Module]] = {
            name: partial(with_kernel, name) for name in OPERATIONS if name != "identity"
        }
        candidates["identity"] = partial(make, "identity", kernel=1)
        return self._choose.layer(f"layer{layer}/operation", candidates)


class Head(nn.Sequential):
    """Average over the pixels, then a linear classifier."""

    def __init__(self, c_in: int, num_classes: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes))


class Chain(nn.Module):
    """As many layers as chosen, then the classifier.

    Args:
        choose: Answers ``depth`` and the decisions of :class:`LayerChoices`.
        channels: Filters of width 1.
        depth: Fewest and most layers.
        widths: Choices of a layer's filters, in multiples of ``channels``.
        kernels: Choices of a layer's kernel size, odd; the identity has none.
        strides: Choices of a layer's stride.
        num_classes: Outputs.
        in_channels: Of the images.

    Shapes:
        input ``(batch, in_channels, height, width)`` of any size, since strides round up;
        output ``(batch, num_classes)``.
    """

    def __init__(
        self,
        choose: Choose,
        channels: int = 16,
        depth: Sequence[int] = (1, 6),
        widths: Sequence[float] = (1, 2, 4),
        kernels: Sequence[int] = (3, 5),
        strides: Sequence[int] = (1, 2),
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        layers = LayerChoices(
            choose,
            in_channels=in_channels,
            channels=channels,
            widths=widths,
            kernels=kernels,
            strides=strides,
        )
        fewest, most = depth
        self.layers = choose.repeat(
            "depth",
            layers.operation,
            (fewest, most),
            head=lambda d: Head(layers.channels(d - 1), num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def canonical_chain(architecture: Mapping[str, object]) -> Hashable:
    """Equal for architectures that build the same sequence of modules.

    A layer that is the identity, keeps the resolution and repeats the width before it is no
    layer at all. (Not so the first one, which comes after the image.)
    """
    parts = ("operation", "kernel", "width", "stride")
    layers: list[tuple[object, ...]] = []
    width: object = None
    for i in range(int(str(architecture["depth"]))):
        layer = tuple(architecture.get(f"layer{i}/{part}") for part in parts)
        if layer != ("identity", None, width, 1):
            layers.append(layer)
        width = layer[2]
    return tuple(layers)


def chain(
    *,
    channels: int = 16,
    depth: Sequence[int] = (1, 6),
    widths: Sequence[float] = (1, 2, 4),
    kernels: Sequence[int] = (3, 5),
    strides: Sequence[int] = (1, 2),
    num_classes: int = 10,
    in_channels: int = 3,
) -> SearchSpace:
    """The space: with the defaults 54 choices a layer, 54 + 54^2 + … + 54^6 = 2.5e10."""
    return SearchSpace.from_network(
        Chain,
        canonical=canonical_chain,
        name="chain",
        channels=channels,
        depth=list(depth),
        widths=list(widths),
        kernels=list(kernels),
        strides=list(strides),
        num_classes=num_classes,
        in_channels=in_channels,
    )
