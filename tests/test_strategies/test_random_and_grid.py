"""Random and grid search cover what they say they cover."""

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, Float, Integer

from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.strategies import GridSearch, RandomSearch, StrategyNameError, create
from nas_plugins.testing.strategies import conditional_space, toy_space


def test_random_search_is_uniform():
    strategy = RandomSearch(toy_space(), seed=0)
    drawn = [strategy.ask()["op0"] for _ in range(4000)]
    counts = np.array([drawn.count(choice) for choice in "abcd"])
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_squared < 16.27  # 0.1 % quantile at 3 degrees of freedom


def test_grid_visits_everything_once_then_starts_again():
    space = SearchSpace(ConfigurationSpace({"a": ["x", "y"], "n": (1, 3)}))
    strategy = GridSearch(space)
    visited = [strategy.ask() for _ in range(7)]
    assert len(set(visited[:6])) == space.size == 6
    assert visited[6] == visited[0]


def test_grid_takes_evenly_spaced_points_of_a_range():
    space = SearchSpace(ConfigurationSpace(space=[Float("lr", (1e-4, 1.0), log=True)]))
    strategy = GridSearch(space, points=5)
    visited = [strategy.ask()["lr"] for _ in range(5)]
    np.testing.assert_allclose(visited, [1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_grid_takes_an_integer_once_to_which_several_points_are_rounded():
    strategy = GridSearch(SearchSpace(ConfigurationSpace(space=[Integer("n", (1, 6), log=True)])))
    assert [strategy.ask()["n"] for _ in range(5)] == [1, 2, 4, 6, 1]


def test_grid_respects_conditions():
    space = conditional_space()
    strategy = GridSearch(space, points=3)
    visited = {strategy.ask() for _ in range(400)}
    # a layer has 3 kernels, 3 dropouts or nothing: 7 forms; depths 1 to 3
    assert len(visited) == 7 + 7**2 + 7**3
    assert all(architecture in space for architecture in visited)


def test_grid_of_one_point_is_refused():
    with pytest.raises(UnsupportedSpaceError, match="points is 1; expected at least 2"):
        GridSearch(toy_space(), points=1)


def test_unknown_strategy_names_the_known_ones():
    with pytest.raises(StrategyNameError, match=r"unknown strategy 'evolve'.*'random'"):
        create("evolve", toy_space())


def test_unknown_option_names_the_known_ones():
    with pytest.raises(StrategyNameError, match=r"no option 'population'.*population_size"):
        create("regularized_evolution", toy_space(), population=3)
