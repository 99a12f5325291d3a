"""MO-ASHA against its definition, and against ASHA where there is one objective."""

from __future__ import annotations

import numpy as np
import pytest

from nas_plugins.estimators.moasha import MOASHA, HalvingError, _epsilon_net


def test_rungs_grow_by_the_reduction_factor():
    rule = MOASHA(min_resource=2, reduction_factor=3, max_resource=54)
    rungs = {resource: rule.rung(resource) for resource in range(1, 60)}
    assert rungs[1] is None
    assert [rungs[r] for r in (2, 5, 6, 17, 18, 53)] == [0, 0, 1, 1, 2, 2]
    assert {rungs[r] for r in range(54, 60)} == {None}  # over: nothing to stop


@pytest.mark.parametrize("options", [{"min_resource": 0}, {"reduction_factor": 1}])
def test_numbers_that_make_no_rungs_are_refused(options):
    with pytest.raises(HalvingError, match="expected at least 1, and more than 1"):
        MOASHA(**options)


def test_with_one_objective_it_is_asha():
    """Li et al. 2020, arXiv:1810.05934: the best 1/eta of those that arrived go on."""
    rng = np.random.default_rng(0)
    rule = MOASHA(reduction_factor=3)
    scores = rng.permutation(100).astype(float)
    for n in range(100):
        better = (scores[:n] > scores[n]).sum()
        assert rule.stops([scores[n]], scores[:n, None]) == (better / (n + 1) > 1 / 3 and n > 0)


def test_a_better_front_comes_first():
    peers = [(0.9, 0.1), (0.5, 0.5), (0.1, 0.9)]
    rule = MOASHA(reduction_factor=2)
    assert rule.stops((0.4, 0.4), peers)  # fourth of four
    assert not rule.stops((0.95, 0.95), peers)  # dominates all


def test_the_net_begins_at_the_best_in_the_first_objective_and_spreads():
    front = np.array([[0.0, 10.0], [1.0, 9.0], [4.5, 5.5], [9.0, 1.0], [10.0, 0.0]])
    assert _epsilon_net(front).tolist() == [1, 3, 2, 4, 0]


def test_units_do_not_matter():
    rng = np.random.default_rng(1)
    x = np.sort(rng.random(30))
    front = np.column_stack([x, 1 - x**2])
    in_other_units = front * [1e6, 1e-3] + [3, 7]
    assert (_epsilon_net(front) == _epsilon_net(in_other_units)).all()
    assert sorted(_epsilon_net(front)) == list(range(30))


def test_the_front_is_spared_if_asked():
    peers = [(x, 1 - x) for x in np.linspace(0, 1, 21)]  # all on one front
    point = (0.501, 0.5)
    assert MOASHA().stops(point, peers) is MOASHA().stops(point, peers)
    published = [MOASHA().stops(p, [q for q in peers if q != p]) for p in peers]
    assert sum(published) > len(peers) / 2
    spared = [MOASHA(spare_front=True).stops(p, [q for q in peers if q != p]) for p in peers]
    assert not any(spared)
    assert MOASHA(spare_front=True).stops((0.1, 0.1), peers)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_diverged_stops_and_the_first_goes_on(bad):
    assert MOASHA(spare_front=True).stops((bad, 0.5), [])
    assert not MOASHA().stops((0.0, 0.0), [])
