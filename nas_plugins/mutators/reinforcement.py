"""What mutators that learn by reinforcement have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_plugins.mutators.base import Batch, Loss, Reward

__all__ = ["MovingBaseline", "reward_of"]


@torch.no_grad()
def reward_of(loss: Loss, reward: Reward | None, batch: Batch) -> float:
    """The reward of the path that is set; ``exp(-loss)``, the inverse perplexity, without one."""
    return float((-loss(batch)).exp() if reward is None else reward(batch))


class MovingBaseline(nn.Module):
    """Exponential moving average of rewards, whose subtraction makes a policy gradient quieter.

    The average before a reward has gone in is independent of it, so that the gradient's
    expectation does not change.

    Args:
        decay: Of the average, which starts at 0 as in the code published with ENAS.
    """

    value: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", torch.zeros(()))

    def advantages(self, rewards: Tensor) -> Tensor:
        """Rewards less the baseline, which then takes their mean in."""
        advantages = rewards - self.value
        self.value.add_((1 - self.decay) * advantages.mean())
        return advantages
