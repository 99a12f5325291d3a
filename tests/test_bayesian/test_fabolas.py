import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition, Float

from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.bayesian import Fabolas, GaussianProcess
from nas_plugins.testing.strategies import StrategyContract, play, toy_space


class TestContract(StrategyContract):
    @pytest.fixture
    def strategy(self):
        return lambda space, seed: Fabolas(space, seed=seed, num_initial=26)


def plane():
    return ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)})


def with_shares(space):
    share = Float("data_fraction", (1 / 64, 1.0), log=True)
    return SearchSpace(space).join(ConfigurationSpace({"data_fraction": share}))


def accuracy(architecture, share):
    """Best at (0.3, 0.6); what less data costs depends on x."""
    x, y = architecture["x"], architecture["y"]
    whole = 0.9 - (x - 0.3) ** 2 - (y - 0.6) ** 2
    return whole - 0.1 * (share**-0.35 - 1) * (1 + 0.3 * x)  # a power law, as curves are


@pytest.mark.parametrize("seed", range(3))
def test_comes_near_the_best_of_full_data_in_the_time_of_two_full_trainings(seed):
    strategy = Fabolas(with_shares(plane()), seed=seed, num_initial=8)
    seconds, shares = 0.0, []
    for _ in range(20):
        architecture = strategy.ask()
        shares.append(architecture["data_fraction"])
        cost = 1 + 60 * shares[-1]
        seconds += cost
        strategy.tell(architecture, (accuracy(architecture, shares[-1]), -cost))
    assert shares[:4] == pytest.approx([1 / 64, 1 / 32, 1 / 16, 1 / 8])
    assert strategy.recommend()["data_fraction"] == 1.0
    found = accuracy(strategy.recommend(), 1.0)
    assert found > 0.995 * 0.9
    assert seconds < 2 * 61
    plain = GaussianProcess(SearchSpace(plane()), seed=seed, num_initial=5)
    for _ in range(4):  # twice that time
        architecture = plain.ask()
        plain.tell(architecture, accuracy(architecture, 1.0))
        assert accuracy(architecture, 1.0) < found


def test_what_a_training_costs_beyond_its_seconds_leads_to_larger_shares():
    def next_share(overhead_s):
        strategy = Fabolas(with_shares(plane()), num_initial=10, overhead_s=overhead_s)
        for _ in range(10):
            architecture = strategy.ask()
            share = architecture["data_fraction"]
            strategy.tell(architecture, (accuracy(architecture, share), -0.1 * share))
        return strategy.ask()["data_fraction"]

    assert next_share(0.0) < next_share(10.0)
    with pytest.raises(ValueError, match="overhead_s is -1"):
        Fabolas(with_shares(plane()), overhead_s=-1)


def test_seconds_are_learned_with_the_share():
    strategy = Fabolas(with_shares(plane()), num_initial=4)
    rng = np.random.default_rng(0)
    for _ in range(16):
        architecture = strategy.space.sample(rng)
        share = architecture["data_fraction"]
        strategy.tell(architecture, (accuracy(architecture, share), -50 * share**0.8))
    some = [strategy._at(architecture, share) for share in (0.05, 0.2, 0.8)]
    predicted = strategy._seconds().posterior(strategy.inputs.rows(some)).mean[:, 0].exp()
    assert predicted.tolist() == pytest.approx([4.55, 13.8, 41.8], rel=0.1)


def test_scores_without_seconds_and_spaces_without_shares_will_do():
    strategy = Fabolas(with_shares(plane()), num_initial=3)
    for i in range(4):
        strategy.tell(strategy.ask(), float(i))
    assert strategy.ask() in strategy.space
    plain = Fabolas(toy_space(), seed=2, num_initial=5)
    same = GaussianProcess(toy_space(), seed=2, num_initial=5)
    assert play(plain, 8) == play(same, 8)


def test_what_is_no_share_is_named():
    sometimes = ConfigurationSpace({"op": ["a", "b"], "data_fraction": (0.1, 1.0)})
    sometimes.add(EqualsCondition(sometimes["data_fraction"], sometimes["op"], "a"))
    with pytest.raises(UnsupportedSpaceError, match="without a condition"):
        Fabolas(SearchSpace(sometimes))
    with pytest.raises(UnsupportedSpaceError, match="expected a range of numbers in"):
        Fabolas(SearchSpace(ConfigurationSpace({"data_fraction": (1, 64)})))
    with pytest.raises(ValueError, match="0 scores; expected 10"):
        Fabolas(with_shares(plane())).recommend()
