"""REINFORCE against the published algorithms, written out once more with torch."""

import numpy as np
import pytest
import torch

from nas_plugins.strategies import Reinforce
from nas_plugins.testing.strategies import conditional_space, toy_score, toy_space

NAS_BENCH_201 = {
    "policy": "table",
    "learning_rate": 0.01,
    "batch_size": 1,
    "baseline_decay": 0.9,
    "reward_power": 1,
}


def test_table_is_the_algorithm_of_nas_bench_201():
    """One logit a choice, Adam, and a moving average corrected for its start at zero."""
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = Reinforce(space, seed=0, **NAS_BENCH_201)
    logits = torch.nn.Parameter(torch.tensor(strategy._policy.parameters[0]))
    adam = torch.optim.Adam([logits], lr=0.01)
    numerator = denominator = 0.0
    for _ in range(40):
        architecture = space.sample(rng)
        reward = toy_score(architecture)
        strategy.tell(architecture, reward)

        numerator = 0.9 * numerator + 0.1 * reward
        denominator = 0.9 * denominator + 0.1
        chosen = torch.tensor([["abcd".index(architecture[label])] for label in space.decisions])
        log_p = logits.log_softmax(1).gather(1, chosen)
        adam.zero_grad()
        (-log_p * (reward - numerator / denominator)).sum().backward()
        adam.step()
    expected = logits.detach().numpy()
    np.testing.assert_allclose(strategy._policy.parameters[0], expected, atol=1e-8)


def test_defaults_are_the_papers():
    strategy = Reinforce(toy_space())
    assert (strategy.hidden_size, strategy.num_layers) == (35, 2)
    assert (strategy.learning_rate, strategy.batch_size, strategy.reward_power) == (0.0006, 8, 3)
    assert max(abs(p).max() for p in strategy._policy.parameters) <= 0.08


def test_reward_is_the_score_cubed():
    """Told so, the reward of one strategy is the score of another."""
    space, rng = conditional_space(), np.random.default_rng(0)
    cubing, told_cubes = (
        Reinforce(space, batch_size=4),
        Reinforce(space, batch_size=4, reward_power=1),
    )
    for _ in range(8):
        architecture = space.sample(rng)
        score = rng.standard_normal()
        cubing.tell(architecture, score)
        told_cubes.tell(architecture, score**3)
    for ours, theirs in zip(cubing._policy.parameters, told_cubes._policy.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("policy", ["table", "lstm"])
def test_what_was_good_becomes_likely(policy):
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = Reinforce(space, policy=policy, learning_rate=0.05, batch_size=4, hidden_size=8)
    for _ in range(400):
        architecture = space.sample(rng)
        strategy.tell(architecture, float(architecture["op3"] == "c"))
    asked = [strategy.ask(number)["op3"] for number in range(100)]
    assert asked.count("c") > 80


def test_policy_changes_with_full_batches_of_evaluations_that_did_not_fail():
    space = toy_space()
    strategy = Reinforce(space, batch_size=3, learning_rate=0.5)
    before = [strategy.ask(number) for number in range(20)]
    for score in (1.0, None, 0.0, None):
        strategy.tell(space.default(), score)
        assert [strategy.ask(number) for number in range(20)] == before
    strategy.tell(before[0], 5.0)
    assert [strategy.ask(number) for number in range(20)] != before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "gru"}, "policy is 'gru'"),
        ({"reward_power": 2}, "reward_power is 2; expected 1, 3, 5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"baseline_decay": 1.0}, "baseline_decay is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_refuses_impossible_options(options, words):
    with pytest.raises(ValueError, match=words):
        Reinforce(toy_space(), **options)
