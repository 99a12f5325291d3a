import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from nas_plugins import ArchitectureError, SearchSpace
from nas_plugins.bayesian import GaussianProcess, MultiTask, write_task
from nas_plugins.bayesian.multi_task import TaskError
from nas_plugins.testing.strategies import StrategyContract, toy_score, toy_space


class TestContract(StrategyContract):
    @pytest.fixture
    def strategy(self):
        def make(space, seed):
            rng = np.random.default_rng(0)
            task = [(space.sample(rng), float(i)) for i in range(4)]
            return MultiTask(space, seed=seed, tasks=[task], num_initial=26)

        return make


def earlier(space, num=40):
    """Another task, alike but on another scale."""
    rng = np.random.default_rng(7)
    drawn = [space.sample(rng) for _ in range(num)]
    return [(a, 0.01 * toy_score(a) - 3.0) for a in drawn]


def run(strategy, steps):
    scores = []
    for _ in range(steps):
        architecture = strategy.ask()
        scores.append(toy_score(architecture))
        strategy.tell(architecture, scores[-1])
    return scores


def test_an_earlier_study_is_a_start():
    space = toy_space()
    warm = [max(run(MultiTask(space, seed=s, tasks=[earlier(space)]), 7)) for s in range(2)]
    cold = [max(run(GaussianProcess(space, seed=s, num_initial=3), 7)) for s in range(2)]
    assert min(warm) > max(cold)


def test_tasks_that_have_nothing_in_common_do_no_harm():
    space = SearchSpace(ConfigurationSpace({"x": (0.0, 1.0)}))
    rng = np.random.default_rng(0)
    noise = [(space.sample(rng), float(rng.normal())) for _ in range(20)]
    strategy = MultiTask(space, seed=0, tasks=[noise])
    for _ in range(12):
        architecture = strategy.ask()
        strategy.tell(architecture, -((architecture["x"] - 0.3) ** 2))
    values = [o.architecture["x"] for o in strategy._scored]
    assert min(abs(x - 0.3) for x in values) < 0.005


def test_beliefs_are_in_the_studys_own_units():
    space = SearchSpace(ConfigurationSpace({"x": (0.0, 1.0)}))
    task = [(space.complete({"x": i / 10}), i / 1000) for i in range(10)]
    strategy = MultiTask(space, tasks=[task])
    for x in (0.1, 0.5, 0.7, 0.9):
        strategy.tell(space.complete({"x": x}), 1000.0 + x)
    mean, _ = strategy.predict([space.complete({"x": 0.6})])
    assert mean[0] == pytest.approx(1000.6, abs=0.1)


def test_begins_with_the_best_of_the_tasks_from_a_file(tmp_path):
    space = toy_space()
    pairs = earlier(space, 10)
    write_task(pairs, tmp_path / "cifar.json")
    strategy = MultiTask(space, tasks=[str(tmp_path / "cifar.json")])
    best = sorted(pairs, key=lambda pair: -pair[1])
    assert [strategy.ask(n) for n in range(2)] == [a for a, _ in best[:2]]


def test_a_file_that_is_no_study_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"op0": "a"}')
    with pytest.raises(TaskError, match="x.json cannot be read as an earlier study"):
        MultiTask(toy_space(), tasks=[str(tmp_path / "x.json")])
    (tmp_path / "nan.json").write_text('[[{"op0": "a"}, NaN]]')
    with pytest.raises(TaskError, match="score nan"):
        MultiTask(toy_space(), tasks=[tmp_path / "nan.json"])
    with pytest.raises(TaskError, match="nowhere.json"):
        MultiTask(toy_space(), tasks=[str(tmp_path / "nowhere.json")])


def test_tasks_of_another_space_or_without_a_number_are_refused():
    space = toy_space()
    (architecture, score), *_ = earlier(space, 1)
    with pytest.raises(ArchitectureError, match="'cell'"):
        MultiTask(space, tasks=[[({"cell": "skip"}, 0.9)]])
    with pytest.raises(TaskError, match="score nan; expected finite numbers"):
        MultiTask(space, tasks=[[(architecture, score), (architecture, float("nan"))]])


def test_begins_at_random_once_the_tasks_are_exhausted():
    space = toy_space()
    strategy = MultiTask(space, tasks=[earlier(space, 1)])
    assert len({strategy.ask(n) for n in range(3)}) == 3
    strategy.tell(strategy.ask(0), 1.0)
    assert strategy.ask(0) != earlier(space, 1)[0][0]
