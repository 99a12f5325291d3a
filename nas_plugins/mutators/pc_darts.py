"""PC-DARTS: a part of the channels is mixed, and edges are weighed against each other."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nas_plugins.mutators.alphas import AlphaMutator
from nas_plugins.mutators.base import Batch, Loss, Reward, frozen
from nas_plugins.mutators.partial_channels import connect_partially
from nas_plugins.supernet import Supernet

__all__ = ["PCDARTS"]


class PCDARTS(AlphaMutator):
    """DARTS, first order, with partial channel connections and edge normalisation.

    Xu et al. 2020, arXiv:1907.05737, section 3. Candidates see ``1 / num_parts`` of the
    channels, the rest passes by, and channels are shuffled after each layer; that saves most
    of the memory and keeps operations without weights from winning early. The edges into a
    node, each a choice of operation, are weighed by a softmax of betas. Alphas and betas
    rest while the weights warm up. Derivation as DARTS, an edge being as strong as its
    weight times that of its best operation.

    The supernet is changed: its candidates are narrower than a child's, so children do not
    inherit their weights. Make the mutator before the weights' optimizer.

    Args:
        supernet: Network whose gates are driven; narrowed in place.
        num_parts: Channels are divided by this (paper: 4 on CIFAR-10).
        warmup: Share of the search before alphas are learned (paper: 15 epochs of 50).
        arch_lr: Adam step for alphas and betas (paper: 6e-4).
        betas: Of Adam (paper: 0.5, 0.999).
        arch_weight_decay: Of Adam (paper: 1e-3).
        seed: Of alphas and betas at the start.

    Attributes:
        edge_betas: One vector for each decision over inputs, in the order of its edges.

    Raises:
        UnsupportedSpaceError: Candidates that cannot be narrowed; the message names one.
    """

    inherits_weights: ClassVar[bool] = False

    def __init__(
        self,
        supernet: Supernet,
        *,
        num_parts: int = 4,
        warmup: float = 0.3,
        arch_lr: float = 6e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        arch_weight_decay: float = 1e-3,
        seed: int = 0,
    ) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}; expected a share of the search, in [0, 1)")
        super().__init__(
            supernet, arch_lr=arch_lr, betas=betas, arch_weight_decay=arch_weight_decay, seed=seed
        )
        connect_partially(supernet, num_parts)
        self.warmup = warmup
        self.edge_betas = nn.ParameterList(
            nn.Parameter(1e-3 * torch.randn(len(gate.choices), generator=self.generator))
            for gate in self._open_gates
        )
        self._optimizer.add_param_group({"params": list(self.edge_betas)})

    def _open_for_weights(self) -> None:
        self._soften()

    def _soften(self) -> None:
        self._mix({k: a.softmax(0) for k, a in zip(self.labels, self.alphas, strict=True)})

    def _open_all(self) -> None:
        for gate, beta in zip(self._open_gates, self.edge_betas, strict=True):
            gate.mix(beta.softmax(0))

    def _edge_strengths(self, label: str) -> dict[str, float]:
        position = [gate.label for gate in self._open_gates].index(label)
        beta: Tensor = self.edge_betas[position]
        logarithms = beta.detach().double().log_softmax(0).tolist()
        return dict(zip(map(str, self._open_gates[position].choices), logarithms, strict=True))

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
        reward: Reward | None = None,
    ) -> dict[str, float]:
        if self.progress < self.warmup:
            return {}
        self._soften()
        learned = [*self.alphas, *self.edge_betas]
        with frozen(self.supernet):
            value = loss(valid_batch)
            gradients = self._gradients(value, learned)
        self._update(gradients, learned)
        return {"arch_loss": float(value.detach())}
