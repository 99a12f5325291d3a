"""A stacked LSTM with its gradient, and Adam, in numpy: small models need no framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LSTM", "Adam"]


class LSTM:
    """Layers of long short-term memory over batches of sequences that may skip steps.

    Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000. A sequence that is
    not active at a step keeps its state, and gives out what it gave before.

    Args:
        input_size: Of the first layer; that of the others is ``hidden_size``.
        hidden_size: Of each layer.
        num_layers: One above the other.
        scale: Weights start uniform in ``[-scale, scale]``.
        rng: Of the start.

    Attributes:
        parameters: Of each layer ``(input, 4 * hidden)``, ``(hidden, 4 * hidden)`` and
            ``(4 * hidden,)``; columns are input, forget and output gate, then the new content.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        scale: float,
        rng: np.random.Generator,
    ) -> None:
        self.hidden_size = hidden_size
        self.parameters: list[np.ndarray] = []
        for size in [input_size] + [hidden_size] * (num_layers - 1):
            for shape in [(size, 4 * hidden_size), (hidden_size, 4 * hidden_size)]:
                self.parameters.append(rng.uniform(-scale, scale, shape))
            self.parameters.append(rng.uniform(-scale, scale, 4 * hidden_size))

    def step(self, x: np.ndarray, state: list[Any] | None) -> tuple[np.ndarray, list[Any]]:
        """One step of one sequence.

        Args:
            x: Input, shape ``(input,)``.
            state: What the last step gave; ``None`` at the start.

        Returns:
            Output of the last layer, shape ``(hidden,)``, and the state after the step.
        """
        after = []
        zeros = np.zeros(self.hidden_size)
        for layer in range(len(self.parameters) // 3):
            of_input, of_hidden, bias = self.parameters[3 * layer : 3 * layer + 3]
            hidden, cell = (zeros, zeros) if state is None else state[layer]
            moment = _moment(x @ of_input + hidden @ of_hidden + bias, hidden, cell)
            x = moment.output * moment.squashed
            after.append((x, moment.next_cell))
        return x, after

    def forward(self, x: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """All steps of a batch.

        Args:
            x: Inputs, shape ``(batch, steps, input)``.
            active: Which sequence takes which step, boolean, shape ``(batch, steps)``.

        Returns:
            Outputs of the last layer, shape ``(batch, steps, hidden)``, and what
            :meth:`backward` needs.
        """
        tape = []
        for layer in range(len(self.parameters) // 3):
            of_input, of_hidden, bias = self.parameters[3 * layer : 3 * layer + 3]
            projected = np.tensordot(x, of_input, 1) + bias
            hidden = cell = np.zeros((len(x), self.hidden_size))
            outputs, moments = np.empty((*active.shape, self.hidden_size)), []
            for t in range(active.shape[1]):
                on = active[:, t, None]
                moment = _moment(projected[:, t] + hidden @ of_hidden, hidden, cell)
                moments.append(moment)
                hidden = np.where(on, moment.output * moment.squashed, hidden)
                cell = np.where(on, moment.next_cell, cell)
                outputs[:, t] = hidden
            tape.append((x, active, moments))
            x = outputs
        return x, tape

    def backward(
        self, d_outputs: np.ndarray, tape: list[Any]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Gradient with respect to the inputs, and to each of the parameters.

        Args:
            d_outputs: With respect to the outputs, shape ``(batch, steps, hidden)``.
            tape: From :meth:`forward`.
        """
        gradients: list[np.ndarray] = []
        for layer in reversed(range(len(tape))):
            of_input, of_hidden, _ = self.parameters[3 * layer : 3 * layer + 3]
            x, active, moments = tape[layer]
            d_gates = np.empty((*active.shape, 4 * self.hidden_size))
            d_hidden = d_cell = np.zeros((len(x), self.hidden_size))
            for t in reversed(range(active.shape[1])):
                on = active[:, t, None]
                d_hidden = d_hidden + d_outputs[:, t]
                d_gates[:, t], d_before = _moment_backward(moments[t], d_hidden * on, d_cell * on)
                d_hidden = d_hidden * ~on + d_gates[:, t] @ of_hidden.T
                d_cell = d_cell * ~on + d_before
            before = np.stack([moment.hidden for moment in moments], axis=1)
            gradients[:0] = [
                np.tensordot(x, d_gates, axes=([0, 1], [0, 1])),
                np.tensordot(before, d_gates, axes=([0, 1], [0, 1])),
                d_gates.sum(axis=(0, 1)),
            ]
            d_outputs = np.tensordot(d_gates, of_input.T, 1)
        return d_outputs, gradients


class _Moment(NamedTuple):
    """One step of one layer; shapes ``(..., hidden)``."""

    hidden: np.ndarray
    cell: np.ndarray
    input: np.ndarray
    forget: np.ndarray
    output: np.ndarray
    content: np.ndarray
    next_cell: np.ndarray
    squashed: np.ndarray


def _moment(gates: np.ndarray, hidden: np.ndarray, cell: np.ndarray) -> _Moment:
    size = hidden.shape[-1]
    # The logistic function by way of tanh, which does not overflow.
    opened = 0.5 * (1 + np.tanh(0.5 * gates[..., : 3 * size]))
    take, forget, output = opened[..., :size], opened[..., size : 2 * size], opened[..., 2 * size :]
    content = np.tanh(gates[..., 3 * size :])
    next_cell = forget * cell + take * content
    return _Moment(hidden, cell, take, forget, output, content, next_cell, np.tanh(next_cell))


def _moment_backward(
    moment: _Moment, d_hidden: np.ndarray, d_cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to the gates before their functions, and to the cell before."""
    _, cell, take, forget, output, content, _, squashed = moment
    d_cell = d_cell + d_hidden * output * (1 - squashed**2)
    d_gates = [
        d_cell * content * take * (1 - take),
        d_cell * cell * forget * (1 - forget),
        d_hidden * squashed * output * (1 - output),
        d_cell * take * (1 - content**2),
    ]
    return np.concatenate(d_gates, axis=-1), d_cell * forget


class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980, algorithm 1, with its constants.

    Args:
        parameters: Changed in place.
        learning_rate: Step size.
    """

    def __init__(self, parameters: Sequence[np.ndarray], learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._parameters = parameters
        self._means = [np.zeros_like(parameter) for parameter in parameters]
        self._squares = [np.zeros_like(parameter) for parameter in parameters]
        self._num_steps = 0

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Descend along the gradients of a loss, one for each parameter."""
        self._num_steps += 1
        of_mean, of_square = 1 - 0.9**self._num_steps, 1 - 0.999**self._num_steps
        for parameter, gradient, mean, square in zip(
            self._parameters, gradients, self._means, self._squares, strict=True
        ):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            step = (mean / of_mean) / (np.sqrt(square / of_square) + 1e-8)
            parameter -= self.learning_rate * step
