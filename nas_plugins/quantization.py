"""Weights that a network trains as numbers of few bits, and what it then takes to store it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["FULL_PRECISION", "LinearQuantizer", "is_quantizable", "quantize", "stored_bits"]

FULL_PRECISION = 32
"""Bits at which nothing is quantised."""


class LinearQuantizer(nn.Module):
    """Rounds a tensor to at most ``2^bits`` evenly spaced values, symmetric about zero.

    The largest magnitude of the tensor, at every forward pass, sets the spacing. Gradients pass
    straight through. It is ``torch.fake_quantize_per_tensor_affine``, written in operations that
    the meta device and every export know.

    Args:
        bits: 2 to 16.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 2 <= bits <= 16:
            raise ValueError(f"bits is {bits}; expected 2 to 16, or {FULL_PRECISION} for none")
        self.bits = bits

    def forward(self, weights: Tensor) -> Tensor:
        highest = 2 ** (self.bits - 1) - 1
        fixed = weights.detach()
        scale = (fixed.abs().amax() / highest).clamp_min(torch.finfo(weights.dtype).tiny)
        rounded = (fixed / scale).round() * scale
        return rounded + (weights - fixed)  # plus zero, whose gradient is one

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


def is_quantizable(module: nn.Module) -> bool:
    """Whether a module is a layer whose weights can be quantised: a convolution, or linear."""
    return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))


def quantize(network: nn.Module, bits: int) -> None:
    """From now on, train all convolutions and linear layers with weights of so few bits.

    Their biases and whatever else there is keep their format.

    Args:
        network: Changed in place; its state dict then has ``parametrizations.weight.original``.
        bits: 2 to 16, or 32 to change nothing.
    """
    if bits == FULL_PRECISION:
        return
    for module in network.modules():
        if is_quantizable(module):
            parametrize.register_parametrization(
                module, "weight", LinearQuantizer(bits), unsafe=True
            )


def stored_bits(network: nn.Module) -> int:
    """Bits of all parameters and buffers, quantised weights at their own width."""
    bits = sum(
        t.numel() * t.element_size() * 8 for t in [*network.parameters(), *network.buffers()]
    )
    for weights in network.modules():
        if isinstance(weights, parametrize.ParametrizationList) and isinstance(
            weights[0], LinearQuantizer
        ):
            bits -= weights.original.numel() * (
                weights.original.element_size() * 8 - weights[0].bits
            )
    return bits
