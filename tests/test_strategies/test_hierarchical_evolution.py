"""Hierarchical evolution: how it starts, whom it selects, what it mutates."""

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from nas_plugins import SearchSpace
from nas_plugins.spaces import load
from nas_plugins.strategies import HierarchicalEvolution
from nas_plugins.strategies.hierarchical_evolution import level_by_level
from nas_plugins.testing.strategies import toy_space


def motifs():
    """Two motifs of three edges below one of a single edge."""
    edges = [f"level2/{motif}/{edge}" for motif in "ab" for edge in ("1<-0", "2<-0", "2<-1")]
    return SearchSpace(ConfigurationSpace({edge: list("xyz") for edge in [*edges, "level3/1<-0"]}))


def test_starts_from_the_trivial_architecture_mutated_many_times():
    space = toy_space()
    few = HierarchicalEvolution(space, seed=0, num_initial_mutations=2)
    changed = [
        sum(c != space.default()[k] for k, c in few.ask(number).items()) for number in range(100)
    ]
    assert max(changed) == 2
    assert np.mean(changed) > 1.6  # the second may fall on the first, or undo it
    # After 1000 each choice is all but uniform: 200 draws of 1/4, standard deviation 6.
    many = HierarchicalEvolution(space, seed=0)
    choices = [many.ask(number)["op3"] for number in range(200)]
    assert all(abs(choices.count(choice) - 50) < 25 for choice in "abcd")


def test_can_start_from_random_architectures():
    space = toy_space()
    strategy = HierarchicalEvolution(space, seed=3, num_initial_mutations=0)
    assert strategy.ask(5) == space.sample(np.random.default_rng((3, 5, 0)))


def test_a_mutation_draws_level_motif_node_and_node_before_it():
    space = motifs()
    strategy = HierarchicalEvolution(space, population_size=2)
    for _ in range(2):
        strategy.tell(space.default(), 0.0)
    counts = dict.fromkeys(space.decisions, 0)
    for number in range(4000):
        [label] = [k for k, c in strategy.ask(number).items() if c != space.default()[k]]
        counts[label] += 1
    for motif in "ab":  # half to a level, half of it to a motif, half of it to a node
        assert counts[f"level2/{motif}/1<-0"] == pytest.approx(500, abs=80)
        assert counts[f"level2/{motif}/2<-0"] == pytest.approx(250, abs=60)
        assert counts[f"level2/{motif}/2<-1"] == pytest.approx(250, abs=60)
    assert counts["level3/1<-0"] == pytest.approx(2000, abs=130)


def test_the_published_space_is_mutated_as_published():
    labels = tuple(load("hierarchical").decisions)
    odds = dict(zip(labels, level_by_level(labels), strict=True))
    assert len(odds) == 6 * 6 + 10
    assert odds["level3/1<-0"] == pytest.approx(1 / 2 / 4)
    assert odds["level3/4<-2"] == pytest.approx(1 / 2 / 4 / 4)
    assert odds["level2/motif6/3<-0"] == pytest.approx(1 / 2 / 6 / 3 / 3)


def test_a_label_that_begins_another_is_a_branch_of_its_own():
    assert level_by_level(("a", "a/b", "a/c")) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_nobody_dies_and_a_tournament_is_a_share_of_all():
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = HierarchicalEvolution(space, population_size=20)
    champion = space.sample(rng)
    strategy.tell(champion, 1.0)
    for _ in range(199):
        strategy.tell(space.sample(rng), 0.0)
    # Ten of 200: the oldest is drawn, and wins, with odds 1/20.
    near = [sum(c != champion[k] for k, c in strategy.ask(n).items()) <= 1 for n in range(2000)]
    assert sum(near) == pytest.approx(100, abs=40)


def test_defaults_are_the_papers():
    strategy = HierarchicalEvolution(toy_space())
    assert strategy.population_size == 200
    assert strategy.num_initial_mutations == 1000
    assert strategy.tournament_fraction == 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"population_size": 1}, "population_size is 1"),
        ({"num_initial_mutations": -1}, "num_initial_mutations is -1"),
        ({"tournament_fraction": 0.0}, "tournament_fraction is 0.0"),
    ],
)
def test_refuses_impossible_options(options, words):
    with pytest.raises(ValueError, match=words):
        HierarchicalEvolution(toy_space(), **options)
