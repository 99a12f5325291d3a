"""The weighted sum of candidates, each in its fast form where it has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from nas_plugins.fused.convolutions import Convolutions, Unit, count_batch
from nas_plugins.fused.geometry import Geometry, fast_layout
from nas_plugins.fused.sharing import Sharing, autocast_dtype
from nas_plugins.operations import DropPath, FactorizedReduce, Zero

__all__ = ["weighted_sum"]

Term: TypeAlias = Callable[[Tensor | None, Tensor, Sharing], Tensor]
"""Makes of a factor and a tensor the factor times what a candidate makes of it: a new tensor."""


def weighted_sum(
    candidates: Sequence[nn.Module],
    weights: Tensor | None,
    indices: Sequence[int],
    x: object,
    sharing: Sharing,
) -> Tensor | None:
    """Sum of the candidates at ``indices``, each times its weight.

    Args:
        candidates: Of one decision.
        weights: Shape ``(candidates,)``; ``None`` for 1 each.
        indices: Those that run.
        x: What they take.
        sharing: Of the supernet.

    Returns:
        The sum, on a CPU in channels-last order; ``None``, and nothing was run, where no
        candidate has a fast form or x is no batch of images.
    """
    if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point():
        return None
    if x.layout is not torch.strided or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return None
    terms = {i: fast_term(candidates[i]) for i in indices}
    if not any(terms.values()):
        return None
    x = sharing.of(x, "layout", fast_layout)
    factors = None if weights is None else weights.unbind()
    adding = [i for i in indices if not _is_zero(candidates[i])] or indices[-1:]
    total: Tensor | None = None
    for i in adding:
        factor = None if factors is None else factors[i]
        term = terms[i] or partial(_plain, candidates[i])
        out = term(factor, x, sharing)
        if total is None:
            total = out
        elif (total.shape, total.dtype) == (out.shape, out.dtype):
            total.add_(out)
        else:
            total = total + out
    return total


def fast_term(module: nn.Module) -> Term | None:
    """The fast form of a candidate, or ``None``.

    Candidates are known by what they are made of, down to hooks: whatever somebody has
    changed about a module runs as it is.
    """
    return _fast_form(module) if _is_untouched(module) else None


def _fast_form(module: nn.Module) -> Term | None:
    if type(module) is FactorizedReduce:
        convolutions = (Geometry.of(module.even), Geometry.of(module.odd))
        return partial(_reduced, module) if _is_norm(module.norm) and all(convolutions) else None
    if not isinstance(module, nn.Sequential) or not module:
        return None
    if type(module).forward is not nn.Sequential.forward:
        return None
    first, *others = layers = list(module)
    if len(others) == 1 and type(others[0]) is DropPath:
        inner = _fast_form(first)
        return inner and partial(_dropped, inner, others[0])
    if type(first) in (nn.MaxPool2d, nn.AvgPool2d) and not getattr(first, "return_indices", False):
        return partial(_pooled, layers) if [*map(_is_norm, others)] in ([], [True]) else None
    parts = _parts(layers)
    return partial(_convolved, parts) if parts else None


def _is_untouched(module: nn.Module) -> bool:
    """Whether neither it nor a part of it has hooks or a forward of its own."""
    hooks = (
        module._forward_hooks or module._forward_pre_hooks
        or module._backward_hooks or module._backward_pre_hooks
    )  # fmt: skip
    if hooks or "forward" in module.__dict__:
        return False
    return all(_is_untouched(part) for part in module._modules.values() if part is not None)


def _is_norm(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a batch norm that takes its statistics from the batch and notes them."""
    if type(module) is not nn.BatchNorm2d or not module.training:
        return False
    return module.track_running_stats is (module.running_mean is not None)


def _is_zero(module: nn.Module) -> bool:
    """Whether it adds nothing, and nobody would notice that it did not run."""
    inner = module
    if type(module) is nn.Sequential and len(module) == 2 and type(module[1]) is DropPath:
        if not (module[1].training and module[1].probability):
            inner = module[0]
    return type(inner) is Zero and _is_untouched(module)


def _plain(module: nn.Module, factor: Tensor | None, x: Tensor, sharing: Sharing) -> Tensor:
    out: Tensor = module(x)
    return out.clone() if factor is None else out * factor


def _dropped(
    inner: Term, drop: DropPath, factor: Tensor | None, x: Tensor, sharing: Sharing
) -> Tensor:
    out: Tensor = drop(inner(factor, x, sharing))
    return out


# -- convolutions ------------------------------------------------------------------------------

Part: TypeAlias = tuple[list[nn.Conv2d], Unit]


def _parts(layers: list[nn.Module]) -> list[Part] | None:
    """Convolutions and a batch norm, each time behind a ReLU; ``None`` for anything else."""
    parts: list[Part] = []
    convolutions: list[nn.Conv2d] = []
    geometries: list[Geometry] = []
    is_open = False
    for layer in layers:
        if not is_open:
            if type(layer) is not nn.ReLU or layer.inplace:
                return None
            is_open = True
        elif _is_norm(layer) and convolutions:
            parts.append((convolutions, Unit(tuple(geometries), layer)))
            convolutions, geometries, is_open = [], [], False
        else:
            geometry = Geometry.of(layer)
            if geometry is None or not isinstance(layer, nn.Conv2d):
                return None
            convolutions.append(layer)
            geometries.append(geometry)
    return None if is_open else parts


def _convolved(parts: Sequence[Part], factor: Tensor | None, x: Tensor, sharing: Sharing) -> Tensor:
    cast = autocast_dtype(x)
    x = sharing.of(x, "relu", torch.relu)
    if cast is not None:
        x = sharing.of(x, "cast", lambda rectified: rectified.to(cast))
    units: list[Unit] = []
    parameters: list[Tensor | None] = []
    for convolutions, unit in parts:
        first, *others = unit.geometries
        if not units and first.reads_even_pixels:
            x = sharing.of(x, "even", lambda of: fast_layout(of[:, :, ::2, ::2]))
            unit = Unit((first.of_even_pixels(), *others), unit.norm)
        units.append(unit)
        weights = [convolution.weight for convolution in convolutions]
        own_factor = factor if len(units) == len(parts) else None
        parameters.extend(weights if cast is None else [w.to(cast) for w in weights])
        parameters.extend(_affine(unit.norm, own_factor, weights[0].dtype))
    out: Tensor = Convolutions.apply(units, sharing.keep, x, *parameters)
    return out


def _affine(
    norm: nn.BatchNorm2d, factor: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift of a batch norm whose output is multiplied by a factor."""
    if factor is None:
        return norm.weight, norm.bias
    if norm.weight is None:
        return factor.to(dtype).expand(norm.num_features).contiguous(), None
    return norm.weight * factor, None if norm.bias is None else norm.bias * factor


# -- pooling and reduction ---------------------------------------------------------------------


def _pooled(
    layers: Sequence[nn.Module], factor: Tensor | None, x: Tensor, sharing: Sharing
) -> Tensor:
    pool, *norms = layers
    options = {option: value for option, value in vars(pool).items() if option[0] != "_"}
    out: Tensor = sharing.of(x, (type(pool), repr(options)), pool)
    if norms:
        (norm,) = norms
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.affine:
            return _batch_norm(norm, factor, out)
        out = _standardised(norm, out, sharing)
    return out.clone() if factor is None else out * factor


def _standardised(norm: nn.BatchNorm2d, x: Tensor, sharing: Sharing) -> Tensor:
    """What a batch norm without parameters gives, computed once for all of them."""
    noted = norm.running_mean
    dtype = x.dtype if noted is None else noted.dtype

    def compute(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = x.new_zeros(2, x.shape[1], dtype=dtype)
        return F.batch_norm(x, mean, variance, None, None, True, 1.0, norm.eps), mean, variance

    out, mean, variance = sharing.of(x, (norm.eps, dtype), compute)
    momentum = count_batch(norm)
    if noted is not None and norm.running_var is not None:
        noted.lerp_(mean, momentum)
        norm.running_var.lerp_(variance, momentum)
    return out


def _reduced(
    module: FactorizedReduce, factor: Tensor | None, x: Tensor, sharing: Sharing
) -> Tensor:
    assert isinstance(module.norm, nn.BatchNorm2d)
    rectified = sharing.of(x, "relu", torch.relu)
    shifted = sharing.of(rectified, "shifted", lambda of: F.pad(of, (0, 1, 0, 1))[:, :, 1:, 1:])
    both = torch.cat([module.even(rectified), module.odd(shifted)], dim=1)
    return _batch_norm(module.norm, factor, both)


def _batch_norm(norm: nn.BatchNorm2d, factor: Tensor | None, x: Tensor) -> Tensor:
    dtype = x.dtype if norm.running_mean is None else norm.running_mean.dtype
    scale, shift = _affine(norm, factor, dtype)
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, scale, shift, True, count_batch(norm), norm.eps
    )
