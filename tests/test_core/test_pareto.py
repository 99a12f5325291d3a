"""Pareto fronts, ranks and crowding against the definition and against Optuna's own."""

import numpy as np
import pytest
from optuna.samplers.nsgaii._elite_population_selection_strategy import _calc_crowding_distance
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import create_trial

from nas_plugins.pareto import crowding_distances, non_dominated_ranks, pareto_front


def points_with_ties(objectives, seed=0):
    return np.random.default_rng(seed).integers(0, 8, (150, objectives)).astype(float)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_front_is_what_no_point_dominates(objectives):
    points = points_with_ties(objectives)
    no_worse = (points[:, None] >= points).all(axis=2)
    better = (points[:, None] > points).any(axis=2)
    assert (pareto_front(points) == ~(no_worse & better).any(axis=0)).all()


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_ranks_are_optunas(objectives):
    points = points_with_ties(objectives, seed=1)
    assert (non_dominated_ranks(points) == _fast_non_domination_rank(-points)).all()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_crowding_is_optunas(objectives):
    points = np.random.default_rng(2).random((60, objectives))
    points[:, 0] = np.where(objectives == 3, 0.5, points[:, 0])  # one that tells nothing
    trials = [create_trial(values=list(point)) for point in points]
    for number, trial in enumerate(trials):
        trial.number = number
    theirs = _calc_crowding_distance(list(trials))
    assert crowding_distances(points) == pytest.approx([theirs[n] for n in range(60)])


def test_nothing_has_no_front():
    empty = np.zeros((0, 2))
    assert pareto_front(empty).shape == non_dominated_ranks(empty).shape == (0,)
    assert crowding_distances(empty).shape == (0,)


def test_refuses_what_is_no_table_of_points():
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(points, objectives\)"):
        pareto_front([1.0, 2.0, 3.0])
