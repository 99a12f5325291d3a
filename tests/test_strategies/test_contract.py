"""Every registered strategy is held to the shipped contract, whatever its name."""

import copy
import inspect
import pickle

import pytest

from nas_plugins import strategies
from nas_plugins.strategies import REGISTRY, Deduplicated, Strategy, create, strategy_class
from nas_plugins.testing.strategies import (
    LearningContract,
    StrategyContract,
    play,
    sequence_in_fresh_process,
    toy_space,
)

SMALL = {
    "population_size": 10,
    "sample_size": 5,
    "hidden_size": 8,
    "num_initial": 5,
    "num_candidates": 8,
    "max_observations": 30,
    "batch_size": 5,
    "learning_rate": 0.03,
    "beam_size": 16,
    "num_steps": 50,
}
"""Options that let a strategy learn within a test; each is given to whoever takes it."""


def small_options(name):
    known = inspect.signature(strategy_class(name)).parameters
    return {option: value for option, value in SMALL.items() if option in known}


def small(name):
    return lambda space, seed: create(name, space, seed=seed, **small_options(name))


def learns(name):
    return strategy_class(name)._observe is not Strategy._observe


@pytest.mark.parametrize("name", sorted(REGISTRY))
class TestRegistered(StrategyContract):
    @pytest.fixture
    def strategy(self, name):
        return small(name)

    def test_same_sequence_in_a_fresh_process(self, name):
        here = [o.architecture.id for o in play(small(name)(toy_space(), 5), 30)]
        assert sequence_in_fresh_process(name, small_options(name), 5) == here


@pytest.mark.parametrize("name", [name for name in sorted(REGISTRY) if learns(name)])
class TestLearning(LearningContract):
    @pytest.fixture
    def strategy(self, name):
        return small(name)


@pytest.mark.parametrize("reask", [True, False])
class TestDeduplicated(StrategyContract):
    @pytest.fixture
    def strategy(self, reask):
        evolution = small("regularized_evolution")
        return lambda space, seed: Deduplicated(
            evolution(space, seed), reask=reask, max_attempts=20
        )


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_can_be_pickled_and_copied(name):
    strategy = small(name)(toy_space(), 0)
    play(strategy, 12)
    for twin in (pickle.loads(pickle.dumps(strategy)), copy.deepcopy(strategy)):
        assert [twin.ask(n) for n in (12, 13)] == [strategy.ask(n) for n in (12, 13)]


def test_every_public_strategy_is_registered():
    targets = {target.split(":")[1] for target in REGISTRY.values()}
    public = {
        name
        for name in strategies.__all__
        if inspect.isclass(getattr(strategies, name))
        and issubclass(getattr(strategies, name), Strategy)
    }
    assert public - {"Strategy", "Deduplicated"} == targets
