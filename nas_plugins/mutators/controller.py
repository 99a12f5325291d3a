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


Pick = Callable[[str, "list[int]", Tensor], Tensor]
"""From a decision, the sequences and their log-probabilities to the choices' numbers."""


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

    def _run(self, num: int, pick: Pick) -> Policy:
        draft = _Draft(self.start, num)
        with torch.autocast(self.start.device.type, enabled=False):
            for label, decision in self._decisions.items():
                active = [i for i in range(num) if decision.is_active(draft.choices[i])]
                if label in self._position and active:
                    self._answer(decision, active, draft, pick)
                else:
                    for i in active:
                        draft.choices[i][label] = self._known.get(label, decision.default)
        return draft.policy()

    def _answer(self, decision: Decision, active: list[int], draft: _Draft, pick: Pick) -> None:
        """One step of the sequences in which a decision is active."""
        label, rows = decision.label, draft.rows(active)
        state = (
            (draft.hidden, draft.cell) if rows is None else (draft.hidden[rows], draft.cell[rows])
        )
        hidden, cell = self.cell(draft.inputs if rows is None else draft.inputs[rows], state)
        log_p = self._log_probabilities(label, hidden)
        choices = self._choices[label]
        picked = pick(label, active, log_p)
        for i, choice in zip(active, picked.tolist(), strict=True):
            draft.choices[i][label] = choices[choice]
        taken = picked.to(log_p.device)
        draft.hidden = _put(draft.hidden, rows, hidden)
        draft.cell = _put(draft.cell, rows, cell)
        draft.inputs = _put(draft.inputs, rows, self.embeddings[self._position[label]](taken))
        of_taken = log_p.gather(1, taken[:, None])[:, 0]
        draft.log_probability = _add(draft.log_probability, rows, of_taken)
        probabilities = log_p.detach().exp()
        draft.entropy = _add(draft.entropy, rows, torch.special.entr(probabilities).sum(1))
        draft.probabilities[label] = probabilities.mean(0)
        if "edge" in decision.meta:
            divergence = self._divergence(choices, log_p)
            draft.divergence = _add(draft.divergence, rows, divergence)
            for i in active:
                draft.places[i].add(str(decision.meta["of"]))

    def _log_probabilities(self, label: str, hidden: Tensor) -> Tensor:
        logits = self.heads[self._position[label]](hidden) / self._temperature
        return (self._tanh_constant * logits.tanh()).log_softmax(1)

    def _divergence(self, choices: Sequence[Choice], log_p: Tensor) -> Tensor:
        """KL(p || target) of a yes-or-no choice, shape ``(sequences,)``."""
        targets = [self._skip_target if choice else 1 - self._skip_target for choice in choices]
        return (log_p.exp() * (log_p - log_p.new_tensor(targets).log())).sum(1)


class _Draft:
    """Sequences under way, with the state of the LSTM, shapes ``(sequences, hidden)``."""

    def __init__(self, start: Tensor, num: int) -> None:
        self.hidden = self.cell = start.new_zeros(num, len(start))
        self.inputs = start.expand(num, -1)
        self.log_probability = self.entropy = self.divergence = start.new_zeros(num)
        self.choices: list[dict[str, Choice]] = [{} for _ in range(num)]
        self.places: list[set[str]] = [set() for _ in range(num)]
        self.probabilities: dict[str, Tensor] = {}

    def rows(self, active: list[int]) -> Tensor | None:
        """Where they stand; none if these are all sequences, which saves a good part of a step."""
        everyone = len(active) == len(self.choices)
        return None if everyone else torch.tensor(active, device=self.hidden.device)

    def policy(self) -> Policy:
        counts = self.divergence.new_tensor([max(1, len(of)) for of in self.places])
        return Policy(
            self.choices,
            self.log_probability,
            self.entropy,
            self.divergence / counts,
            self.probabilities,
        )


def _put(into: Tensor, rows: Tensor | None, values: Tensor) -> Tensor:
    return values if rows is None else into.index_copy(0, rows, values)


def _add(to: Tensor, rows: Tensor | None, values: Tensor) -> Tensor:
    return to + values if rows is None else to.index_add(0, rows, values)
