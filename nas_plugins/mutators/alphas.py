"""What mutators with one logit per choice have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import INPUT_SEPARATOR
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.mutators.base import Evaluate, Mutator
from nas_plugins.mutators.derivation import best_first, ranked
from nas_plugins.mutators.driver import drivers, edge_operations
from nas_plugins.supernet import Supernet

__all__ = ["AlphaMutator"]


class AlphaMutator(Mutator):
    """Logits, one for each choice of each decision, learned with Adam.

    Decisions over a fixed number of inputs need no logits where every edge is a choice of
    operation, as in cells: all edges run with weight one, and those whose operation is the
    strongest are derived (Liu et al. 2019, section 2.4).

    Args:
        supernet: Network whose gates are driven; not copied.
        arch_lr: Learning rate of Adam for alphas.
        betas: Of Adam.
        arch_weight_decay: Of Adam, added to the gradient.
        seed: Of the alphas at the start, 1e-3 times a standard normal, and what is sampled.
        mixture_only: Whether candidates that no architecture may have take part.
        edges_by_operation: Whether edges are derived from their operations; without, such
            decisions have logits like any other.

    Attributes:
        labels: The decisions with logits.
        alphas: One vector for each of ``labels``; candidates in the mixture only come last.

    Raises:
        UnsupportedSpaceError: The supernet has no gate.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        arch_lr: float,
        betas: tuple[float, float],
        arch_weight_decay: float,
        seed: int = 0,
        mixture_only: bool = True,
        edges_by_operation: bool = True,
    ) -> None:
        super().__init__(supernet, seed=seed)
        self._edges = edge_operations(supernet) if edges_by_operation else {}
        found = drivers(supernet, mixture_only=mixture_only)
        self._open_gates = [driver.gate for driver in found if driver.gate.label in self._edges]
        self._driven = [driver for driver in found if driver.gate.label not in self._edges]
        self.drivers = nn.ModuleList(self._driven)  # registered, to move with the alphas
        choices = {label: of for driver in self._driven for label, of in driver.choices.items()}
        self.labels = tuple(choices)
        self.alphas = nn.ParameterList(
            nn.Parameter(1e-3 * torch.randn(len(of), generator=self.generator))
            for of in choices.values()
        )
        self._optimizer = torch.optim.Adam(
            self.alphas, lr=arch_lr, betas=betas, weight_decay=arch_weight_decay
        )

    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def probabilities(self) -> dict[str, Tensor]:
        return {
            label: alpha.detach().softmax(0)
            for label, alpha in zip(self.labels, self.alphas, strict=True)
        }

    def derive(self, num: int = 1, evaluate: Evaluate | None = None) -> list[Architecture]:
        found = best_first(self.supernet.space, self.worths(), num)
        return found if evaluate is None else ranked(found, evaluate)

    def worths(self) -> dict[str, dict[Choice, float]]:
        """Logarithm of each derivable choice's probability; an edge's is its best operation's."""
        decisions = self.supernet.space.decisions
        worths: dict[str, dict[Choice, float]] = {
            label: {choice: 0.0} for label, choice in self.supernet.fixed.items()
        }
        logits = dict(zip(self.labels, self.alphas, strict=True))
        for driver in self._driven:
            for label, choices in driver.choices.items():
                logarithms = logits[label].detach().double().log_softmax(0).tolist()
                pairs = zip(choices, logarithms, strict=True)
                worths[label] = dict(itertools.islice(pairs, driver.num_derivable(label)))
        for label, operations in self._edges.items():
            own = self._edge_strengths(label)
            strength = {e: own.get(e, 0.0) + max(worths[o].values()) for e, o in operations.items()}
            worths[label] = {
                combination: sum(strength[e] for e in str(combination).split(INPUT_SEPARATOR))
                for combination in decisions[label].choices or ()
            }
        return worths

    def _mix(
        self, factors: Mapping[str, Tensor], running: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Set all gates from a factor for each choice of each decision, as a driver does."""
        self._open_all()
        for driver in self._driven:
            driver.mix(factors, running)

    def _select(self, running: Mapping[str, Sequence[int]]) -> None:
        """Set all gates to run some choices of each decision, with weight one."""
        self._open_all()
        for driver in self._driven:
            driver.select(running)

    def _edge_strengths(self, label: str) -> dict[str, float]:
        """Logarithms of what edges weigh themselves, apart from their operations."""
        return {}

    def _open_all(self) -> None:
        """Set the gates of inputs that are derived from operations."""
        for gate in self._open_gates:
            gate.select(*range(len(gate.choices)))

    def _noise(self) -> list[Tensor]:
        """Standard Gumbel noise for every choice; on the CPU, where the generator is."""
        return [
            torch.empty(len(alpha), dtype=alpha.dtype)
            .exponential_(generator=self.generator)
            .log()
            .neg()
            for alpha in self.alphas
        ]

    def _draw(self, num: int = 1) -> dict[str, list[int]]:
        """Of each decision, choices drawn by probability without replacement, in that order.

        The largest logits plus Gumbel noise are such a draw (Kool et al. 2019,
        arXiv:1903.06059). Fewer than ``num`` where there are no more.
        """
        logits = self._logits_on_cpu()
        return {
            label: (logit + noise).topk(min(num, len(logit))).indices.tolist()
            for label, logit, noise in zip(self.labels, logits, self._noise(), strict=True)
        }

    def _logits_on_cpu(self) -> Sequence[Tensor]:
        """In one piece, so that an accelerator is waited for once."""
        together = torch.cat([alpha.detach() for alpha in self.alphas]).cpu()
        return torch.split(together, [len(alpha) for alpha in self.alphas])

    def _update(self, gradients: Sequence[Tensor], learned: Sequence[Tensor] = ()) -> None:
        """A step of Adam; what is learned is the alphas unless given."""
        for parameter, gradient in zip(learned or self.alphas, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()

    def get_extra_state(self) -> dict[str, Any]:
        return {**super().get_extra_state(), "labels": list(self.labels)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if tuple(state["labels"]) != self.labels:
            raise UnsupportedSpaceError(
                f"the state is that of a search over {state['labels']}; this supernet's "
                f"decisions are {list(self.labels)}"
            )
        super().set_extra_state(state)
