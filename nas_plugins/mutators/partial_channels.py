"""Candidates that see a part of the channels only: what PC-DARTS makes of a supernet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.supernet import Gate, MixedLayer, Supernet

__all__ = ["PartialLayer", "connect_partially"]


class PartialLayer(MixedLayer):
    """A mixed layer whose candidates take the first of ``factor`` parts of the channels.

    The rest passes by, pooled where candidates halve the resolution, and all channels are
    then shuffled, so that the next such layer's candidates see others. State-dict keys are
    those of :class:`~nas_plugins.supernet.MixedLayer`.

    Shapes:
        ``(batch, channels, height, width)`` in and out.

    Raises:
        UnsupportedSpaceError: Candidates that change the number of channels.
    """

    def __init__(self, gate: Gate, candidates: dict[str, nn.Module], factor: int) -> None:
        super().__init__(gate, candidates)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        num_mixed = x.shape[1] // self.factor
        passed = x[:, num_mixed:]
        mixed = super().forward(
            self.sharing.of(x, ("first", num_mixed), lambda x: x[:, :num_mixed])
        )
        if mixed.shape[1] != num_mixed or x.shape[1] % self.factor:
            raise UnsupportedSpaceError(
                f"candidates of {self.gate.label!r} make {mixed.shape[1]} of {num_mixed} channels, "
                f"a part of {x.shape[1]}; partial channels need candidates that keep the number "
                f"of channels, a multiple of {self.factor}"
            )
        if mixed.shape[2:] != passed.shape[2:]:
            passed = F.max_pool2d(passed, 2, 2, ceil_mode=True)
        return F.channel_shuffle(torch.cat([mixed, passed], dim=1), self.factor)


def connect_partially(supernet: Supernet, factor: int) -> None:
    """Narrow every candidate of every ``layer``, in place, to a part of its channels.

    Weights that stay are the first ones, scaled to what a layer of that width would have
    been initialised with; no random numbers are drawn.

    Raises:
        UnsupportedSpaceError: No ``layer``, one inside another's candidate, a kind of
            module with parameters other than convolution and batch norm, or numbers of
            channels that are no multiple of ``factor``. The supernet is then unchanged.
    """
    layers = [(n, m) for n, m in supernet.named_modules() if type(m) is MixedLayer]
    if not layers:
        raise UnsupportedSpaceError(
            f"space {supernet.space.name!r} has no choice of layers (or was made partial "
            "before); partial channels need one"
        )
    for _, layer in layers:
        for name, candidate in layer.candidates.items():
            for module in candidate.modules():
                _check(layer.gate.label, name, module, factor)
    for path, layer in layers:
        for module in layer.candidates.modules():
            _narrow(module, factor)
        parent, _, name = path.rpartition(".")
        narrowed = PartialLayer(layer.gate, dict(layer.candidates.items()), factor)
        narrowed.sharing = layer.sharing
        setattr(supernet.get_submodule(parent), name, narrowed.train(layer.training))


def _check(label: str, candidate: str, module: nn.Module, factor: int) -> None:
    problem = None
    if isinstance(module, MixedLayer):
        problem = f"holds the choice {module.gate.label!r}"
    elif isinstance(module, nn.Conv2d):
        depthwise = module.groups == module.in_channels == module.out_channels
        channels = (module.in_channels, module.out_channels)
        if any(c % factor for c in channels) or not (module.groups == 1 or depthwise):
            problem = f"holds {module}"
    elif isinstance(module, nn.BatchNorm2d):
        if module.num_features % factor:
            problem = f"holds {module}"
    elif next(module.parameters(recurse=False), None) is not None:
        problem = f"holds a {type(module).__name__}"
    if problem is not None:
        raise UnsupportedSpaceError(
            f"candidate {candidate!r} of {label!r} {problem}; partial channels need plain or "
            f"depthwise 2-d convolutions and batch norms of channels that {factor} divides"
        )


@torch.no_grad()
def _narrow(module: nn.Module, factor: int) -> None:
    if isinstance(module, nn.Conv2d):
        out_channels = module.out_channels // factor
        depthwise = module.groups > 1
        kept = module.weight[:out_channels]
        if depthwise:
            module.groups //= factor
        else:  # each output sums over fewer inputs
            kept = kept[:, : module.in_channels // factor] * factor**0.5
        module.in_channels //= factor
        module.out_channels = out_channels
        module.weight = nn.Parameter(kept.clone())
        if module.bias is not None:
            module.bias = nn.Parameter(module.bias[:out_channels].clone())
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features //= factor
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter[: module.num_features].clone()))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dim():
                setattr(module, name, buffer[: module.num_features].clone())
