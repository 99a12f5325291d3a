"""Distributions over architectures that a policy gradient can move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.lstm import LSTM
from nas_plugins.strategies.tokens import INACTIVE, Tokens

__all__ = ["LSTMPolicy", "Policy", "Reading", "TablePolicy"]

_MAX_DRAWS = 100


class Reading(NamedTuple):
    """What a policy thinks of architectures.

    Attributes:
        log_probability: Of each whole architecture, shape ``(batch,)``.
        entropy: Of the choices on its way, summed, in nats; shape ``(batch,)``.
        rows: Its tokens, shape ``(batch, decisions)``.
        log_p: Of every token, 0 where there is none; shape ``(batch, decisions, tokens)``.
        p: Probabilities, 0 where there is no token and where the decision is not active.
        tape: What the policy needs for the gradient.
    """

    log_probability: np.ndarray
    entropy: np.ndarray
    rows: np.ndarray
    log_p: np.ndarray
    p: np.ndarray
    tape: Any


class Policy(ABC):
    """One choice after the other, in the space's order; inactive decisions are passed over.

    Every decision starts out (almost) uniform; a space's prior is not used.

    Args:
        space: Whose architectures.

    Attributes:
        parameters: Arrays that an optimiser changes in place.
        tokens: How architectures are read.
    """

    parameters: list[np.ndarray]

    def __init__(self, space: SearchSpace) -> None:
        self.tokens = Tokens(space)
        self._space = space
        self._shape = len(self.tokens.sizes), int(self.tokens.sizes.max(initial=1))
        self._exists = np.arange(self._shape[1]) < self.tokens.sizes[:, None]

    def draw(self, rng: np.random.Generator) -> Architecture:
        """An architecture from the policy; where clauses forbid all of many, from the prior."""
        for _ in range(_MAX_DRAWS):
            architecture = self._draw(rng)
            if architecture in self._space:
                return architecture
        return self._space.sample(rng)

    def read(self, rows: np.ndarray) -> Reading:
        """Probabilities along architectures given by their tokens."""
        active = rows != INACTIVE
        logits, tape = self._logits(rows, active)
        logits = np.where(self._exists, logits, -np.inf)
        log_p = logits - logits.max(axis=2, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(axis=2, keepdims=True))
        log_p = np.where(self._exists, log_p, 0.0)
        p = np.exp(log_p) * (self._exists & active[:, :, None])
        taken = np.take_along_axis(log_p, rows[:, :, None].clip(0), axis=2)[:, :, 0]
        entropy = -(p * log_p).sum(axis=(1, 2))
        return Reading((taken * active).sum(axis=1), entropy, rows, log_p, p, tape)

    def gradients(
        self, reading: Reading, d_log_probability: np.ndarray, d_entropy: np.ndarray | float = 0.0
    ) -> list[np.ndarray]:
        """Gradient of a loss with respect to the parameters.

        Args:
            reading: From :meth:`read`, since when no parameter changed.
            d_log_probability: Of the loss with respect to each log-probability, ``(batch,)``.
            d_entropy: With respect to each entropy, ``(batch,)``.
        """
        _, _, rows, log_p, p, tape = reading
        d_logits = -p * d_log_probability[:, None, None]
        batch, steps = np.nonzero(rows != INACTIVE)
        d_logits[batch, steps, rows[batch, steps]] += d_log_probability[batch]
        entropies = -(p * log_p).sum(axis=2, keepdims=True)
        d_logits -= np.reshape(d_entropy, (-1, 1, 1)) * p * (log_p + entropies)
        return self._gradients(d_logits, rows, tape)

    @abstractmethod
    def _next(
        self, position: int, last: tuple[int, int] | None, state: Any
    ) -> tuple[np.ndarray, Any]:
        """Logits of one decision, given position and token of the last, and the state after."""

    @abstractmethod
    def _logits(self, rows: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, Any]:
        """Logits of all decisions, shape ``(batch, decisions, tokens)``, and the tape."""

    @abstractmethod
    def _gradients(self, d_logits: np.ndarray, rows: np.ndarray, tape: Any) -> list[np.ndarray]:
        """Gradients of the parameters from those of the logits."""

    def _draw(self, rng: np.random.Generator) -> Architecture:
        chosen: dict[str, Choice] = {}
        last: tuple[int, int] | None = None
        state: Any = None
        for position, decision in enumerate(self.tokens.decisions):
            if not decision.is_active(chosen):
                continue
            logits, state = self._next(position, last, state)
            logits = logits[: self.tokens.sizes[position]]
            # The largest of logits with Gumbel noise is a draw from their softmax.
            last = position, int(np.argmax(logits + rng.gumbel(size=len(logits))))
            chosen[decision.label] = self.tokens.choice(*last, rng)
        return Architecture(chosen)


class TablePolicy(Policy):
    """Decisions are independent: logits in a table, one row for each.

    Args:
        space: Whose architectures.
        rng: The logits start normal, with standard deviation 0.001.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space)
        self.parameters = [1e-3 * rng.standard_normal(self._shape)]

    def _next(
        self, position: int, last: tuple[int, int] | None, state: Any
    ) -> tuple[np.ndarray, Any]:
        return self.parameters[0][position], None

    def _logits(self, rows: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, Any]:
        return np.broadcast_to(self.parameters[0], (len(rows), *self._shape)), None

    def _gradients(self, d_logits: np.ndarray, rows: np.ndarray, tape: Any) -> list[np.ndarray]:
        return [d_logits.sum(axis=0)]


class LSTMPolicy(Policy):
    """A recurrent network that reads each choice before it makes the next.

    Args:
        space: Whose architectures.
        rng: The weights start uniform in ``[-scale, scale]``.
        hidden_size: Of each layer, and of the embeddings.
        num_layers: Of the LSTM.
        scale: Of the start.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        hidden_size: int,
        num_layers: int,
        scale: float,
    ) -> None:
        super().__init__(space)
        decisions, tokens = self._shape
        self._lstm = LSTM(hidden_size, hidden_size, num_layers, scale=scale, rng=rng)
        self._start = rng.uniform(-scale, scale, hidden_size)
        self._embeddings = rng.uniform(-scale, scale, (decisions, tokens, hidden_size))
        self._heads = rng.uniform(-scale, scale, (decisions, hidden_size, tokens))
        self._biases = rng.uniform(-scale, scale, (decisions, tokens))
        self.parameters = [
            *self._lstm.parameters,
            self._start,
            self._embeddings,
            self._heads,
            self._biases,
        ]

    def _next(
        self, position: int, last: tuple[int, int] | None, state: Any
    ) -> tuple[np.ndarray, Any]:
        x = self._start if last is None else self._embeddings[last]
        hidden, state = self._lstm.step(x, state)
        return hidden @ self._heads[position] + self._biases[position], state

    def _logits(self, rows: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, Any]:
        last = _last_active(active)
        before = np.take_along_axis(rows, last.clip(0), axis=1)
        x = np.where((last < 0)[:, :, None], self._start, self._embeddings[last, before])
        hidden, tape = self._lstm.forward(x, active)
        logits = np.einsum("bdh,dht->bdt", hidden, self._heads) + self._biases
        return logits, (last, before, hidden, tape)

    def _gradients(self, d_logits: np.ndarray, rows: np.ndarray, tape: Any) -> list[np.ndarray]:
        last, before, hidden, tape = tape
        d_hidden = np.einsum("bdt,dht->bdh", d_logits, self._heads)
        d_x, of_lstm = self._lstm.backward(d_hidden, tape)
        d_embeddings = np.zeros_like(self._embeddings)
        read = last >= 0
        np.add.at(d_embeddings, (last[read], before[read]), d_x[read])
        d_heads = np.einsum("bdh,bdt->dht", hidden, d_logits)
        return [*of_lstm, d_x[~read].sum(axis=0), d_embeddings, d_heads, d_logits.sum(axis=0)]


def _last_active(active: np.ndarray) -> np.ndarray:
    """Position of the last active decision before each one, -1 if there is none."""
    positions = np.where(active, np.arange(active.shape[1]), -1)
    before = np.full(active.shape, -1)
    before[:, 1:] = np.maximum.accumulate(positions, axis=1)[:, :-1]
    return before
