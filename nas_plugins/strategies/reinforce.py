"""Neural architecture search with reinforcement learning."""

from __future__ import annotations

import numpy as np

from nas_plugins.space import SearchSpace
from nas_plugins.strategies.options import check_at_least
from nas_plugins.strategies.policies import LSTMPolicy, Policy, TablePolicy
from nas_plugins.strategies.policy_gradient import PolicyGradient

__all__ = ["Reinforce"]

_POLICIES = ("lstm", "table")


class Reinforce(PolicyGradient):
    """A recurrent controller that learns by REINFORCE.

    Zoph & Le 2017, arXiv:1611.01578, section 3.2 (the update) and 4.1 (the constants, for
    images): the mean of ``(reward - baseline) * grad log p(architecture)`` over a batch, reward
    the cube of the accuracy. The paper takes for accuracy the best of the last five epochs;
    that is for whoever evaluates to return.

    ``policy="table"`` is the REINFORCE of NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326,
    and its code), which goes with ``learning_rate=0.01, batch_size=1, baseline_decay=0.9,
    reward_power=1``.

    Deviations: anchor points are decisions of the space, so that the LSTM takes a step for
    each where the paper compares hidden states. The gradient of a late result is that of the
    policy as it is when the result comes; the paper's replicas compute it with the parameters
    they sampled with, and apply it late. The paper does not give the baseline's decay.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        policy: ``"lstm"``, or ``"table"`` of independent decisions.
        learning_rate: Of Adam (paper: 0.0006, for some 12,800 children; a few hundred
            evaluations need 0.01 to 0.1).
        batch_size: Children in an update (paper: m = 8).
        baseline_decay: Of the moving average of rewards, for each update.
        reward_power: The reward is the score to this power; odd, so that order is kept.
        hidden_size: Of each layer of the LSTM (paper: 35).
        num_layers: Of the LSTM (paper: 2).

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        policy: str = "lstm",
        learning_rate: float = 0.0006,
        batch_size: int = 8,
        baseline_decay: float = 0.95,
        reward_power: int = 3,
        hidden_size: int = 35,
        num_layers: int = 2,
    ) -> None:
        if policy not in _POLICIES:
            raise ValueError(f"policy is {policy!r}; expected one of {_POLICIES}")
        if reward_power < 1 or reward_power % 2 != 1:
            raise ValueError(f"reward_power is {reward_power}; expected 1, 3, 5, …")
        check_at_least(1, hidden_size=hidden_size, num_layers=num_layers)
        self.policy = policy
        self.reward_power = reward_power
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        super().__init__(
            space,
            seed=seed,
            learning_rate=learning_rate,
            batch_size=batch_size,
            baseline_decay=baseline_decay,
        )

    def _make_policy(self, rng: np.random.Generator) -> Policy:
        if self.policy == "table":
            return TablePolicy(self.space, rng)
        return LSTMPolicy(
            self.space, rng, hidden_size=self.hidden_size, num_layers=self.num_layers, scale=0.08
        )

    def _reward(self, score: float) -> float:
        return score**self.reward_power

    def _update(self, rows: np.ndarray, advantages: np.ndarray) -> None:
        reading = self._policy.read(rows)
        self._adam.step(self._policy.gradients(reading, -advantages / len(rows)))
