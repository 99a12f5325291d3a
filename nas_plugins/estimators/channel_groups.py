"""Which layers of a network have to have the same channels, read off its graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from nas_plugins.errors import NasPluginsError

__all__ = ["ChannelGroups", "Layout", "MorphismError", "Segment"]


class MorphismError(NasPluginsError, ValueError):
    """A network cannot be changed in this way without changing its function."""


@dataclass(frozen=True)
class Segment:
    """Neighbouring channels from one source.

    Attributes:
        unit: Number of the source; several units may be tied into one group.
        size: How many; 0 where unknown, as of the network's input.
    """

    unit: int
    size: int


Layout = tuple[Segment, ...]
"""The channels of a tensor (dimension 1), in order."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# What works on each channel by itself, in the same way on all.
_CHANNELWISE_MODULES = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d),
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.Upsample),
)
_CHANNELWISE_FUNCTIONS = frozenset(
    (
        "add iadd add_ sub mul imul mul_ truediv div neg relu relu_ relu6 leaky_relu elu gelu silu "
        "hardswish hardsigmoid sigmoid tanh dropout dropout2d max_pool2d avg_pool2d clamp "
        "adaptive_avg_pool2d adaptive_max_pool2d contiguous clone detach zeros_like"
    ).split()
)


class ChannelGroups:
    """Groups of layers whose channels are tied: added, normalised or filtered together.

    Widening one layer of a group means widening all. A group is *fixed* if it reaches the
    network's input or output, or an operation that is not known to leave channels alone.

    Args:
        network: Traced symbolically (:mod:`torch.fx`) in its present mode, not changed.
            Channels are dimension 1 of images or of vectors of features.

    Attributes:
        produced: Name of a layer with a weight to its output channels.
        consumed: Name of a layer with a weight to its input channels.
        followed: Name of a batch norm or depthwise convolution to its channels.
        reached: Names of all modules without children that the network calls.

    Raises:
        MorphismError: The network cannot be traced.
    """

    def __init__(self, network: nn.Module) -> None:
        self.produced: dict[str, Segment] = {}
        self.consumed: dict[str, Layout] = {}
        self.followed: dict[str, Layout] = {}
        self.reached: set[str] = set()
        self._parent: list[int] = []
        self._fixed: dict[int, str] = {}  # root to the reason
        self._network = network
        try:
            graph = fx.Tracer().trace(network)
        except Exception as error:  # whatever a forward method does with what is no tensor
            raise MorphismError(
                f"{type(network).__name__} cannot be traced ({type(error).__name__}: {error}); "
                "expected a forward method without branches on values of tensors"
            ) from error
        layouts: dict[fx.Node, Layout] = {}
        for node in graph.nodes:
            layouts[node] = self._visit(node, layouts)

    # -- groups -------------------------------------------------------------------------

    def group(self, unit: int) -> int:
        """The number that all units of a group share."""
        while self._parent[unit] != unit:
            unit = self._parent[unit]
        return unit

    def reason_fixed(self, unit: int) -> str | None:
        """Why a unit's group cannot be widened, ``None`` if it can."""
        return self._fixed.get(self.group(unit))

    def _new(self, size: int) -> Segment:
        self._parent.append(len(self._parent))
        return Segment(self._parent[-1], size)

    def _fix(self, layouts: Iterable[Layout], reason: str) -> Layout:
        for layout in layouts:
            for segment in layout:
                self._fixed.setdefault(self.group(segment.unit), reason)
        unknown = self._new(0)
        self._fixed[unknown.unit] = reason
        return (unknown,)

    def _tie(self, layouts: Sequence[Layout], where: str) -> Layout:
        first, *others = layouts
        for other in others:
            if [s.size for s in first] != [s.size for s in other]:
                return self._fix(layouts, f"{where} joins channels that are arranged differently")
            for a, b in zip(first, other, strict=True):
                kept, merged = self.group(a.unit), self.group(b.unit)
                if kept != merged:
                    self._parent[merged] = kept
                    if merged in self._fixed:
                        self._fixed.setdefault(kept, self._fixed.pop(merged))
        return first

    # -- nodes --------------------------------------------------------------------------

    def _visit(self, node: fx.Node, layouts: dict[fx.Node, Layout]) -> Layout:
        """Channels of a node's output; empty for what is no tensor with channels."""
        inputs = [layouts[n] for n in node.all_input_nodes if layouts[n]]
        if node.op == "placeholder":
            return self._fix((), "it is the network's input")
        if node.op == "output":
            self._fix(inputs, "it is the network's output")
            return ()
        if node.op == "get_attr":
            tensor: Any = self._network
            for part in str(node.target).split("."):
                tensor = getattr(tensor, part)
            scalar = isinstance(tensor, torch.Tensor) and tensor.numel() == 1
            return () if scalar else self._fix((), f"it meets the tensor {node.target!r}")
        if not inputs:
            return ()
        if node.op == "call_module":
            return self._module(str(node.target), inputs)
        return self._function(node, layouts)

    def _module(self, name: str, inputs: list[Layout]) -> Layout:
        module, layout = self._network.get_submodule(name), inputs[0]
        self.reached.add(name)
        if isinstance(module, CONVOLUTIONS):
            if module.groups == 1:
                return self._weighted(name, layout, module.in_channels, module.out_channels)
            if module.groups == module.in_channels == module.out_channels:
                return self._follow(name, layout, module.in_channels)
        elif isinstance(module, nn.Linear):
            return self._weighted(name, layout, module.in_features, module.out_features)
        elif isinstance(module, NORMS):
            return self._follow(name, layout, module.num_features)
        elif isinstance(module, _CHANNELWISE_MODULES):
            return layout
        elif isinstance(module, nn.Flatten) and module.start_dim == 1:
            return layout
        return self._fix(inputs, f"it meets {name!r}, a {type(module).__name__}")

    def _weighted(self, name: str, layout: Layout, size_in: int, size_out: int) -> Layout:
        channels = sum(segment.size for segment in layout)
        if all(segment.size for segment in layout) and size_in % channels:
            self._fix([layout], f"{name!r} reads another dimension than the channels")
        elif len(layout) > 1 and not all(segment.size for segment in layout):
            self._fix([layout], f"{name!r} reads channels whose number is not known")
        if name in self.produced:  # called again, with the same weight
            self._tie([self.consumed[name], layout], f"{name!r}, which is used twice,")
            return (self.produced[name],)
        self.consumed[name] = layout
        self.produced[name] = self._new(size_out)
        return (self.produced[name],)

    def _follow(self, name: str, layout: Layout, channels: int) -> Layout:
        if sum(segment.size for segment in layout) != channels:
            return self._fix([layout], f"{name!r} works on another dimension than the channels")
        if name in self.followed:
            return self._tie([self.followed[name], layout], f"{name!r}, which is used twice,")
        self.followed[name] = layout
        return layout

    def _function(self, node: fx.Node, layouts: dict[fx.Node, Layout]) -> Layout:
        inputs = [layouts[n] for n in node.all_input_nodes if layouts[n]]
        name = node.target if isinstance(node.target, str) else node.target.__name__
        first, *rest = (*node.args, *node.kwargs.values())
        if name in ("size", "getattr", "dim"):
            return ()
        if name in _CHANNELWISE_FUNCTIONS:
            return self._tie(inputs, f"operation {name!r}")
        if name in ("cat", "concat") and rest == [1] and isinstance(first, (list, tuple)):
            parts = [layouts[part] for part in first if isinstance(part, fx.Node)]
            return tuple(segment for layout in parts for segment in layout)
        if _spares_channels(name, rest):
            return inputs[0]
        return self._fix(inputs, f"it meets operation {name!r}")


def _spares_channels(name: str, rest: list[Any]) -> bool:
    """Whether an operation with these arguments leaves channels where they are."""
    if name == "flatten":
        return rest == [1]
    if name in ("view", "reshape"):  # x.view(x.size(0), -1)
        return len(rest) == 2 and rest[1] == -1
    if name in ("mean", "sum"):
        return bool(rest) and _is_of_images(rest[0])
    if name == "getitem":
        return _keeps_channels(rest[0])
    return name == "pad" and isinstance(rest[0], (list, tuple)) and len(rest[0]) <= 4


def _is_of_images(dims: Any) -> bool:
    """Whether none of the dimensions is that of the batch or of the channels."""
    given = dims if isinstance(dims, (tuple, list)) else (dims,)
    return all(isinstance(dim, int) and dim > 1 for dim in given)


def _keeps_channels(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part == slice(None, None, None) for part in parts[:2])
