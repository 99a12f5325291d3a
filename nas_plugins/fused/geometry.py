"""Convolutions without bias, and their gradients by whatever kernel is fast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Geometry", "fast_layout"]


def fast_layout(x: Tensor) -> Tensor:
    """On a CPU channels last, in which depthwise convolutions are several times as fast.

    Their NCHW backward pass is the bottleneck of a DARTS step otherwise: at 16 channels of
    32x32 a kernel of 5x5 takes ten times as long as one of 3x3.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


SMALL = 2**14
"""Elements below which one slow kernel takes less than calling several fast ones."""


@dataclass(frozen=True)
class Geometry:
    """A convolution but for its weights; square, padded with zeros.

    Args:
        kernel: Rows and columns.
        stride, padding, dilation, groups: As of ``Conv2d``.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @classmethod
    def of(cls, module: nn.Module) -> Geometry | None:
        """That of a module, ``None`` where it is something else."""
        if type(module) is not nn.Conv2d or module.bias is not None:
            return None
        margin = module.padding
        if module.padding_mode != "zeros" or isinstance(margin, str):
            return None
        numbers = (module.kernel_size, module.stride, margin, module.dilation)
        if any(rows != columns for rows, columns in numbers):
            return None
        kernel, stride, padding, dilation = (int(rows) for rows, _ in numbers)
        return cls(kernel, stride, padding, dilation, module.groups)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    @property
    def reads_even_pixels(self) -> bool:
        """Whether it is a convolution without stride or dilation of every second pixel."""
        return self.stride == self.dilation == 2 and self.padding % 2 == 0

    def of_even_pixels(self) -> Geometry:
        return Geometry(self.kernel, 1, self.padding // 2, 1, self.groups)

    def gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of input and weights, each where asked for, from the output's."""
        margin = self.dilation * (self.kernel - 1) - self.padding
        depthwise = self.groups == x.shape[1] == weight.shape[0]
        small = x.numel() < SMALL or x.device.type != "cpu"
        if small or self.stride > 1 or margin < 0 or not depthwise:
            return self._plain_gradients(gradient, x, weight, of_x, of_weight)
        to_x = to_weight = None
        if of_x:
            flipped = weight.flip(2, 3)
            to_x = F.conv2d(gradient, flipped, None, 1, margin, self.dilation, self.groups)
        if of_weight:
            to_weight = self._weight_gradient(gradient, x, weight)
        return to_x, to_weight

    def _plain_gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        stride, padding, dilation = ([n, n] for n in (self.stride, self.padding, self.dilation))
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, dilation, False, [0, 0], self.groups,
            [of_x, of_weight, False],
        )  # fmt: skip
        return to_x, to_weight

    def _weight_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Of a depthwise convolution of stride 1, by those of 3x3 without dilation."""
        if self.dilation == 2 and self.padding % 2 == 0:
            dense = Geometry(self.kernel, 1, self.padding // 2, 1, self.groups)
            return dense._weight_gradient(_every_second(gradient), _every_second(x), weight)
        if (self.kernel, self.dilation) != (5, 1):
            _, result = self._plain_gradients(gradient, x, weight, False, True)
            assert result is not None
            return result
        padded = F.pad(x, [self.padding] * 4)
        rows, columns = gradient.shape[2] + 2, gradient.shape[3] + 2
        window = Geometry(3, groups=self.groups)
        result, part = torch.empty_like(weight), weight[:, :, :3, :3]
        for i in (0, 2):  # the windows overlap in the middle row and column
            for j in (0, 2):
                seen = padded[:, :, i : i + rows, j : j + columns]
                found = window._weight_gradient(gradient, seen, part)
                result[:, :, i : i + 3, j : j + 3] = found
        return result


def _every_second(x: Tensor) -> Tensor:
    """Every second row and column as images of their own, four times as many.

    A dilation of 2 does not mix them. Odd sizes are padded with a zero.
    """
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    batch, channels, height, width = x.shape
    parts = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    images = parts.permute(2, 4, 0, 1, 3, 5).reshape(-1, height // 2, width // 2, channels)
    return images.permute(0, 3, 1, 2)
