"""NSGA-II: who survives, who becomes a parent, and fronts better than random search's."""

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from nas_plugins import SearchSpace
from nas_plugins.errors import ScoreError
from nas_plugins.strategies import NSGA2, RandomSearch
from nas_plugins.testing.strategies import toy_space


class Random(RandomSearch):
    multi_objective = True


def told(scores, **options):
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = NSGA2(space, **options)
    architectures = [space.sample(rng) for _ in scores]
    for architecture, score in zip(architectures, scores, strict=True):
        strategy.tell(architecture, score)
    return strategy, architectures


def parents_of(strategy, architectures, draws=200):
    """Indices of those that are proposed unchanged when nothing is crossed or mutated."""
    proposed = {strategy.ask(number) for number in range(draws)}
    return {i for i, architecture in enumerate(architectures) if architecture in proposed}


UNCHANGED = {"crossover_probability": 0.0, "mutation_probability": 0.0}


def test_whole_fronts_survive_and_then_the_least_crowded():
    first = [(0, 0), (1, 1), (2, 2), (3, 3)]  # replaced but for the last
    second = [(0, 10), (4, 6), (4.1, 5.9), (10, 0)]  # a front; (3, 3) is the next
    strategy, architectures = told(first + second, population_size=4, **UNCHANGED)
    assert parents_of(strategy, architectures) == {4, 5, 6, 7}
    strategy, architectures = told([*first[:3], *second[:3]], population_size=3, **UNCHANGED)
    assert parents_of(strategy, architectures) == {3, 4, 5}
    # Five on one front and room for four: the most crowded point goes.
    crowded = [(0, 10), (5, 5), (5.1, 4.9), (5.2, 4.8), (10, 0), (-1, -1), (-1, -1), (-1, -1)]
    strategy, architectures = told(crowded, population_size=4, **UNCHANGED)
    survivors = {member[1] for member in strategy._members}
    assert survivors == {(0, 10), (5, 5), (5.2, 4.8), (10, 0)}


def test_a_parent_is_the_better_of_two():
    strategy, architectures = told([1.0, 2.0, 3.0, 4.0], population_size=4, **UNCHANGED)
    asked = [strategy.ask(number) for number in range(4000)]
    shares = [asked.count(architecture) / 4000 for architecture in architectures]
    # The best of two draws out of four has rank r with odds (2r - 1) / 16.
    assert shares == pytest.approx([1 / 16, 3 / 16, 5 / 16, 7 / 16], abs=0.03)


def test_mutations_are_one_in_the_mean():
    strategy, (parent, _) = told([1.0, 1.0], population_size=2, crossover_probability=0.0)
    strategy.replay([])
    for _ in range(2):
        strategy.tell(parent, 1.0)
    changed = [
        sum(c != parent[k] for k, c in strategy.ask(number).items()) for number in range(2000)
    ]
    # Binomial(10, 1/10): none with odds 0.9^10.
    assert np.mean([n == 0 for n in changed]) == pytest.approx(0.9**10, abs=0.04)
    assert np.mean(changed) == pytest.approx(1.0, abs=0.1)


def leading_ones_trailing_zeros(architecture):
    """LOTZ (Laumanns et al. 2004); its front is 1…10…0, one point for each number of ones."""
    bits = "".join(str(architecture[f"bit{i:02}"]) for i in range(16))
    return len(bits) - len(bits.lstrip("1")), len(bits) - len(bits.rstrip("0"))


def front_found(strategy, evaluations):
    found = set()
    for _ in range(evaluations):
        architecture = strategy.ask()
        score = leading_ones_trailing_zeros(architecture)
        strategy.tell(architecture, score)
        found.add(score)
    return sum((ones, 16 - ones) in found for ones in range(17))


def test_finds_most_of_the_front_where_random_search_does_not():
    """Optuna's own NSGA-II finds 10 to 16 of the 17 points, in the same setting."""
    space = SearchSpace(ConfigurationSpace({f"bit{i:02}": [0, 1] for i in range(16)}))
    for seed in range(3):
        assert front_found(NSGA2(space, seed=seed, population_size=40), 3000) >= 11
        assert front_found(Random(space, seed=seed), 3000) <= 3


def test_defaults_are_the_papers():
    strategy = NSGA2(toy_space())
    assert (strategy.population_size, strategy.crossover_probability) == (100, 0.9)


def test_the_number_of_objectives_stays():
    strategy, (architecture,) = told([(1.0, 2.0)])
    with pytest.raises(ScoreError, match="expected 2 objectives"):
        strategy.tell(architecture, 1.0)
    assert strategy.num_told == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"population_size": 1}, "population_size is 1"),
        ({"crossover_probability": 1.1}, "crossover_probability is 1.1"),
        ({"mutation_probability": -0.1}, "mutation_probability is -0.1"),
    ],
)
def test_refuses_impossible_options(options, words):
    with pytest.raises(ValueError, match=words):
        NSGA2(toy_space(), **options)
