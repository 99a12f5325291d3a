"""Small networks that predict the score of an architecture from its tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from nas_plugins.strategies.lstm import LSTM, Adam
from nas_plugins.strategies.tokens import INACTIVE, Tokens

__all__ = ["Ensemble", "LSTMSurrogate", "MLPSurrogate", "Surrogate", "spearman"]

_CHUNK = 4096


class Surrogate(ABC):
    """A network whose output is the (standardised) score.

    Equal choices are one word, whichever decision they are taken at, so that what is learned
    of an operation in the first block tells of blocks that were not seen yet.

    Args:
        tokens: How architectures are read.
        rng: Of the weights at the start.
    """

    parameters: list[np.ndarray]

    def __init__(self, tokens: Tokens, rng: np.random.Generator) -> None:
        self._words, self._num_words = _words(tokens)

    def fit(
        self,
        rows: np.ndarray,
        targets: np.ndarray,
        *,
        learning_rate: float,
        num_steps: int,
        batch_size: int,
        rng: np.random.Generator,
    ) -> None:
        """Descend the mean absolute error with Adam, from where the weights are.

        Args:
            rows: Tokens, shape ``(architectures, decisions)``.
            targets: Shape ``(architectures,)``.
            learning_rate: Of Adam.
            num_steps: Batches.
            batch_size: Drawn at random for each step.
            rng: Draws them.
        """
        adam = Adam(self.parameters, learning_rate)
        for _ in range(num_steps):
            batch = rng.choice(len(rows), min(batch_size, len(rows)), replace=False)
            prediction, tape = self._forward(rows[batch])
            error = np.sign(prediction - targets[batch]) / len(batch)
            adam.step(self._backward(error, tape))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Scores, shape ``(architectures,)``."""
        chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
        return np.concatenate([self._forward(chunk)[0] for chunk in chunks])

    @abstractmethod
    def _forward(self, rows: np.ndarray) -> tuple[np.ndarray, Any]:
        """Predictions and the tape."""

    @abstractmethod
    def _backward(self, d_prediction: np.ndarray, tape: Any) -> list[np.ndarray]:
        """Gradients of the parameters."""


class MLPSurrogate(Surrogate):
    """The mean of the choices' embeddings, one hidden layer of rectified units.

    The embedding of a choice is that of its word plus one of its own at its decision. The
    latter starts at zero: a decision that was not seen yet is judged by words alone.

    Args:
        tokens: How architectures are read.
        rng: Of the weights at the start.
        hidden_size: Of the embeddings and of the hidden layer.
    """

    def __init__(self, tokens: Tokens, rng: np.random.Generator, *, hidden_size: int) -> None:
        super().__init__(tokens, rng)
        size = hidden_size
        self._shared = rng.uniform(-0.1, 0.1, (self._num_words, size))
        self._own = np.zeros((*self._words.shape, size))
        self._hidden = rng.uniform(-1, 1, (size, size)) * np.sqrt(6 / size)  # He et al. 2015
        self._hidden_bias = np.zeros(size)
        self._out = rng.uniform(-1, 1, size) * np.sqrt(1 / size)
        self._out_bias = np.zeros(1)
        self.parameters = [
            self._shared,
            self._own,
            self._hidden,
            self._hidden_bias,
            self._out,
            self._out_bias,
        ]

    def _forward(self, rows: np.ndarray) -> tuple[np.ndarray, Any]:
        active = rows != INACTIVE
        share = active / active.sum(axis=1, keepdims=True)
        embeddings = self._shared[self._words] + self._own
        x = np.zeros((len(rows), self._shared.shape[1]))
        for position in range(rows.shape[1]):
            x += embeddings[position, rows[:, position]] * share[:, position, None]
        hidden = np.maximum(x @ self._hidden + self._hidden_bias, 0.0)
        return hidden @ self._out + self._out_bias, (rows, share, x, hidden)

    def _backward(self, d_prediction: np.ndarray, tape: Any) -> list[np.ndarray]:
        rows, share, x, hidden = tape
        d_hidden = d_prediction[:, None] * self._out * (hidden > 0)
        d_embeddings = np.einsum("nd,nh->ndh", share, d_hidden @ self._hidden.T)
        taken = rows[:, :, None] == np.arange(self._own.shape[1])  # faster than np.add.at
        d_own = taken.transpose(1, 2, 0) @ d_embeddings.transpose(1, 0, 2)
        d_shared = np.zeros_like(self._shared)
        np.add.at(d_shared, self._words, d_own)
        return [
            d_shared,
            d_own,
            x.T @ d_hidden,
            d_hidden.sum(axis=0),
            hidden.T @ d_prediction,
            d_prediction.sum(keepdims=True),
        ]


class LSTMSurrogate(Surrogate):
    """An LSTM reads the choices in the space's order; its last state gives the score.

    Args:
        tokens: How architectures are read.
        rng: Of the weights at the start.
        hidden_size: Of the embeddings and of the LSTM.
    """

    def __init__(self, tokens: Tokens, rng: np.random.Generator, *, hidden_size: int) -> None:
        super().__init__(tokens, rng)
        self._lstm = LSTM(hidden_size, hidden_size, 1, scale=0.1, rng=rng)
        self._embeddings = rng.uniform(-0.1, 0.1, (self._num_words, hidden_size))
        self._out = rng.uniform(-1, 1, hidden_size) * np.sqrt(1 / hidden_size)
        self._out_bias = np.zeros(1)
        self.parameters = [*self._lstm.parameters, self._embeddings, self._out, self._out_bias]

    def _forward(self, rows: np.ndarray) -> tuple[np.ndarray, Any]:
        words = self._words[np.arange(rows.shape[1]), rows]
        hidden, tape = self._lstm.forward(self._embeddings[words], rows != INACTIVE)
        return hidden[:, -1] @ self._out + self._out_bias, (words, hidden, tape)

    def _backward(self, d_prediction: np.ndarray, tape: Any) -> list[np.ndarray]:
        words, hidden, tape = tape
        d_hidden = np.zeros_like(hidden)
        d_hidden[:, -1] = d_prediction[:, None] * self._out
        d_x, of_lstm = self._lstm.backward(d_hidden, tape)
        d_embeddings = np.zeros_like(self._embeddings)
        np.add.at(d_embeddings, words, d_x)
        return [
            *of_lstm,
            d_embeddings,
            hidden[:, -1].T @ d_prediction,
            d_prediction.sum(keepdims=True),
        ]


class Ensemble:
    """The mean of several surrogates, each of which sees another four fifths of the data.

    Args:
        members: At least one.
    """

    def __init__(self, members: list[Surrogate]) -> None:
        self._members = members

    def fit(
        self, rows: np.ndarray, scores: np.ndarray, *, rng: np.random.Generator, **options: Any
    ) -> None:
        """Fit all members to the scores, standardised; options are :meth:`Surrogate.fit`'s."""
        targets = (scores - scores.mean()) / (scores.std() or 1.0)
        for member in self._members:
            part = rng.permutation(len(rows))[: -(-4 * len(rows) // 5)]
            member.fit(rows[part], targets[part], rng=rng, **options)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Standardised scores, shape ``(architectures,)``."""
        return np.mean([member.predict(rows) for member in self._members], axis=0)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two vectors, NaN where one is constant."""
    ranks = [(x[:, None] > x).sum(1) + (x[:, None] == x).sum(1) / 2 for x in (first, second)]
    a, b = (rank - rank.mean() for rank in ranks)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else float("nan")


def _words(tokens: Tokens) -> tuple[np.ndarray, int]:
    """Number of the word of each token, shape ``(decisions, tokens)``, and how many there are."""
    numbers: dict[object, int] = {}
    words = np.zeros((len(tokens.sizes), int(tokens.sizes.max(initial=1))), dtype=int)
    for position in range(len(tokens.sizes)):
        for token in range(tokens.sizes[position]):
            word = tokens.word(position, token)
            words[position, token] = numbers.setdefault(word, len(numbers))
    return words, max(1, len(numbers))
