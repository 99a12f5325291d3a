"""NASNet's controller, trained by proximal policy optimisation."""

from __future__ import annotations

import numpy as np

from nas_plugins.space import SearchSpace
from nas_plugins.strategies.options import check_at_least
from nas_plugins.strategies.policies import LSTMPolicy, Policy
from nas_plugins.strategies.policy_gradient import PolicyGradient

__all__ = ["PPO"]


class PPO(PolicyGradient):
    """A recurrent controller that learns by PPO with the clipped objective.

    Zoph et al. 2018, arXiv:1707.07012, appendix A.1 (controller, learning rate, entropy,
    baseline); Schulman et al. 2017, arXiv:1707.06347, eq. 7 (the objective): the mean of
    ``min(r A, clip(r, 1 - clip, 1 + clip) A)`` plus the weighted entropy, where ``r`` is the
    probability of a whole architecture over that before the update, ``A`` its advantage.

    Deviations: the probability before the update is that of the policy as it is when a batch is
    full. With one worker it is the policy that proposed the batch; of a late result it is a
    newer one, since a history does not hold which policy proposed what. Advantages are
    divided by their root mean square in the batch, because scores of a general objective have
    any scale; the usual deviation is nothing where all scores of a batch are equal. The
    appendix gives neither ``batch_size`` nor ``clip`` nor ``epochs``: the last two are
    Schulman et al.'s for continuous control.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        learning_rate: Of Adam (paper: 0.00035, for some 20,000 children; a few hundred
            evaluations need 0.01 or more).
        batch_size: Children in an update.
        baseline_decay: Of the moving average of rewards, for each update (paper: 0.95).
        clip: Of the ratio of probabilities.
        epochs: Steps on each batch.
        entropy_weight: Of the bonus for exploration (paper: 0.00001).
        hidden_size: Of the LSTM (paper: 100).

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        learning_rate: float = 0.00035,
        batch_size: int = 20,
        baseline_decay: float = 0.95,
        clip: float = 0.2,
        epochs: int = 10,
        entropy_weight: float = 0.00001,
        hidden_size: int = 100,
    ) -> None:
        if not 0 < clip < 1:
            raise ValueError(f"clip is {clip}; expected it in (0, 1)")
        check_at_least(1, epochs=epochs, hidden_size=hidden_size)
        check_at_least(0, entropy_weight=entropy_weight)
        self.clip = clip
        self.epochs = epochs
        self.entropy_weight = entropy_weight
        self.hidden_size = hidden_size
        super().__init__(
            space,
            seed=seed,
            learning_rate=learning_rate,
            batch_size=batch_size,
            baseline_decay=baseline_decay,
        )

    def _make_policy(self, rng: np.random.Generator) -> Policy:
        return LSTMPolicy(self.space, rng, hidden_size=self.hidden_size, num_layers=1, scale=0.1)

    def _update(self, rows: np.ndarray, advantages: np.ndarray) -> None:
        # Not by the deviation, which is nothing in a batch of equal scores.
        advantages = advantages / (np.sqrt(np.mean(advantages**2)) + 1e-8)
        old = self._policy.read(rows).log_probability
        for _ in range(self.epochs):
            reading = self._policy.read(rows)
            ratio = np.exp(reading.log_probability - old)
            # Past the clip, in the direction that would pay, the objective is flat.
            flat = np.where(advantages > 0, ratio > 1 + self.clip, ratio < 1 - self.clip)
            d_log_probability = -np.where(flat, 0.0, ratio * advantages) / len(rows)
            d_entropy = np.full(len(rows), -self.entropy_weight / len(rows))
            self._adam.step(self._policy.gradients(reading, d_log_probability, d_entropy))
