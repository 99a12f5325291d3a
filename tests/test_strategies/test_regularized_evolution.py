"""Regularized evolution against its paper's algorithm 1, written out once more."""

from collections import deque

import numpy as np
import pytest

from nas_plugins.strategies import Deduplicated, RegularizedEvolution
from nas_plugins.testing.strategies import toy_score, toy_space


def algorithm_1(space, *, seed, cycles, population_size, sample_size):
    """The paper's pseudo-code, cycle by cycle, with the same random streams."""
    population, history = deque(), []
    for number in range(cycles):
        rng = np.random.default_rng((seed, number, 0))
        if len(population) < population_size:
            child = space.sample(rng)
        else:
            drawn = [population[i] for i in rng.integers(population_size, size=sample_size)]
            parent = max(drawn, key=lambda member: member[1])[0]
            child = space.mutate(parent, rng)
        population.append((child, toy_score(child)))
        history.append(child)
        if len(population) > population_size:
            population.popleft()  # the oldest dies
    return history


def test_is_algorithm_1():
    space = toy_space()
    strategy = RegularizedEvolution(space, seed=7, population_size=20, sample_size=6)
    ours = []
    for _ in range(200):
        architecture = strategy.ask()
        strategy.tell(architecture, toy_score(architecture))
        ours.append(architecture)
    assert ours == algorithm_1(space, seed=7, cycles=200, population_size=20, sample_size=6)


def test_defaults_are_the_papers():
    strategy = RegularizedEvolution(toy_space())
    assert (strategy.population_size, strategy.sample_size) == (100, 25)


def test_the_oldest_dies_even_if_it_is_the_best():
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = RegularizedEvolution(space, population_size=5, sample_size=5)
    champion = space.sample(rng)
    strategy.tell(champion, 1e6)
    for _ in range(5):
        strategy.tell(space.sample(rng), 0.0)
    # Every member now scores 0, and a child differs from its parent in one decision.
    differing = [sum(c != champion[k] for k, c in strategy.ask(n).items()) for n in range(20)]
    assert min(differing) > 1


def test_children_differ_from_their_parent_in_one_decision():
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = RegularizedEvolution(space, population_size=1, sample_size=1)
    parent = space.sample(rng)
    strategy.tell(parent, 0.0)
    for number in range(50):
        assert sum(c != parent[k] for k, c in strategy.ask(number).items()) == 1


def test_identity_is_a_mutation_where_it_is_asked_for():
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = RegularizedEvolution(
        space, population_size=1, sample_size=1, identity_probability=0.5
    )
    parent = space.sample(rng)
    strategy.tell(parent, 0.0)
    same = sum(strategy.ask(number) == parent for number in range(400))
    assert 150 < same < 250


def test_several_objectives_take_parents_from_the_front():
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = RegularizedEvolution(space, population_size=3, sample_size=3)
    accurate, small, dominated = (space.sample(rng) for _ in range(3))
    strategy.tell(accurate, (1.0, 0.0))
    strategy.tell(small, (0.0, 1.0))
    strategy.tell(dominated, (-1.0, -1.0))
    parents = set()
    for number in range(100):
        child = strategy.ask(number)
        distance = {
            name: sum(c != parent[k] for k, c in child.items())
            for name, parent in [("accurate", accurate), ("small", small), ("bad", dominated)]
        }
        parents.add(min(distance, key=distance.get))
    assert {"accurate", "small"} <= parents
    # "bad" is drawn only when it is the sole member of the tournament: 1 in 27
    assert len(parents) <= 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"population_size": 5, "sample_size": 6}, "sample_size is 6 and population_size 5"),
        ({"sample_size": 0}, "sample_size is 0"),
        ({"identity_probability": 1.0}, "identity_probability is 1.0"),
    ],
)
def test_refuses_impossible_options(options, words):
    with pytest.raises(ValueError, match=words):
        RegularizedEvolution(toy_space(), **options)


def test_duplicates_are_asked_again_or_remembered():
    space, rng = toy_space(), np.random.default_rng(0)
    evolution = RegularizedEvolution(space, population_size=2, sample_size=2)
    strategy = Deduplicated(evolution)
    parent = space.sample(rng)
    for _ in range(2):
        strategy.tell(parent, 1.0)
    for neighbour in list(space.neighbours(parent))[:-3]:
        strategy.tell(neighbour, None)
    strategy.tell(parent, 1.0)
    known = {strategy.ask(number) for number in range(30)}
    assert all(strategy.remembered(architecture) is None for architecture in known)
    assert strategy.remembered(parent) == 1.0
