"""The macro space of ENAS, a whole network with skip connections of any length.

Pham et al. 2018, arXiv:1802.03268, section 2.2 and figure 3.
Reference: melodyguan/enas@00787a5 src/cifar10/general_child.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas_plugins.choices import Choose
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.operations import ConvBNReLU, FactorizedReduce, PoolBN
from nas_plugins.space import SearchSpace

__all__ = ["OPERATIONS", "ENASMacro", "enas_macro"]

OPERATIONS = (
    "conv_3x3",
    "sep_conv_3x3",
    "conv_5x5",
    "sep_conv_5x5",
    "avg_pool_3x3",
    "max_pool_3x3",
)
"""In the order of the published architecture strings."""

TINY: Mapping[str, Any] = {"channels": 4, "num_layers": 4}


def _operation(name: str, channels: int) -> nn.Module:
    kind, kernel = name.rsplit("_", 1)
    size = int(kernel[0])
    project = ConvBNReLU(channels, channels, 1)
    if kind == "conv":
        return nn.Sequential(project, ConvBNReLU(channels, channels, size))
    if kind == "sep_conv":
        depthwise = nn.Conv2d(
            channels, channels, size, padding=size // 2, groups=channels, bias=False
        )
        return nn.Sequential(project, depthwise, ConvBNReLU(channels, channels, 1))
    return nn.Sequential(project, PoolBN(kind[:3], channels, kernel=size, norm=False))


class Layer(nn.Module):
    """An operation on the output before it, merged with any of the outputs before that.

    Concatenation, ReLU and a pointwise convolution, as published, is exactly the sum of one
    ReLU and pointwise convolution per input, and is built so: a skip connection that is not
    chosen has no weights.

    Args:
        choose: Answers, for layer 3, ``layer3/operation`` and the yes-or-no decisions
            ``layer3/inputs/stem``, ``…/layer0`` and ``…/layer1``.
        channels: Of every tensor.
        layer: Its number, from 0; layer 0 has no skip connections.
        halvings: How often each earlier output, the stem's first, is halved on its way here.
    """

    def __init__(self, choose: Choose, channels: int, layer: int, halvings: list[int]) -> None:
        super().__init__()

        def reductions(times: int) -> list[nn.Module]:
            return [FactorizedReduce(channels, channels) for _ in range(times)]

        def skip(times: int) -> nn.Sequential:
            return nn.Sequential(
                *reductions(times), nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False)
            )

        def previous() -> nn.Module:
            operation = choose.layer(
                f"layer{layer}/operation",
                {name: partial(_operation, name, channels) for name in OPERATIONS},
            )
            return nn.Sequential(*reductions(halvings[-1]), operation, *(skip(0) if layer else ()))

        names = ["stem", *(f"layer{j}" for j in range(layer))]
        edges = {name: partial(skip, t) for name, t in zip(names[:-1], halvings, strict=False)}
        self.merge: nn.Module | None = None
        if layer == 0:
            self.operation = previous()
        else:
            self.merge = choose.inputs(
                f"layer{layer}/inputs",
                {**edges, names[-1]: previous},
                num_chosen=None,
                required=[names[-1]],
            )
            self.norm = nn.BatchNorm2d(channels)

    def forward(self, states: list[Tensor]) -> Tensor:
        if self.merge is None:
            return self.operation(states[-1])
        return self.norm(self.merge(states))


class ENASMacro(nn.Module):
    """Stem, layers, of which those a third and two thirds of the way up are halved, classifier.

    Deviations from the reference: a skip connection owns the reductions that it crosses,
    where the reference reduces every output once for all later readers, read or not: here
    a child has no idle weights. The skip connections are merged while searching as they
    are in its final network, by convolution; the reference, while searching, only adds
    them. The channels stay the same throughout, as in its search; its final network
    doubles them at each reduction, and its separable convolutions are whole ones there. The
    paper's final networks, of 21.3M and 38.0M parameters, are not published with it, so that
    their sizes cannot be checked: the one of the code's scripts/cifar10_macro_final.sh, 24 layers
    that begin with 96 channels, has 42.6M by the code's own rules.

    Args:
        choose: Answers the decisions of :class:`Layer`.
        channels: Of every tensor (reference: 36 in search).
        num_layers: At least 3 (paper: 12).
        num_classes: Outputs.
        in_channels: Of the images.
        dropout: Probability of dropping a feature of the classifier (paper's code: 0.1).

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.

    Raises:
        UnsupportedSpaceError: Fewer than three layers.
    """

    def __init__(
        self,
        choose: Choose,
        channels: int = 36,
        num_layers: int = 12,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if num_layers < 3:
            raise UnsupportedSpaceError(
                f"num_layers is {num_layers}; expected at least 3, one before each reduction "
                "and one after"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        halved_after = (num_layers // 3 - 1, 2 * (num_layers // 3) - 1)
        self.layers = nn.ModuleList(
            Layer(
                choose,
                channels,
                layer,
                [sum(j <= after < layer for after in halved_after) for j in range(-1, layer)],
            )
            for layer in range(num_layers)
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        states = [self.stem(x)]
        for layer in self.layers:
            states.append(layer(states))
        return self.classifier(self.head(states[-1]))


def enas_macro(
    *,
    channels: int = 36,
    num_layers: int = 12,
    num_classes: int = 10,
    in_channels: int = 3,
    dropout: float = 0.1,
) -> SearchSpace:
    """The space: ``6^L * 2^(L (L - 1) / 2)`` architectures, 1.6e29 for 12 layers, as published.

    Layer ``k``, counted from 0, has ``k`` possible skip connections: from the stem and all
    earlier layers but the last, which it reads anyway.
    """
    return SearchSpace.from_network(
        ENASMacro,
        name="enas_macro",
        channels=channels,
        num_layers=num_layers,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=dropout,
    )
