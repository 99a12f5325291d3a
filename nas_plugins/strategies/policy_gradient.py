"""What strategies that learn a policy from rewards have in common."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy
from nas_plugins.strategies.lstm import Adam
from nas_plugins.strategies.options import check_at_least
from nas_plugins.strategies.policies import Policy

__all__ = ["PolicyGradient"]


_LARGEST = 1e30
"""Scores beyond it count as it, so that powers and squares of them are numbers."""


class PolicyGradient(Strategy):
    """Proposals are drawn from a policy, which is updated after each batch of rewards.

    There is one reward for a whole sequence of choices and no state of an environment between
    them, so that it is a bandit whose arms are architectures: no discount and no critic, the
    baseline is a number.

    The advantage is the reward less an exponential moving average of rewards, corrected for
    its start at zero, which has taken the batch in.

    Results that come late, of proposals that an earlier policy made, and those of
    architectures that nobody asked for, enter the batch that is being filled, as in
    asynchronous training. A failed evaluation enters none.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        learning_rate: Of Adam.
        batch_size: Evaluations in an update.
        baseline_decay: Of the moving average, for each batch.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        learning_rate: float,
        batch_size: int,
        baseline_decay: float,
    ) -> None:
        check_at_least(1, batch_size=batch_size)
        if not 0 <= baseline_decay < 1:
            raise ValueError(f"baseline_decay is {baseline_decay}; expected it in [0, 1)")
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"learning_rate is {learning_rate}; expected it above 0")
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.baseline_decay = baseline_decay
        super().__init__(space, seed=seed)

    @abstractmethod
    def _make_policy(self, rng: np.random.Generator) -> Policy:
        """The policy before any observation."""

    @abstractmethod
    def _update(self, rows: np.ndarray, advantages: np.ndarray) -> None:
        """Change the policy by a batch: tokens ``(batch, decisions)``, advantages ``(batch,)``."""

    def _reward(self, score: float) -> float:
        """What the policy is to maximise the expectation of."""
        return score

    def _reset(self) -> None:
        self._policy = self._make_policy(np.random.default_rng(self.seed))
        self._adam = Adam(self._policy.parameters, self.learning_rate)
        self._batch: list[tuple[np.ndarray, float]] = []
        self._average = self._weight = 0.0

    def _observe(self, observation: Observation) -> None:
        if not isinstance(observation.score, float):  # None: it failed
            return
        row = self._policy.tokens.row(observation.architecture)
        score = max(-_LARGEST, min(observation.score, _LARGEST))
        self._batch.append((row, self._reward(score)))
        if len(self._batch) == self.batch_size:
            rewards = np.array([reward for _, reward in self._batch])
            rows = np.stack([row for row, _ in self._batch])
            self._batch = []
            self._average += (1 - self.baseline_decay) * (float(rewards.mean()) - self._average)
            self._weight += (1 - self.baseline_decay) * (1 - self._weight)
            self._update(rows, rewards - self._average / self._weight)

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        return self._policy.draw(rng)
