"""What a network costs to store and to run, counted and not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_plugins.architecture import Choice
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.quantization import stored_bits
from nas_plugins.space import SearchSpace

__all__ = ["Cost", "cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """Size of a network and the work of one forward pass.

    Attributes:
        parameters: Numbers that are learned.
        multiply_adds: Multiply-add pairs of convolutions and matrix products for one image,
            half of PyTorch's FLOPs; pooling, normalisation and activations are not counted.
        bits: Size of the parameters and buffers in their own number formats, quantised weights
            (:mod:`nas_plugins.quantization`) at their own width.
    """

    parameters: int
    multiply_adds: int
    bits: int

    def to_dict(self) -> dict[str, int]:
        """JSON-able form."""
        return asdict(self)


def cost(network: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count a network's cost without computing anything: its forward pass runs on no data.

    The network is left as it is, on its device and in its mode. It is counted as it is
    evaluated: what it has for training alone (an auxiliary head) does no work, yet is among
    the parameters.

    Args:
        network: Takes one batch of images, in the number format of its own parameters.
        input_shape: Of one image, ``(channels, height, width)``.

    Raises:
        UnsupportedSpaceError: The network does not take images of that shape.
    """
    tensors: dict[str, Tensor] = dict(network.named_parameters())
    tensors.update(network.named_buffers())
    on_meta = {name: torch.empty_like(t, device="meta") for name, t in tensors.items()}
    formats = [t.dtype for t in tensors.values() if t.is_floating_point()]
    images = torch.empty(1, *input_shape, device="meta", dtype=formats[0] if formats else None)
    modes = [(module, module.training) for module in network.modules()]
    counter = FlopCounterMode(display=False)
    try:
        network.eval()
        with counter, torch.device("meta"), torch.no_grad():
            torch.func.functional_call(network, on_meta, (images,))
    except RuntimeError as error:
        raise UnsupportedSpaceError(
            f"{type(network).__name__} does not take images of shape {tuple(input_shape)}: "
            f"{error}. Expected (channels, height, width) as the network was built for"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        bits=stored_bits(network),
    )


def cost_of(
    space: SearchSpace,
    architecture: Mapping[str, Choice],
    input_shape: Sequence[int],
    **options: object,
) -> Cost:
    """Cost of an architecture's child, which is never allocated.

    Args:
        space: Where the architecture is from.
        architecture: Member of the space.
        input_shape: Of one image, ``(channels, height, width)``.
        options: Of the network, as for :meth:`nas_plugins.SearchSpace.build`.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return cost(space.build(architecture, **options), input_shape)
