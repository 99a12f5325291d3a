"""The convolutional space of NAS, layers whose skip connections are free.

Zoph & Le 2017, arXiv:1611.01578, sections 3.3 and 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_plugins.choices import Choose
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.space import SearchSpace

__all__ = ["NASConvolutions", "nas_cnn"]

TINY: Mapping[str, Any] = {
    "num_layers": 3,
    "kernels": (1, 3),
    "filters": (2, 3),
    "strides": (1, 2),
}


def _concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """In depth; smaller tensors are padded with zeros to the largest height and width."""
    height = max(tensor.shape[-2] for tensor in tensors)
    width = max(tensor.shape[-1] for tensor in tensors)
    padded = [
        F.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))
        for tensor in tensors
    ]
    return padded[0] if len(padded) == 1 else torch.cat(padded, dim=1)


class Layer(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int], stride: tuple[int, int]
    ) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )


class NASConvolutions(nn.Module):
    """Convolutions, each of any of the outputs before it, concatenated.

    A layer to which nothing is connected reads the image. The outputs that no layer reads are
    concatenated for the classifier. Tensors of different sizes are padded with zeros.

    Every decision is a value, which shapes modules: a supernet has them all fixed.

    Args:
        choose: Answers, for layer 3, ``layer3/height``, ``/width``, ``/filters``, with strides
            ``/stride_height`` and ``/stride_width``, and the yes-or-no decisions
            ``layer3/inputs/layer0`` to ``layer3/inputs/layer2``.
        num_layers: Of the network (paper: from 6 on, two more after every 1,600 samples; its
            networks have 15, 20 and 39).
        kernels: Choices of a filter's height and of its width, odd.
        filters: Choices of the number of filters.
        strides: Choices of a stride's height and of its width; ``(1,)`` leaves them out, as in
            one of the paper's two searches; it has ``(1, 2, 3)`` in the other.
        num_classes: Outputs.
        in_channels: Of the images.

    Shapes:
        input ``(batch, in_channels, height, width)``, output ``(batch, num_classes)``.

    Raises:
        UnsupportedSpaceError: No layers.
    """

    cell_captions: ClassVar[Mapping[str, Mapping[str, str]]] = {"": {"unwired": "image"}}
    """What a layer without inputs reads, for a drawing."""

    def __init__(
        self,
        choose: Choose,
        num_layers: int = 15,
        kernels: Sequence[int] = (1, 3, 5, 7),
        filters: Sequence[int] = (24, 36, 48, 64),
        strides: Sequence[int] = (1,),
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise UnsupportedSpaceError(f"num_layers is {num_layers}; expected at least 1")

        def pair(layer: int, prefix: str, choices: Sequence[int]) -> tuple[int, int]:
            if len(choices) == 1:
                return choices[0], choices[0]
            sides = [
                int(choose.value(f"layer{layer}/{prefix}{side}", list(choices)))
                for side in ("height", "width")
            ]
            return sides[0], sides[1]

        self.layers = nn.ModuleList()
        self.inputs: list[list[int]] = []
        """Numbers of the layers that each layer reads; of none, the image."""
        channels: list[int] = []
        for i in range(num_layers):
            connected = [
                j for j in range(i) if choose.value(f"layer{i}/inputs/layer{j}", [False, True])
            ]
            c_in = sum(channels[j] for j in connected) if connected else in_channels
            channels.append(int(choose.value(f"layer{i}/filters", list(filters))))
            kernel, stride = pair(i, "", kernels), pair(i, "stride_", strides)
            self.layers.append(Layer(c_in, channels[i], kernel, stride))
            self.inputs.append(connected)
        read = {j for connected in self.inputs for j in connected}
        self.unread = [i for i in range(num_layers) if i not in read]
        """Numbers of the layers that go to the classifier."""
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(sum(channels[i] for i in self.unread), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for layer, connected in zip(self.layers, self.inputs, strict=True):
            outputs.append(layer(_concatenated([outputs[j] for j in connected] or [x])))
        return self.classifier(self.head(_concatenated([outputs[i] for i in self.unread])))


def nas_cnn(
    *,
    num_layers: int = 15,
    kernels: Sequence[int] = (1, 3, 5, 7),
    filters: Sequence[int] = (24, 36, 48, 64),
    strides: Sequence[int] = (1,),
    num_classes: int = 10,
    in_channels: int = 3,
) -> SearchSpace:
    """The space: ``64^L * 2^(L (L - 1) / 2)``, about 5.0e58 architectures of 15 layers.

    Four heights, widths and numbers of filters are 64 choices of a layer (576 with strides);
    layer ``k``, counted from 0, may read each of the ``k`` before it. The paper gives no number.

    Args:
        num_layers: Of the network.
        kernels: Choices of a filter's height and of its width, odd.
        filters: Choices of the number of filters.
        strides: Choices of a stride's height and of its width, such as ``(1, 2, 3)``.
        num_classes: Outputs.
        in_channels: Of the images.
    """
    return SearchSpace.from_network(
        NASConvolutions,
        name="nas_cnn",
        num_layers=num_layers,
        kernels=list(kernels),
        filters=list(filters),
        strides=list(strides),
        num_classes=num_classes,
        in_channels=in_channels,
    )
