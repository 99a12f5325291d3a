import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, Float
from scipy.interpolate import RBFInterpolator

from nas_plugins import SearchSpace
from nas_plugins.strategies import RadialBasis, RandomSearch
from nas_plugins.testing.strategies import toy_space


def numbers(count, **options):
    return SearchSpace(ConfigurationSpace({f"x{i}": (-5.0, 5.0) for i in range(count)}), **options)


def told(strategy, steps, score):
    found = []
    for _ in range(steps):
        architecture = strategy.ask()
        found.append(score(architecture))
        strategy.tell(architecture, found[-1])
    return found


def sphere(architecture):
    return -sum((value - 1.0) ** 2 for value in architecture.values())


def test_the_surrogate_is_the_cubic_spline():
    strategy = RadialBasis(numbers(2))
    told(strategy, 20, lambda a: a["x0"] - a["x1"] ** 2)
    shares = np.random.default_rng(0).random((5, 2))
    rows = np.column_stack([np.ones(5), shares[:, 0], np.ones(5), shares[:, 1]])
    values, distances = strategy._surrogate(rows)
    x = np.stack([strategy.space.encode(a)[[1, 3]] for _, a in strategy._observed])
    y = np.array([score for score, _ in strategy._observed])
    spline = RBFInterpolator(x, np.maximum(y, np.median(y)), kernel="cubic", degree=1)
    assert values == pytest.approx(spline(shares), abs=1e-2)
    nearest = np.linalg.norm(shares[:, None] - x, axis=2).min(axis=1)
    assert distances == pytest.approx(nearest, abs=1e-6)


def test_finds_the_minimum_of_a_sphere_where_random_search_does_not():
    ours = [max(told(RadialBasis(numbers(4), seed=s), 80, sphere)) for s in range(2)]
    random = [max(told(RandomSearch(numbers(4), seed=s), 80, sphere)) for s in range(10)]
    assert min(ours) > max(-0.5, max(random))


def test_fewer_decisions_are_varied_as_time_goes_by():
    strategy = RadialBasis(toy_space(), horizon=100, num_candidates=50)
    told(strategy, 22, lambda a: float(a["op0"] == "a"))
    rng = np.random.default_rng(0)

    def changed():
        best = strategy._best[1]
        near = strategy._variations(rng)
        return np.mean([sum(a[k] != best[k] for k in best) for a in near])

    early = changed()
    told(strategy, 60, lambda a: 0.0)
    assert early > 8 > 2 > changed() >= 1


def test_the_step_halves_after_failures_and_doubles_after_successes():
    space = SearchSpace(ConfigurationSpace({"x": Float("x", (0.0, 1.0))}))
    strategy = RadialBasis(space)
    for i in range(strategy.num_initial + 5):
        strategy.tell(space.complete({"x": i / 10}), -float(i))
    assert strategy._step == 0.1
    for i in range(3):
        strategy.tell(space.complete({"x": 0.01 * i}), 1.0 + i)
    assert strategy._step == 0.2


def test_nothing_is_evaluated_twice_until_all_was():
    space = SearchSpace(ConfigurationSpace({"a": [1, 2], "b": ["x", "y"], "c": [True, False]}))
    strategy = RadialBasis(space, seed=1)
    history = [space.default()] * strategy.num_initial
    for architecture in history:
        strategy.tell(architecture, 0.0)
    found = set()
    for i in range(7):
        architecture = strategy.ask()
        found.add(architecture)
        strategy.tell(architecture, float(i))
    assert len(found | {space.default()}) == 8
    with pytest.raises(ValueError, match="horizon is 1"):
        RadialBasis(space, horizon=1)


def test_a_small_step_still_moves_whole_numbers():
    space = SearchSpace(ConfigurationSpace({f"n{i}": (1, 4) for i in range(10)}))
    strategy = RadialBasis(space, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(strategy.num_initial):
        strategy.tell(space.sample(rng), 0.0)
    best = space.default()
    strategy.tell(best, 1.0)
    strategy._step = 0.2 / 2**6
    moved = {n: strategy._moved("n0", best["n0"], rng) - best["n0"] for n in range(20)}
    assert set(moved.values()) == {-1, 1}
