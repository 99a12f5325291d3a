"""DARTS, first and second order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from nas_plugins.errors import NasPluginsError
from nas_plugins.mutators.alphas import AlphaMutator
from nas_plugins.mutators.base import Batch, Loss, Reward, frozen
from nas_plugins.supernet import Supernet

__all__ = ["DARTS", "OptimizerError", "PrecisionError"]


class OptimizerError(NasPluginsError, ValueError):
    """A second-order step lacks the optimizer of the weights."""


class PrecisionError(NasPluginsError, TypeError):
    """Weights are too coarse for the finite difference of a second-order step."""


class DARTS(AlphaMutator):
    """Differentiable architecture search: gates are softmaxes of alphas, learned by gradient.

    Liu et al. 2019, arXiv:1806.09055, eq. 2 and 5-8. With weights w, their learning rate xi
    and the virtual step ``w' = w - xi * (momentum * buffer + grad L_train(w) + decay * w)``,
    the gradient of alpha is, by ``order``:

    - 1: that of ``L_valid(w)``, eq. 6 with xi = 0;
    - 2: ``grad_alpha L_valid(w') - xi * (grad_alpha L_train(w+) - grad_alpha L_train(w-)) /
      (2 * step)``, eq. 7 and 8, with ``w+- = w +- step * v``, ``v = grad_w' L_valid(w')`` and
      ``step = 0.01 / |v|``;
    - ``"exact"``: the same with the exact product of the second derivative and v, which
      is what backpropagation through the virtual step gives. Where the network has kinks
      (ReLU, max pooling) the finite difference is far from it: on the DARTS network of 4
      channels and 3 cells, at the start and in float64, by 0.4 of its norm at 0.01, by 5.5
      at 1e-5, and by 1e-10 at 1e-6, where no kink is left between both sides.

    Derivation: the strongest operation of each edge, without those of the mixture only
    (``none``), and of each node the inputs with the strongest operations. Other decisions
    take their likeliest choice.

    Deviations: with several learning rates in the weights' optimizer, v is scaled by each
    weight's own, and step is 0.01 over the norm of that, so that one learning rate is the
    published formula. A momentum is read where the optimizer keeps a ``momentum_buffer``
    (SGD); others have their virtual step taken as plain gradient descent.

    Args:
        supernet: Network whose gates are driven; not copied.
        order: 1, 2 or ``"exact"``.
        arch_lr: Adam step for alphas (paper: 3e-4).
        betas: Of Adam (paper: 0.5, 0.999).
        arch_weight_decay: Of Adam (paper: 1e-3).
        epsilon: Numerator of the finite difference's step (paper: 0.01).
        seed: Of the alphas at the start.

    Shapes:
        alphas: ``(candidates,)`` per decision.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        order: Literal[1, 2, "exact"] = 1,
        arch_lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        arch_weight_decay: float = 1e-3,
        epsilon: float = 0.01,
        seed: int = 0,
    ) -> None:
        if order not in (1, 2, "exact"):
            raise ValueError(f"order is {order!r}; expected 1, 2 or 'exact'")
        if epsilon <= 0:
            raise ValueError(f"epsilon is {epsilon}; expected it above 0")
        super().__init__(
            supernet, arch_lr=arch_lr, betas=betas, arch_weight_decay=arch_weight_decay, seed=seed
        )
        self.order = order
        self.epsilon = epsilon

    def _open_for_weights(self) -> None:
        self._soften()

    def _soften(self) -> None:
        self._mix({label: a.softmax(0) for label, a in zip(self.labels, self.alphas, strict=True)})

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
        reward: Reward | None = None,
    ) -> dict[str, float]:
        self._soften()
        if self.order == 1:
            with frozen(self.supernet):
                value = loss(valid_batch)
                gradients = self._gradients(value, self.alphas)
        elif weight_optimizer is None:
            raise OptimizerError(
                f"DARTS of order {self.order} takes a virtual step of the weights: pass "
                "weight_optimizer, or use order=1"
            )
        else:
            value, gradients = self._unrolled(loss, train_batch, valid_batch, weight_optimizer)
        self._update(gradients)
        return {"arch_loss": float(value.detach())}

    def _unrolled(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer,
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients of alphas behind one virtual step of the weights."""
        weights = {n: p for n, p in self.supernet.named_parameters() if p.requires_grad}
        options = _virtual_options(weights, weight_optimizer)
        exact = self.order == "exact"
        slopes = torch.autograd.grad(
            loss(train_batch), list(weights.values()), create_graph=exact, allow_unused=True
        )
        known = {name: s for name, s in zip(weights, slopes, strict=True) if s is not None}
        means = [s.detach().clone() for s in known.values()]
        self.synchronize(means)
        virtual = {
            name: _virtual(weights[name].detach(), slope, *options[name]).requires_grad_()
            for name, slope in zip(known, means, strict=True)
        }
        self._soften()  # the training loss has freed, or still needs, the graph of the softmax
        value = self._loss_at(virtual, loss, valid_batch)
        found = self._gradients(value, [*self.alphas, *virtual.values()])
        direct, at_virtual = found[: len(self.alphas)], found[len(self.alphas) :]
        v = {
            name: options[name][0] * slope for name, slope in zip(virtual, at_virtual, strict=True)
        }
        if exact:
            product = sum((known[name] * v[name]).sum() for name in v)
            assert isinstance(product, Tensor)
            implicit = self._gradients(product, self.alphas)
        else:
            implicit = self._finite_difference(loss, train_batch, weights, v)
        return value, [d - i for d, i in zip(direct, implicit, strict=True)]

    def _finite_difference(
        self, loss: Loss, batch: Batch, weights: Mapping[str, Tensor], v: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """Of the alphas' gradient along v: eq. 8, in full precision.

        A step changes most weights by less than bfloat16 can tell. On a small network without
        kinks, the difference under autocast was up to 17% too long or too short.
        """
        coarse = {str(w.dtype) for w in weights.values() if w.dtype.itemsize < 4}
        if coarse:
            raise PrecisionError(
                f"weights are {min(coarse)}, in which the difference of DARTS's order 2 is lost: "
                "use order=1, order='exact', or the Trainer's precision 'bf16-mixed'"
            )
        loss = getattr(loss, "precise", loss)
        norm = torch.cat([tensor.flatten() for tensor in v.values()]).norm()
        if norm == 0:
            return [torch.zeros_like(alpha) for alpha in self.alphas]
        step = self.epsilon / norm
        sides = []
        for sign in (1.0, -1.0):
            self._soften()
            shifted = {name: weights[name].detach() + sign * step * v[name] for name in v}
            with frozen(self.supernet):
                value = self._loss_at(shifted, loss, batch)
            sides.append(self._gradients(value, self.alphas))
        return [(plus - minus) / (2 * step) for plus, minus in zip(*sides, strict=True)]

    def _loss_at(self, weights: Mapping[str, Tensor], loss: Loss, batch: Batch) -> Tensor:
        """The loss with the supernet's weights exchanged for others."""
        exchanged = {f"supernet.{name}": weight for name, weight in weights.items()}
        call = _Call(self.supernet, loss)
        return torch.func.functional_call(call, exchanged, (batch,))


class _Call(nn.Module):
    """A loss as a module, for ``functional_call`` to reach the weights of the supernet in it."""

    def __init__(self, supernet: Supernet, loss: Loss) -> None:
        super().__init__()
        self.supernet = supernet
        self._loss = loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(batch)


def _virtual_options(
    weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, tuple[float, float, Tensor | None]]:
    """Of each weight: learning rate, weight decay, momentum times its buffer."""
    known = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
            moment = None if buffer is None else group.get("momentum", 0.0) * buffer
            known[parameter] = (float(group["lr"]), group.get("weight_decay", 0.0), moment)
    still: tuple[float, float, Tensor | None] = (0.0, 0.0, None)
    return {name: known.get(weight, still) for name, weight in weights.items()}


def _virtual(
    weight: Tensor, slope: Tensor, lr: float, decay: float, moment: Tensor | None
) -> Tensor:
    step = slope + decay * weight
    return weight - lr * (step if moment is None else moment + step)
