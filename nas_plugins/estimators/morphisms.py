"""A larger network that computes what a smaller, trained one does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from nas_plugins.estimators.channel_groups import (
    CONVOLUTIONS,
    NORMS,
    ChannelGroups,
    Layout,
    MorphismError,
)

__all__ = ["MorphismError", "SkippedConv", "add_skip", "deepen", "widen"]


def widen(network: nn.Module, layer: str, width: int, *, seed: int = 0) -> nn.Module:
    """Give a layer more output channels: Net2WiderNet.

    Chen et al. 2016, arXiv:1511.05641: new channels are copies of channels drawn at random,
    and whatever reads a channel divides its weights by the number of its copies. All layers
    whose channels are tied to the layer's (by addition, batch norm, depthwise convolution) are
    widened in the same way, and concatenations are followed, so that residual networks and
    cells can be widened too.

    Deviation: no noise is added to the copies, so that the function is the same; where nothing
    else tells them apart, such as dropout, they learn alike.

    Args:
        network: Left as it is. Traced in its present mode, see :class:`ChannelGroups`.
        layer: Name of a convolution or linear layer, as of ``named_modules()``.
        width: Its output channels from now on, more than before.
        seed: Of the channels that are copied.

    Returns:
        A copy that gives the same output for every input, up to rounding, in both modes.

    Raises:
        MorphismError: No such layer, not wider, or channels reach something that would
            notice: the network's output, a grouped convolution, a layer norm, ….

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> widen(network, "0", 5)[2].in_features
        5
    """
    groups = ChannelGroups(network)
    if layer not in groups.produced:
        raise MorphismError(
            f"{layer!r} is no layer that can be widened; expected one of {sorted(groups.produced)}"
        )
    own = groups.produced[layer]
    group, old = groups.group(own.unit), own.size
    if width <= old:
        raise MorphismError(f"width of {layer!r} is {old} already; got {width}, expected more")
    reason = groups.reason_fixed(own.unit)
    if reason is not None:
        raise MorphismError(f"{layer!r} cannot be widened, because of its channels' way: {reason}")
    _require_reached(network, groups)
    drawn = np.random.default_rng(seed).integers(old, size=width - old)
    source = np.concatenate([np.arange(old), drawn])  # new channel to the old one it copies
    copies = np.bincount(source)[source]  # new channel to the number of its twins, with itself

    def places(layout: Layout) -> tuple[Tensor, Tensor]:
        """Of a tensor's new channels the old ones, and by what they are to be divided."""
        index, divisor, start = [], [], 0
        for segment in layout:
            mine = groups.group(segment.unit) == group
            index.append(start + (source if mine else np.arange(segment.size)))
            divisor.append(copies if mine else np.ones(segment.size, dtype=int))
            start += segment.size
        return torch.as_tensor(np.concatenate(index)), torch.as_tensor(np.concatenate(divisor))

    def concerns(layout: Layout) -> bool:
        return any(groups.group(segment.unit) == group for segment in layout)

    wider = copy.deepcopy(network)
    for name, segment in groups.produced.items():
        if concerns((segment,)):
            _take_outputs(wider.get_submodule(name), torch.as_tensor(source))
    for name, layout in groups.consumed.items():
        if concerns(layout):
            _take_inputs(wider.get_submodule(name), *places(layout))
    for name, layout in groups.followed.items():
        if concerns(layout):
            _take_channels(wider.get_submodule(name), places(layout)[0])
    return wider


def deepen(
    network: nn.Module, layer: str, channels: int, *, kernel_size: int = 3, dims: int = 2
) -> nn.Module:
    """Put a layer that changes nothing behind another: Net2DeeperNet.

    Chen et al. 2016, arXiv:1511.05641: the new layer is the identity, and so is the activation
    after it, where the layer ends with one whose repetition changes nothing.

    Deviation: the new layer brings no batch norm, which could only be the identity for the
    statistics of one batch.

    Args:
        network: Left as it is.
        layer: Name of the module behind which the new one stands. After a ``ReLU`` or
            ``ReLU6`` comes another; after any other module the new layer is linear.
        channels: Of that module's output.
        kernel_size: Of the new convolution, odd.
        dims: 2 for images, 1 for sequences, 0 for vectors, where the new layer is linear.

    Returns:
        A copy that gives the same output for every input, up to rounding.

    Raises:
        MorphismError: No such module, or an even kernel.
    """
    if kernel_size % 2 == 0:
        raise MorphismError(f"kernel_size is {kernel_size}; expected an odd number")
    deeper = copy.deepcopy(network)
    before = _submodule(deeper, layer)
    like = next(deeper.parameters(), torch.empty(0))
    new: Any
    if dims == 0:
        new = nn.Linear(channels, channels, device=like.device, dtype=like.dtype)
        nn.init.eye_(new.weight)
    else:
        new = CONVOLUTIONS[dims - 1](
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            device=like.device,
            dtype=like.dtype,
        )
        nn.init.dirac_(new.weight)
    nn.init.zeros_(new.bias)
    last = before
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    activation = [type(last)()] if isinstance(last, (nn.ReLU, nn.ReLU6)) else []
    added = nn.Sequential(before, new, *activation)
    added.training = before.training  # not train(), which would wake a frozen batch norm
    _replace(deeper, layer, added)
    return deeper


class SkippedConv(nn.Module):
    """A convolution and its input, added.

    Args:
        conv: Keeps channels and resolution.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """``conv(x) + x``, of the shape of ``x``."""
        out: Tensor = self.conv(x) + x
        return out


def add_skip(network: nn.Module, layer: str) -> nn.Module:
    """Lead a skip connection around a convolution, which gives up what the skip brings.

    Wei et al. 2016, arXiv:1603.01670, morph a layer into a subnet whose paths add up to it;
    here the paths are the identity and the convolution without it.

    Args:
        network: Left as it is.
        layer: Name of a convolution with as many outputs as inputs, stride 1, zero padding
            that keeps the resolution, and an odd kernel.

    Returns:
        A copy in which the convolution is a :class:`SkippedConv`, and which gives the same
        output for every input, up to rounding.

    Raises:
        MorphismError: No such convolution.
    """
    skipped = copy.deepcopy(network)
    conv: Any = _submodule(skipped, layer)
    if not _keeps_shape(conv):
        raise MorphismError(
            f"{layer!r} is {conv}; expected a convolution with equal channels, stride 1, an odd "
            "kernel and zero padding that keeps the resolution, since a skip adds its input"
        )
    _require_plain(conv, layer)
    identity = nn.init.dirac_(torch.empty_like(conv.weight), groups=conv.groups)
    with torch.no_grad():
        conv.weight -= identity
    with_skip = SkippedConv(conv)
    with_skip.training = conv.training
    _replace(skipped, layer, with_skip)
    return skipped


# -- private -------------------------------------------------------------------------------


def _require_reached(network: nn.Module, groups: ChannelGroups) -> None:
    """What the trace did not meet (an auxiliary head, in evaluation) would keep its width."""
    kinds = (*CONVOLUTIONS, *NORMS, nn.Linear)
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, kinds):
            _require_plain(module, name)
        if isinstance(module, kinds) and name not in groups.reached:
            mode = "training" if network.training else "evaluation"
            raise MorphismError(
                f"{name!r} is not used in {mode} mode, so that it cannot be widened along; "
                "set the mode in which every layer is used, or remove it"
            )


def _require_plain(module: nn.Module, name: str) -> None:
    if is_parametrized(module):
        raise MorphismError(
            f"the weight of {name!r} is computed from another (quantised, say); expected plain "
            "weights: morph before quantising"
        )


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        raise MorphismError(
            f"{type(network).__name__} has no module {name!r}; expected a name of named_modules()"
        ) from error


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def _keeps_shape(conv: Any) -> bool:
    return (
        isinstance(conv, CONVOLUTIONS)
        and conv.in_channels == conv.out_channels
        and set(conv.stride) == {1}
        and conv.padding_mode == "zeros"
        and all(k % 2 == 1 for k in conv.kernel_size)
        and (conv.padding == "same" or _centred(conv))
    )


def _centred(conv: Any) -> bool:
    sizes = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    return all(padding == dilation * (kernel // 2) for padding, dilation, kernel in sizes)


def _select(module: Any, names: Sequence[str], index: Tensor) -> None:
    """Rows of parameters and buffers, by index."""
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is not None:
            taken = tensor.detach()[index.to(tensor.device)].clone()
            setattr(module, name, _like(tensor, taken))


def _like(tensor: Tensor, taken: Tensor) -> Tensor:
    """A parameter where the old tensor was one, frozen if that was."""
    if not isinstance(tensor, nn.Parameter):
        return taken
    return nn.Parameter(taken, requires_grad=tensor.requires_grad)


def _take_outputs(module: Any, index: Tensor) -> None:
    _select(module, ("weight", "bias"), index)
    setattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels", len(index))


def _take_inputs(module: Any, index: Tensor, divisor: Tensor) -> None:
    weight = module.weight.detach()
    old = int(index.max()) + 1
    places = weight.shape[1] // old  # of one channel, where an image was flattened
    spread = (index[:, None] * places + torch.arange(places)).flatten().to(weight.device)
    shares = divisor.repeat_interleave(places).to(weight)
    shape = (1, -1, *[1] * (weight.dim() - 2))
    module.weight = _like(module.weight, weight[:, spread] / shares.view(shape))
    name = "in_features" if isinstance(module, nn.Linear) else "in_channels"
    setattr(module, name, len(spread))


def _take_channels(module: Any, index: Tensor) -> None:
    _select(module, ("weight", "bias", "running_mean", "running_var"), index)
    if isinstance(module, NORMS):
        module.num_features = len(index)
    else:
        module.in_channels = module.out_channels = module.groups = len(index)
