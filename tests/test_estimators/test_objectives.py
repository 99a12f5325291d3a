"""Rewards, objectives and limits, and that a search keeps to them."""

import numpy as np
import pytest

from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.estimators.objectives import (
    InfeasibleError,
    mnasnet_reward,
    objectives,
    require,
    violations,
)
from nas_plugins.mutators import ProxylessNAS
from nas_plugins.spaces.mnasnet import TINY, mnasnet
from nas_plugins.strategies import create
from nas_plugins.testing.mutators import planted_space

TARGET = {"latency_ms": 80.0}


def reward(accuracy, latency, **exponents):
    return mnasnet_reward(accuracy, {"latency_ms": latency}, TARGET, **exponents)


def test_soft_reward_is_the_papers():
    """Section 3.1: 5 % more accuracy is worth twice the latency, by which they set beta."""
    assert reward(0.7, 80.0) == 0.7
    assert reward(0.7 * 1.05, 2 * 100.0) == pytest.approx(reward(0.7, 100.0), rel=2e-3)
    assert reward(0.7, 40.0) == pytest.approx(0.7 * 2**0.07)


def test_hard_reward_is_the_papers():
    """Figure 3: flat up to the target, then falling as its inverse."""
    hard = {"alpha": 0.0, "beta": -1.0}
    assert reward(0.5, 20.0, **hard) == reward(0.5, 80.0, **hard) == 0.5
    assert reward(0.5, 160.0, **hard) == pytest.approx(0.25)


def test_several_targets_multiply():
    costs, targets = {"latency_ms": 160.0, "bits": 8e6}, {**TARGET, "bits": 4e6}
    assert mnasnet_reward(1.0, costs, targets) == pytest.approx(2**-0.14)
    assert mnasnet_reward(0.3, costs, {}) == 0.3


def test_proxylessnas_is_rewarded_by_it():
    space = planted_space()
    table = {label: {"right": 50.0, "weak": 10.0, "wrong": 10.0} for label in space.decisions}
    mutator = ProxylessNAS(
        space.supernet(), method="reinforce", latency_ms=table, latency_target_ms=80.0
    )
    path = dict.fromkeys(space.decisions, 0)
    assert mutator._with_latency(0.6, path) == pytest.approx(reward(0.6, 150.0))


def test_objectives_and_limits():
    costs = {"latency_ms": 100.0, "parameters": 3}
    assert objectives(0.9, costs, ["parameters", "latency_ms"]) == (0.9, -3, -100.0)
    assert violations(costs, TARGET) == pytest.approx({"latency_ms": 0.25})
    require(costs, {"latency_ms": 100.0})
    with pytest.raises(InfeasibleError, match=r"latency_ms is 100.0, 25% above its limit of 80.0"):
        require(costs, TARGET)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no cost 'latency_ms' among \['bits'\]"):
        mnasnet_reward(0.5, {"bits": 1.0}, TARGET)
    with pytest.raises(ValueError, match="cost 'latency_ms' is 0.0 and its target 80.0"):
        reward(0.5, 0.0)
    with pytest.raises(ValueError, match=r"score is -1.0; expected at least 0"):
        reward(-1.0, 160.0)


@pytest.mark.parametrize("limit", [110.0, None])
def test_a_strategy_keeps_to_a_limit(limit):
    """Two of three gains may be right; what fails is not told as good."""
    space = planted_space()
    strategy = create("regularized_evolution", space, seed=0, population_size=8, sample_size=4)
    found = []
    for _ in range(60):
        architecture = strategy.ask()
        right = list(architecture.values()).count("right")
        try:
            require({"latency_ms": 50.0 * right}, {} if limit is None else {"latency_ms": limit})
        except InfeasibleError:
            strategy.tell(architecture, None)
        else:
            strategy.tell(architecture, right / 3)
            found.append(right)
    assert max(found) == (2 if limit else 3)
    assert np.mean(found[-20:]) > 1.0


@pytest.mark.parametrize("beta", [0.0, -1.0])
def test_mnasnets_search_keeps_to_a_hard_target(beta):
    """PPO, its space and its reward; slower layers are a little more accurate here."""
    space = mnasnet(**TINY)
    milliseconds = {"conv": 4.0, "dwconv": 1.0, "mbconv3": 2.0, "mbconv6": 3.0}
    table = LatencyTable({label: milliseconds for label in space.decisions if "op" in label})
    strategy = create("ppo", space, seed=0, learning_rate=0.02, batch_size=20)
    latencies = []
    for _ in range(400):
        architecture = strategy.ask()
        latency = table.of(architecture)
        accuracy = 0.5 + latency / 40
        reward = mnasnet_reward(
            accuracy, {"latency_ms": latency}, {"latency_ms": 4.0}, alpha=0.0, beta=beta
        )
        strategy.tell(architecture, reward)
        latencies.append(latency)
    assert np.mean(latencies[:20]) == pytest.approx(5.0, abs=0.8)  # two blocks, almost uniform
    if beta:
        assert np.mean(latencies[-40:]) < 4.5
    else:
        assert np.mean(latencies[-40:]) > 6.5
