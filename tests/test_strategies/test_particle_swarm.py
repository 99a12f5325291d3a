import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, ForbiddenEqualsClause

from nas_plugins import SearchSpace
from nas_plugins.strategies import ParticleSwarm, RandomSearch


def numbers(count):
    return SearchSpace(ConfigurationSpace({f"x{i}": (-5.0, 5.0) for i in range(count)}))


def sphere(architecture):
    return -sum((value - 1.0) ** 2 for value in architecture.values())


def run(strategy, steps, score=sphere):
    found = []
    for _ in range(steps):
        architecture = strategy.ask()
        found.append(score(architecture))
        strategy.tell(architecture, found[-1])
    return found


def test_a_step_is_the_papers_equation():
    swarm = ParticleSwarm(numbers(2), seed=4, population_size=2)
    space = swarm.space
    places = [(0.0, 0.0), (2.0, 2.0), (0.5, -0.5), (3.0, 3.0)]  # particles 0, 1, 0, 1
    scores = [1.0, 5.0, 2.0, 3.0]
    for (a, b), score in zip(places, scores, strict=True):
        swarm.tell(space.complete({"x0": a, "x1": b}), score)
    rng = np.random.default_rng((4, 4, 0))
    pulls = 1.4962 * rng.random((2, 2))
    x, velocity = np.array([0.5, -0.5]), np.array([0.5, -0.5])
    own, leader = x, np.array([2.0, 2.0])
    expected = x + 0.7298 * velocity + pulls[0] * (own - x) + pulls[1] * (leader - x)
    proposal = swarm.ask(4)
    assert [proposal["x0"], proposal["x1"]] == pytest.approx(np.clip(expected, -5, 5))


def test_closes_in_on_the_minimum_of_a_sphere():
    ours = [max(run(ParticleSwarm(numbers(4), seed=s), 400)) for s in range(3)]
    random = [max(run(RandomSearch(numbers(4), seed=s), 400)) for s in range(3)]
    assert min(ours) > -0.05 > max(random)


def test_a_swarm_that_agrees_still_draws_other_choices():
    space = SearchSpace(ConfigurationSpace({"op": list("abcd"), "k": (1, 9)}))
    swarm = ParticleSwarm(space, population_size=1)
    for _ in range(4):
        swarm.tell(space.complete({"op": "b", "k": 3}), 1.0)
    drawn = [swarm.ask(n)["op"] for n in range(200)]
    assert 150 < drawn.count("b") < 200
    assert len(set(drawn)) == 4


def test_rules_are_kept():
    config_space = ConfigurationSpace({"op": ["a", "b"], "k": [1, 2]})
    config_space.add(ForbiddenEqualsClause(config_space["op"], "b"))
    space = SearchSpace(config_space)
    found = []
    swarm = ParticleSwarm(space, population_size=2)
    for _ in range(30):
        found.append(swarm.ask())
        swarm.tell(found[-1], 1.0)
    assert all(architecture in space for architecture in found)
    with pytest.raises(ValueError, match="population_size is 0"):
        ParticleSwarm(space, population_size=0)
