import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from nas_plugins import SearchSpace
from nas_plugins.bayesian import ProportionalImprovement
from nas_plugins.bayesian.acquisition import acquisition
from nas_plugins.testing.strategies import StrategyContract


class TestContract(StrategyContract):
    @pytest.fixture
    def strategy(self):
        return lambda space, seed: ProportionalImprovement(
            space, seed=seed, num_initial=26, num_candidates=50
        )


def test_drawn_as_often_as_the_improvement_that_is_expected():
    space = SearchSpace(ConfigurationSpace({"op": ["a", "b", "c"], "k": [1, 2, 3, 4]}))
    strategy = ProportionalImprovement(space, num_initial=4, num_candidates=200)
    for op, k, score in [("a", 1, 0.1), ("b", 2, 0.5), ("c", 4, 0.4), ("b", 4, 0.2), ("a", 3, 0.3)]:
        strategy.tell(space.complete({"op": op, "k": k}), score)
    everything = list(space.enumerate())
    rows = strategy.inputs.rows(everything)
    gain = acquisition("ei", strategy.model, strategy.incumbent, rows, 0)(rows).exp().numpy()
    num = 400
    drawn = [strategy.ask(n) for n in range(num)]
    shares = np.array([drawn.count(a) for a in everything]) / num
    expected = gain / gain.sum()
    assert expected.max() > 2 * expected.min()
    assert np.abs(shares - expected).max() < 4 * np.sqrt(expected.max() / num)
