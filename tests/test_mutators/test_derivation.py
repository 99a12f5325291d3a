"""Best-first derivation: its order, conditions, forbidden clauses, equal networks."""

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, ForbiddenEqualsClause

from nas_plugins import SearchSpace
from nas_plugins.mutators.derivation import best_first
from nas_plugins.spaces import load
from nas_plugins.testing.mutators import every_verb_space
from nas_plugins.testing.strategies import toy_space


def random_worths(space, seed=0):
    rng = np.random.default_rng(seed)
    return {
        label: {choice: float(np.log(rng.random())) for choice in decision.all_choices()}
        for label, decision in space.decisions.items()
    }


def loss_of(architecture, worths):
    """What it costs against the best choice at each of its decisions."""
    return sum(max(worths[label].values()) - worths[label][c] for label, c in architecture.items())


@pytest.mark.parametrize("seed", range(3))
def test_order_is_that_of_enumeration(seed):
    space = every_verb_space()
    worths = random_worths(space, seed)
    found = best_first(space, worths, space.size + 5)
    assert set(found) == set(space.enumerate())
    assert len(found) == space.size
    losses = [loss_of(a, worths) for a in found]
    assert losses == pytest.approx(sorted(losses))
    assert losses[0] == 0
    assert best_first(space, worths, 7) == found[:7]


def test_a_choice_is_not_blamed_for_what_it_brings():
    space = ConfigurationSpace()
    kind = Categorical("kind", ["plain", "rich"])
    detail = Categorical("detail", ["a", "b", "c", "d"])
    space.add(kind, detail)
    space.add(EqualsCondition(detail, kind, "rich"))
    worths = {
        "kind": {"plain": np.log(0.4), "rich": np.log(0.6)},
        "detail": dict.fromkeys("abcd", np.log(0.25)),
    }
    (best,) = best_first(SearchSpace(space), worths, 1)
    assert best["kind"] == "rich"


def test_forbidden_clauses_are_respected():
    space = ConfigurationSpace({"a": ["y", "x"], "b": ["x", "y"]})
    space.add(ForbiddenEqualsClause(space["a"], "x"))
    worths = {"a": {"x": 0.0, "y": -9.0}, "b": {"x": -1.0, "y": 0.0}}
    found = best_first(SearchSpace(space), worths, 9)
    assert [dict(a) for a in found] == [{"a": "y", "b": "y"}, {"a": "y", "b": "x"}]


def test_equal_networks_come_once():
    space = load("nas_bench_201")
    found = best_first(space, random_worths(space), 200)
    assert len({space.canonical(a) for a in found}) == 200


def test_decisions_without_worths_take_their_default():
    space = toy_space()
    worths = random_worths(space)
    del worths["op3"]
    found = best_first(space, worths, 20)
    assert {a["op3"] for a in found} == {space.decisions["op3"].default}


@pytest.mark.timeout(120)
def test_is_fast_in_a_large_space_of_almost_equal_worths():
    space = load("darts")
    rng = np.random.default_rng(0)
    worths = {
        label: {choice: 1e-3 * rng.normal() for choice in decision.all_choices()}
        for label, decision in space.decisions.items()
    }
    assert len(best_first(space, worths, 50)) == 50
