"""What holds of all strategies by their base class, and what wraps them."""

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
)

from nas_plugins import ScoreError, SearchSpace, UnsupportedSpaceError
from nas_plugins.strategies import REGISTRY, Deduplicated, Predictor, RandomSearch, create
from nas_plugins.testing.strategies import toy_score, toy_space

SMALL = {
    "regularized_evolution": {"population_size": 2, "sample_size": 1},
    "hierarchical_evolution": {"population_size": 2},
    "nsga2": {"population_size": 2},
}


def test_what_is_told_is_in_the_spaces_own_types():
    space = SearchSpace(ConfigurationSpace({"n": (1, 9), "op": ["a", "b"]}))
    strategy = Deduplicated(Predictor(space, num_initial=1))
    strategy.tell({"n": 4.0, "op": "a"}, 0.5)
    assert strategy.remembered(space.complete({"n": 4, "op": "a"})) == 0.5
    assert strategy.ask() in space


@pytest.mark.parametrize("name", ["random", "regularized_evolution", "nsga2"])
def test_the_number_of_objectives_stays_and_is_forgotten(name):
    strategy = create(name, toy_space(), seed=0)
    strategy.tell(strategy.ask(), (1.0, 2.0))
    strategy.tell(strategy.ask(), None)
    with pytest.raises(ScoreError, match="expected 2 objectives, as told before"):
        strategy.tell(strategy.ask(), 1.0)
    assert strategy.num_told == 2
    strategy.replay([])
    strategy.tell(strategy.ask(), 1.0)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_space_without_a_decision_is_refused(name):
    space = SearchSpace(ConfigurationSpace(), name="nothing")
    with pytest.raises(UnsupportedSpaceError, match="space 'nothing' has no decision"):
        create(name, space)


def test_a_history_is_not_lost_by_wrapping():
    strategy = RandomSearch(toy_space())
    strategy.tell(strategy.ask(), 1.0)
    with pytest.raises(ValueError, match="told 1 observations; expected none"):
        Deduplicated(strategy)


def test_networks_under_way_are_left_out_whatever_else_was_told():
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = Deduplicated(Predictor(space, num_initial=4))
    for _ in range(30):
        architecture = space.sample(rng)
        strategy.tell(architecture, toy_score(architecture))
    assert len({strategy.ask(n, pending=n) for n in range(8)}) == 8


@pytest.mark.parametrize("name", [*SMALL, "predictor", "log_linear_learning"])
def test_a_parent_without_a_legal_neighbour_is_no_end(name):
    """Two decisions that have to be equal: no single change is legal."""
    both = ConfigurationSpace({"a": ["x", "y", "z"], "b": ["x", "y", "z"]})
    both.add(
        ForbiddenAndConjunction(
            ForbiddenEqualsClause(both["a"], first), ForbiddenEqualsClause(both["b"], second)
        )
        for first in "xyz"
        for second in "xyz"
        if first != second
    )
    space = SearchSpace(both)
    strategy = create(name, space, seed=0, **SMALL.get(name, {}))
    for i in range(6):
        architecture = strategy.ask()
        assert architecture["a"] == architecture["b"]
        strategy.tell(architecture, float(i))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pnas", {"max_candidates": 0}),
        ("pnas", {"num_steps": -1}),
        ("pnas", {"hidden_size": 0}),
        ("reinforce", {"num_layers": 0}),
        ("reinforce", {"learning_rate": float("inf")}),
        ("ppo", {"hidden_size": 0}),
        ("ppo", {"entropy_weight": float("nan")}),
        ("particle_swarm", {"inertia": float("nan")}),
        ("predictor", {"max_observations": 1}),
    ],
)
def test_options_out_of_their_range_are_named(name, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is "):
        create(name, toy_space(), **options)


def test_scores_with_one_objective_are_one_number():
    strategy = create("regularized_evolution", toy_space(), population_size=2, sample_size=1)
    strategy.tell(strategy.ask(), (0.5,))
    strategy.tell(strategy.ask(), 0.7)
    assert strategy.ask() in strategy.space


@pytest.mark.parametrize("name", ["reinforce", "ppo"])
def test_a_reward_may_be_as_large_as_a_number_can(name):
    strategy = create(name, toy_space(), batch_size=1)
    for score in (1e300, -1e300):
        strategy.tell(strategy.ask(), score)
    assert strategy.ask() in strategy.space


def test_a_choice_that_the_prior_rules_out_is_not_proposed():
    config_space = ConfigurationSpace()
    config_space.add(Categorical("op", ["a", "b", "broken"], weights=[1, 1, 0]))
    strategy = create(
        "regularized_evolution", SearchSpace(config_space), **SMALL["regularized_evolution"]
    )
    for _ in range(40):
        architecture = strategy.ask()
        assert architecture["op"] != "broken"
        strategy.tell(architecture, 0.5)
