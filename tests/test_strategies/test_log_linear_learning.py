from collections import Counter

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, ForbiddenEqualsClause

from nas_plugins import SearchSpace
from nas_plugins.strategies import LogLinearLearning

COMMON = {("a", "x"): 0.0, ("a", "y"): 1.0, ("b", "x"): 2.0, ("b", "y"): 0.5, ("c", "x"): 1.0,
          ("c", "y"): 2.5}  # fmt: skip
"""Payoffs of a game of two players with two strict Nash equilibria, (b, x) and (c, y)."""


@pytest.fixture
def game():
    return SearchSpace(ConfigurationSpace({"first": ["a", "b", "c"], "second": ["x", "y"]}))


def played(strategy, steps):
    """How often each profile was played."""
    counts = Counter()
    for _ in range(steps):
        proposal = strategy.ask()
        strategy.tell(proposal, COMMON[proposal["first"], proposal["second"]])
        counts[strategy.profile["first"], strategy.profile["second"]] += 1
    return {profile: counts[profile] / steps for profile in COMMON}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_profiles_are_played_in_proportion_to_the_exponential_payoff(game, temperature):
    found = played(LogLinearLearning(game, seed=1, temperature=temperature), 8000)
    weights = {profile: np.exp(payoff / temperature) for profile, payoff in COMMON.items()}
    expected = {profile: w / sum(weights.values()) for profile, w in weights.items()}
    assert found == pytest.approx(expected, abs=0.03)


def test_at_low_temperature_the_better_equilibrium_is_played(game):
    """A start in the other one, which no single player would leave for more."""
    strategy = LogLinearLearning(game, seed=0, temperature=0.2)
    strategy.tell(game.validate({"first": "b", "second": "x"}), COMMON["b", "x"])
    found = played(strategy, 8000)
    assert max(found, key=found.get) == ("c", "y")
    assert found["c", "y"] > 0.8


def test_one_player_moves_at_a_time(game):
    strategy = LogLinearLearning(game, seed=3)
    now = game.validate({"first": "b", "second": "x"})
    strategy.tell(now, 1.0)
    for number in range(1, 20):
        trial = strategy.ask(number)
        assert sum(trial[label] != now[label] for label in now) == 1


def test_a_payoff_that_is_much_worse_or_failed_is_not_kept(game):
    strategy = LogLinearLearning(game, seed=3)
    first = game.validate({"first": "b", "second": "x"})
    second = game.validate({"first": "b", "second": "y"})
    strategy.tell(first, 1.0)
    strategy.tell(second, 0.5)
    strategy.tell(second, None)
    assert strategy.profile == first
    strategy.tell(second, 1e6)
    assert strategy.profile == second


def test_a_temperature_of_zero_is_refused(game):
    with pytest.raises(ValueError, match="temperature is 0"):
        LogLinearLearning(game, temperature=0)


def test_large_spaces_with_forbidden_clauses():
    large = ConfigurationSpace({f"op{i}": list("abcdef") for i in range(9)})
    large.add(ForbiddenEqualsClause(large["op0"], "b"))
    space = SearchSpace(large)
    strategy = LogLinearLearning(space)
    strategy.tell(strategy.ask(), 1.0)
    assert strategy.ask() in space
