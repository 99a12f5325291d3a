"""PPO against its objective, written out once more with torch's automatic gradient."""

import numpy as np
import pytest
import torch

from nas_plugins.strategies import PPO
from nas_plugins.strategies.policies import TablePolicy
from nas_plugins.testing.strategies import toy_score, toy_space


class TablePPO(PPO):
    """With a policy simple enough to be written twice."""

    def _make_policy(self, rng):
        return TablePolicy(self.space, rng)


def test_update_descends_the_clipped_objective():
    space, rng = toy_space(), np.random.default_rng(0)
    options = {"learning_rate": 0.1, "epochs": 6, "entropy_weight": 0.3, "batch_size": 5}
    strategy = TablePPO(space, **options)
    logits = torch.nn.Parameter(torch.tensor(strategy._policy.parameters[0]))
    adam = torch.optim.Adam([logits], lr=0.1)
    average = weight = 0.0
    clipped = 0
    for _ in range(4):
        told = [space.sample(rng) for _ in range(5)]
        rewards = np.array([toy_score(architecture) for architecture in told])
        for architecture, reward in zip(told, rewards, strict=True):
            strategy.tell(architecture, float(reward))

        average, weight = 0.95 * average + 0.05 * rewards.mean(), 0.95 * weight + 0.05
        advantages = torch.tensor(rewards - average / weight)
        advantages /= (advantages**2).mean().sqrt()
        chosen = torch.tensor([["abcd".index(a[label]) for label in space.decisions] for a in told])

        def log_probability(chosen=chosen):
            log_p = logits.log_softmax(1)
            return log_p[torch.arange(len(log_p)), chosen].sum(1)

        old = log_probability().detach()
        for _ in range(6):
            ratio = (log_probability() - old).exp()
            within = ratio.clamp(0.8, 1.2)
            clipped += int((ratio != within).sum())
            entropy = torch.special.entr(logits.softmax(1)).sum()
            objective = torch.minimum(ratio * advantages, within * advantages).mean()
            adam.zero_grad()
            (-objective - 0.3 * entropy).backward()
            adam.step()
    assert clipped  # or the test would be one of REINFORCE
    expected = logits.detach().numpy()
    np.testing.assert_allclose(strategy._policy.parameters[0], expected, atol=1e-8)


def test_defaults_are_the_papers():
    strategy = PPO(toy_space())
    assert (strategy.hidden_size, strategy.learning_rate) == (100, 0.00035)
    assert (strategy.entropy_weight, strategy.baseline_decay) == (0.00001, 0.95)
    assert max(abs(p).max() for p in strategy._policy.parameters) <= 0.1


def test_equal_rewards_move_nothing_but_the_entropy():
    space = toy_space()
    strategy = TablePPO(space, learning_rate=0.01, entropy_weight=0.0, batch_size=4)
    before = strategy._policy.parameters[0].copy()
    for number in range(4):
        strategy.tell(strategy.ask(number), 1.0)
    np.testing.assert_array_equal(strategy._policy.parameters[0], before)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"clip": 1.0}, "clip is 1.0"), ({"epochs": 0}, "epochs is 0; expected at least 1")],
)
def test_refuses_impossible_options(options, words):
    with pytest.raises(ValueError, match=words):
        PPO(toy_space(), **options)


def test_a_batch_of_equal_scores_is_no_disaster():
    """All at chance level, say: the step that it takes is like any other."""
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = TablePPO(space, learning_rate=0.1, epochs=1, batch_size=5)
    for i in range(10):
        strategy.tell(space.sample(rng), float(i) if i < 5 else 0.1)
    assert max(abs(p).max() for p in strategy._adam._squares) < 10
