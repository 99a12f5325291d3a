"""Convolutions and batch norms in a row, of which little is kept for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_plugins.fused.geometry import Geometry, fast_layout

__all__ = ["Convolutions", "Unit", "count_batch"]


@dataclass(frozen=True)
class Unit:
    """Convolutions and the batch norm that ends them."""

    geometries: tuple[Geometry, ...]
    norm: nn.BatchNorm2d


def count_batch(norm: nn.BatchNorm2d) -> float:
    """Count one more batch; the weight that its statistics get in the running ones."""
    if norm.num_batches_tracked is None:
        return 0.0
    norm.num_batches_tracked.add_(1)
    return 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum


class Convolutions(torch.autograd.Function):
    """Units in a row with a ReLU between them.

    What wide convolutions give is kept where asked for; all else is computed again in the
    backward pass, batch norms from the statistics that they had. It can be differentiated
    twice.

    Args:
        units: At least one.
        keep: Whether what wide convolutions give is kept.
        x: Shape ``(batch, channels, height, width)``.
        parameters: Of each unit: weights of its convolutions, then scale and shift of its
            batch norm, ``None`` where there is none.
    """

    @staticmethod
    def forward(
        ctx: Any, units: Sequence[Unit], keep: bool, x: Tensor, *parameters: Tensor | None
    ) -> Tensor:
        kept: list[Tensor] = []
        h = x
        for unit, (weights, scale, shift) in zip(units, _by_unit(units, parameters), strict=True):
            if unit is not units[0]:
                h = h.relu_()
            for geometry, weight in zip(unit.geometries, weights, strict=True):
                h = geometry(h, weight)
                if keep and geometry.kernel > 1:
                    kept.append(h)
            h, mean, inverse = _normalised(unit.norm, h, scale, shift)
            kept.extend((mean, inverse))
        ctx.units, ctx.keep, ctx.num_kept = units, keep, len(kept)
        ctx.save_for_backward(x, *kept, *parameters)
        return h

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, *rest = ctx.saved_tensors
        kept, parameters = rest[: ctx.num_kept], rest[ctx.num_kept :]
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # the gradient is to be differentiated as well
            return None, None, *_differentiable(ctx.units, needed, gradient, x, parameters)
        passed = _again(ctx.units, ctx.keep, x, iter(kept), parameters)
        return None, None, *_gradients(ctx.units, needed, gradient, passed, parameters)


@dataclass
class _Passed:
    """What went through a unit.

    Attributes:
        inputs: Of each of its convolutions, then of the batch norm.
        mean, inverse: Of the batch norm: mean and inverse deviation of each channel.
    """

    inputs: list[Tensor]
    mean: Tensor
    inverse: Tensor


def _normalised(
    norm: nn.BatchNorm2d, x: Tensor, scale: Tensor | None, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and inverse deviation; notes the running statistics."""
    if x.numel() == x.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {x.shape}"
        )
    momentum = count_batch(norm)
    return torch.native_batch_norm(
        x, scale, shift, norm.running_mean, norm.running_var, True, momentum, norm.eps
    )


def _again(
    units: Sequence[Unit],
    keep: bool,
    x: Tensor,
    kept: Any,
    parameters: Sequence[Tensor | None],
) -> list[_Passed]:
    """Compute what the forward pass did not keep."""
    through: list[_Passed] = []
    h = x
    for unit, (weights, scale, shift) in zip(units, _by_unit(units, parameters), strict=True):
        inputs = [h]
        for geometry, weight in zip(unit.geometries, weights, strict=True):
            known = keep and geometry.kernel > 1
            inputs.append(next(kept) if known else geometry(inputs[-1], weight))
        mean, inverse = next(kept), next(kept)
        through.append(_Passed(inputs, mean, inverse))
        if unit is not units[-1]:
            variance = inverse.pow(-2) - unit.norm.eps
            h = F.batch_norm(inputs[-1], mean, variance, scale, shift, eps=unit.norm.eps).relu_()
    return through


def _gradients(
    units: Sequence[Unit],
    needed: Sequence[bool],
    gradient: Tensor,
    through: list[_Passed],
    parameters: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Of x and the parameters, from back to front; frees what has gone through on its way."""
    of_x, *of_parameters = needed
    own, needs = _by_unit(units, parameters), _by_unit(units, of_parameters)
    behind: Tensor | None = fast_layout(gradient)
    found: list[Tensor | None] = []
    for u in reversed(range(len(units))):
        (weights, scale, _), (of_weights, of_scale, of_shift) = own[u], needs[u]
        earlier = of_x or any(any(of) or a or b for of, a, b in needs[:u])
        ends: list[Tensor | None] = [None, None]
        to_weights: list[Tensor | None] = [None] * len(weights)
        passed = through.pop()
        if behind is not None:
            behind, *ends = torch.ops.aten.native_batch_norm_backward(
                behind, passed.inputs.pop(), scale, None, None, passed.mean, passed.inverse, True,
                units[u].norm.eps, [earlier or any(of_weights), of_scale, of_shift],
            )  # fmt: skip
        for j in reversed(range(len(weights))):
            of_h = earlier or any(of_weights[:j])
            if behind is not None:
                behind, to_weights[j] = (
                    units[u]
                    .geometries[j]
                    .gradients(behind, passed.inputs[j], weights[j], of_h, of_weights[j])
                )
        if u > 0 and behind is not None:
            behind = torch.ops.aten.threshold_backward(behind, passed.inputs[0], 0)
        wanted = zip(ends, (of_scale, of_shift), strict=True)
        found = [*to_weights, *(end if want else None for end, want in wanted), *found]
    return [behind if of_x else None, *found]


def _differentiable(
    units: Sequence[Unit],
    needed: Sequence[bool],
    gradient: Tensor,
    x: Tensor,
    parameters: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients through plain operations, which have gradients themselves."""
    h = x
    for unit, (weights, scale, shift) in zip(units, _by_unit(units, parameters), strict=True):
        h = h if unit is units[0] else h.relu()
        for geometry, weight in zip(unit.geometries, weights, strict=True):
            h = geometry(h, weight)
        h = F.batch_norm(h, None, None, scale, shift, True, 0.0, unit.norm.eps)
    inputs = [t for t, n in zip((x, *parameters), needed, strict=True) if n and t is not None]
    found = iter(torch.autograd.grad(h, inputs, gradient, create_graph=True))
    return [next(found) if need else None for need in needed]


def _by_unit(units: Iterable[Unit], flat: Sequence[Any]) -> list[tuple[list[Any], Any, Any]]:
    """A flat list of parameters as (weights, scale, shift) of each unit."""
    rest = iter(flat)
    return [([next(rest) for _ in u.geometries], next(rest), next(rest)) for u in units]
