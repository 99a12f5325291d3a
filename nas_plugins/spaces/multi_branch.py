"""Multi-branch networks, a chain whose layers also read from earlier ones.

Elsken et al. 2019 (arXiv:1808.05377, section 2): the input of a layer is a function of all
earlier outputs, here their sum (as in residual networks) or concatenation (as in densely
connected ones).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas_plugins.choices import Choose
from nas_plugins.space import SearchSpace
from nas_plugins.spaces.chain import Head, LayerChoices

__all__ = ["MERGES", "MultiBranch", "multi_branch"]

MERGES = ("sum", "concat")

TINY: Mapping[str, Any] = {"channels": 4, "depth": (1, 3), "widths": (1, 2)}


def _edge(merge: str, c_in: int, c_out: int, shrink: int) -> nn.Module:
    """Brings an earlier tensor to the size, and where needed the width, of the last one."""
    pool = nn.AvgPool2d(shrink, ceil_mode=True) if shrink > 1 else nn.Identity()
    if merge == "sum" and c_in == c_out:
        return pool
    return nn.Sequential(pool, nn.Conv2d(c_in, c_out, 1, bias=False))


def _merged_inputs(choose: Choose, layers: LayerChoices, layer: int) -> nn.Module:
    """The merged input of a layer, from the list of the image and all earlier outputs.

    It has the width and resolution of the layer just before, which always belongs to it.
    """
    names = ["image", *(f"layer{j}" for j in range(layer))]
    channels = [layers.channels(j) for j in range(-1, layer)]
    # Asked for here, not in the edges, where they would seem to depend on the merge.
    shrinks = [math.prod(layers.stride(k) for k in range(j + 1, layer)) for j in range(-1, layer)]

    def inputs(merge: str) -> nn.Module:
        return choose.inputs(
            f"layer{layer}/inputs",
            {
                name: partial(_edge, merge, c_in, channels[-1], shrink)
                for name, c_in, shrink in zip(names, channels, shrinks, strict=True)
            },
            num_chosen=None,
            required=[names[-1]],
        )

    return choose.layer(f"layer{layer}/merge", {merge: partial(inputs, merge) for merge in MERGES})


class Layer(nn.Module):
    """Appends its output to the list of the image and all earlier outputs."""

    def __init__(self, choose: Choose, layers: LayerChoices, layer: int) -> None:
        super().__init__()
        self.merge = _merged_inputs(choose, layers, layer) if layer else None
        self.operation = layers.operation(layer)

    def forward(self, states: list[Tensor]) -> list[Tensor]:
        x = states[-1] if self.merge is None else self.merge(states)
        return [*states, self.operation(x)]


class LastHead(Head):
    """Classifier of the last of several tensors."""

    def forward(self, states: list[Tensor]) -> Tensor:
        return super().forward(states[-1])  # type: ignore[no-untyped-call]


class MultiBranch(nn.Module):
    """A chain whose layers merge the one before with any of the earlier ones.

    With ``sum``, tensors of another width pass a pointwise convolution first. With
    ``concat`` a pointwise convolution of the concatenation follows, which is exactly the
    sum of one such convolution per input, and is built so: an input that is not chosen
    then has no weights. Tensors of a higher resolution are average-pooled.

    Args:
        choose: Answers, beyond what :class:`~nas_plugins.spaces.chain.Chain` asks, for
            ``layer3/merge`` and for ``layer3/inputs/image``, ``…/layer0`` and ``…/layer1``.
        channels: Filters of width 1.
        depth: Fewest and most layers.
        widths: Choices of a layer's filters, in multiples of ``channels``.
        kernels: Choices of a layer's kernel size, odd; the identity has none.
        strides: Choices of a layer's stride.
        num_classes: Outputs.
        in_channels: Of the images.

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.
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
            partial(Layer, choose, layers),
            (fewest, most),
            head=lambda d: LastHead(layers.channels(d - 1), num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers([x])


def multi_branch(
    *,
    channels: int = 16,
    depth: Sequence[int] = (1, 6),
    widths: Sequence[float] = (1, 2, 4),
    kernels: Sequence[int] = (3, 5),
    strides: Sequence[int] = (1, 2),
    num_classes: int = 10,
    in_channels: int = 3,
) -> SearchSpace:
    """The space: layer ``i`` has 54 choices, times ``2 * 2^i`` with its inputs (``i > 0``)."""
    return SearchSpace.from_network(
        MultiBranch,
        name="multi_branch",
        channels=channels,
        depth=list(depth),
        widths=list(widths),
        kernels=list(kernels),
        strides=list(strides),
        num_classes=num_classes,
        in_channels=in_channels,
    )
