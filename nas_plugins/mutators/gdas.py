"""GDAS: one sampled path that the alphas learn through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from nas_plugins.mutators.alphas import AlphaMutator
from nas_plugins.mutators.base import Batch, Loss, Reward, frozen
from nas_plugins.supernet import Supernet

__all__ = ["GDAS"]


class GDAS(AlphaMutator):
    """Differentiable architecture sampler: DARTS at the cost of one path.

    Dong & Yang 2019, arXiv:1910.04465, eq. 3-7. Every decision draws Gumbel noise, runs the
    one candidate whose perturbed log-probability is largest, with weight one, and passes
    back the gradient of the relaxed weight, a softmax at temperature tau (straight through).
    Tau falls linearly over the search. Both steps sample.

    Derivation as :class:`~nas_plugins.mutators.darts.DARTS`.

    Args:
        supernet: Network whose gates are driven; not copied.
        tau: Temperature at the start and at the end (paper: 10 and 0.1).
        arch_lr: Adam step for alphas (paper: 3e-4).
        betas: Of Adam (paper: 0.5, 0.999).
        arch_weight_decay: Of Adam (paper: 1e-3).
        seed: Of the alphas at the start and the noise.

    Shapes:
        alphas: ``(candidates,)`` per decision.
    """

    single_path: ClassVar[bool] = True

    def __init__(
        self,
        supernet: Supernet,
        *,
        tau: tuple[float, float] = (10.0, 0.1),
        arch_lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        arch_weight_decay: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if min(tau) <= 0:
            raise ValueError(f"tau is {tau}; expected two positive temperatures")
        super().__init__(
            supernet, arch_lr=arch_lr, betas=betas, arch_weight_decay=arch_weight_decay, seed=seed
        )
        self.tau = tau

    @property
    def temperature(self) -> float:
        """Tau at the present progress."""
        start, end = self.tau
        return start + (end - start) * self.progress

    def _open_for_weights(self) -> None:
        self._select(self._draw())

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
        reward: Reward | None = None,
    ) -> dict[str, float]:
        factors, running = self._relaxed()
        self._mix(factors, running)
        with frozen(self.supernet):
            value = loss(valid_batch)
            gradients = self._gradients(value, self.alphas)
        self._update(gradients)
        return {"arch_loss": float(value.detach()), "tau": self.temperature}

    def _relaxed(self) -> tuple[Mapping[str, Tensor], Mapping[str, list[int]]]:
        """One-hot weights with the gradient of the relaxed ones, and where they are one."""
        factors, running = {}, {}
        logits, noises = self._logits_on_cpu(), self._noise()
        for i, (label, alpha) in enumerate(zip(self.labels, self.alphas, strict=True)):
            chosen = int((logits[i] + noises[i]).argmax())
            noise = noises[i].to(alpha.device)
            soft = ((alpha.log_softmax(0) + noise) / self.temperature).softmax(0)
            hard = torch.zeros_like(soft)
            hard[chosen] = 1.0
            factors[label] = hard + (soft - soft.detach())
            running[label] = [chosen]
        return factors, running
