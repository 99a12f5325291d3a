"""The recurrent policy of ENAS, over the decisions of any space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Choice
from nas_plugins.decision import Decision

__all__ = ["Controller", "Policy"]


class Policy(NamedTuple):
    """Sequences of choices, and what the controller thinks of them.

    Attributes:
        choices: Of each sequence, decision to choice; active decisions only.
        log_probability: Shape ``(sequences,)``.
        entropy: Of the choices along each sequence, summed, in nats; detached. Shape
            ``(sequences,)``.
        skip_divergence: Of the probabilities of optional inputs from the target, summed over
            the inputs of one place, mean over places; shape ``(sequences,)``.
        probabilities: Decision to those of its choices, mean over the sequences that reach
            it; detached.
    """

    choices: list[dict[str, Choice]]
    log_probability: Tensor
    entropy: Tensor
    skip_divergence: Tensor
    probabilities: dict[str, Tensor]


class Controller(nn.Module):
    """An LSTM that answers one decision a step, each answer the next step's input.

    Decisions come in the order of the space; one that is not active, given the answers
    before, is passed over. Decisions without a head take a known choice.

    Args:
        decisions: All of the space's, in order.
        choices: Of the decisions that are to be learned.
        known: Choices of others; their default if missing.
        hidden_size: Of the LSTM.
        temperature, tanh_constant: Logits are ``tanh_constant * tanh(logit / temperature)``.
        skip_target: Probability that an optional input should be taken with.
        generator: Of the weights at the start, uniform in [-0.1, 0.1].
    """

    def __init__(
        self,
        decisions: Mapping[str, Decision],
        choices: Mapping[str, Sequence[Choice]],
        known: Mapping[str, Choice],
        *,
        hidden_size: int,
        temperature: float,
        tanh_constant: float,
        skip_target: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._decisions = decisions
        self._choices = choices
        self._known = known
        self._position = {label: i for i, label in enumerate(choices)}
        self._temperature = temperature
        self._tanh_constant = tanh_constant
        self._skip_target = skip_target
        with torch.random.fork_rng(devices=[]):  # what they draw is overwritten
            self.start = nn.Parameter(torch.empty(hidden_size))
            self.cell = nn.LSTMCell(hidden_size, hidden_size)
            self.heads = nn.ModuleList(nn.Linear(hidden_size, len(of)) for of in choices.values())
            self.embeddings = nn.ModuleList(
                nn.Embedding(len(of), hidden_size) for of in choices.values()
            )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1, generator=generator)

    def draw(self, num: int, generator: torch.Generator) -> Policy:
        """Sequences drawn from the policy."""

        def pick(label: str, active: list[int], log_p: Tensor) -> Tensor:
            return torch.multinomial(log_p.detach().exp().cpu(), 1, generator=generator)[:, 0]

        return self._run(num, pick)

    def read(self, architectures: Sequence[Mapping[str, Choice]]) -> Policy:
        """What the policy thinks of sequences given."""

        def pick(label: str, active: list[int], log_p: Tensor) -> Tensor:
            choices = self._choices[label]
            return torch.tensor([choices.index(architectures[i][label]) for i in active])

        return self._run(len(architectures), pick)

    def _run(self, num: int, pick: Callable[[str, list[int], Tensor], Tensor]) -> Policy:
        hidden = cell = self.start.new_zeros(num, len(self.start))
        inputs = self.start.expand(num, -1)
        log_probability = entropy = divergence = self.start.new_zeros(num)
        places: list[set[str]] = [set() for _ in range(num)]
        chosen: list[dict[str, Choice]] = [{} for _ in range(num)]
        probabilities = {}
        for label, decision in self._decisions.items():
            active = [i for i in range(num) if decision.is_active(chosen[i])]
            if label not in self._position:
                for i in active:
                    chosen[i][label] = self._known.get(label, decision.default)
                continue
            if not active:
                continue
            rows = torch.tensor(active, device=self.start.device)
            h, c = self.cell(inputs[rows], (hidden[rows], cell[rows]))
            log_p = self._log_probabilities(label, h)
            choices = self._choices[label]
            drawn = pick(label, active, log_p)
            for i, choice in zip(active, drawn.tolist(), strict=True):
                chosen[i][label] = choices[choice]
            taken = drawn.to(log_p.device)
            answer = self.embeddings[self._position[label]](taken)
            hidden, cell, inputs = (
                old.index_copy(0, rows, new)
                for old, new in ((hidden, h), (cell, c), (inputs, answer))
            )
            log_probability = log_probability.index_add(
                0, rows, log_p.gather(1, taken[:, None])[:, 0]
            )
            probabilities[label] = log_p.detach().exp().mean(0)
            entropy = entropy.index_add(0, rows, -(log_p.exp() * log_p).sum(1).detach())
            if "edge" in decision.meta:
                divergence = divergence.index_add(0, rows, self._divergence(choices, log_p))
                for i in active:
                    places[i].add(str(decision.meta["of"]))
        counts = divergence.new_tensor([max(1, len(of)) for of in places])
        return Policy(chosen, log_probability, entropy, divergence / counts, probabilities)

    def _log_probabilities(self, label: str, hidden: Tensor) -> Tensor:
        logits = self.heads[self._position[label]](hidden) / self._temperature
        return (self._tanh_constant * logits.tanh()).log_softmax(1)

    def _divergence(self, choices: Sequence[Choice], log_p: Tensor) -> Tensor:
        """KL(p || target) of a yes-or-no choice, shape ``(sequences,)``."""
        targets = [self._skip_target if choice else 1 - self._skip_target for choice in choices]
        return (log_p.exp() * (log_p - log_p.new_tensor(targets).log())).sum(1)
