import json

import nni
import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition
from nni.mutable import (
    Categorical,
    CategoricalMultiple,
    Mutable,
    MutableDict,
    Numerical,
    ensure_frozen,
)
from nni.mutable.annotation import ExpressionConstraint
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.experiment.config import SequentialEngineConfig
from nni.nas.hub.pytorch import DARTS
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.strategy import Random
from torch import nn

from nas_plugins import Architecture, SearchSpace, UnsupportedSpaceError, spaces, strategies
from nas_plugins.nni import ArchitectureModelSpace, ArchitectureStrategy
from nas_plugins.nni.mutables import Translation, mutable_of
from nas_plugins.strategies import StrategyNameError

OPTIONS = {"population_size": 4, "sample_size": 2}
TINY = {"channels": 2, "num_cells": 1, "in_channels": 1}


def count_parameters(model):
    nni.report_final_result(float(sum(p.numel() for p in model.parameters())))


def run(model_space, strategy, num, directory, evaluate=count_parameters, resumes=None, **engine):
    engine = SequentialEngineConfig(max_model_count=num, **engine)
    config = NasExperimentConfig(engine, "simplified", "local")
    config.experiment_working_directory = str(directory)
    if not isinstance(evaluate, FunctionalEvaluator):
        evaluate = FunctionalEvaluator(evaluate)
    experiment = NasExperiment(model_space, evaluate, strategy, config, id=resumes)
    try:
        experiment.resume() if resumes else experiment.run()
    finally:
        experiment.stop()
    return experiment


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


def test_our_space_in_a_nas_experiment(tmp_path):
    space = spaces.load("nas_bench_201", **TINY)
    strategy = ArchitectureStrategy(seed=3, **OPTIONS)
    ran = run(ArchitectureModelSpace("nas_bench_201", **TINY), strategy, 10, tmp_path)
    reference = strategies.create("regularized_evolution", space, seed=3, **OPTIONS)
    assert len(strategy.history) == 10
    for observation in strategy.history:
        assert observation.architecture == reference.ask()
        size = sum(p.numel() for p in space.build(observation.architecture).parameters())
        assert observation.score == size
        reference.tell(observation.architecture, observation.score)
    best = max(strategy.history, key=lambda o: o.score)
    (sample,) = ran.export_top_models(1, formatter="dict")
    assert Architecture(sample) == best.architecture
    (network,) = ran.export_top_models(1, formatter="instance")
    assert not any(isinstance(module, Mutable) for module in network.modules())
    assert network.state_dict().keys() == space.build(best.architecture).state_dict().keys()


def test_a_space_of_nnis_hub(tmp_path):
    strategy = ArchitectureStrategy(**OPTIONS)
    hub = DARTS(width=2, num_cells=3, dataset="cifar")
    run(hub, strategy, 6, tmp_path)
    assert len(strategy.history) == 6
    assert len({o.score for o in strategy.history}) > 1
    assert all("normal/op_2_0" in o.architecture for o in strategy.history)


class Conditional(nn.Module):
    def __init__(self, choose):
        super().__init__()
        inner = {"narrow": lambda: nn.Linear(2, 2), "wide": lambda: nn.Linear(2, 9)}
        self.layer = choose.layer(
            "a/op", {"none": nn.Identity, "linear": lambda: choose.layer("a/inner", inner)}
        )
        self.blocks = choose.repeat("depth", lambda i: nn.Linear(2, 2), (1, 3))


def test_conditions_hold_for_our_strategies_and_nnis_own(tmp_path):
    space = SearchSpace.from_network(Conditional)
    strategy = ArchitectureStrategy("grid")
    run(ArchitectureModelSpace(space), strategy, int(space.size), tmp_path)
    assert {o.architecture for o in strategy.history} == set(space.enumerate())
    ran = run(ArchitectureModelSpace(space), Random(seed=0), 4, tmp_path)
    (sample,) = ran.export_top_models(1, formatter="dict")
    assert set(sample) == {"a/op", "a/inner", "depth"}
    assert ran.model_space.architecture(sample) in space


def test_a_failed_training_is_told_as_failed(tmp_path):
    def evaluate(model):
        if not isinstance(model.layer, nn.Identity):
            raise RuntimeError("out of memory")
        nni.report_final_result(float("nan") if len(model.blocks) == 1 else 1.0)

    space = SearchSpace.from_network(Conditional)
    strategy = ArchitectureStrategy("grid")
    model_space = ArchitectureModelSpace(space)
    run(model_space, strategy, int(space.size), tmp_path, evaluate, continue_on_failure=True)
    for observation in strategy.history:
        works = observation.architecture["a/op"] == "none" and observation.architecture["depth"] > 1
        assert observation.score == (1.0 if works else None)


def test_resume_continues_the_sequence(tmp_path):
    model_space = ArchitectureModelSpace("nas_bench_201", **TINY)
    whole = ArchitectureStrategy(seed=1, **OPTIONS)
    run(model_space, whole, 9, tmp_path / "whole")
    first = ArchitectureStrategy(seed=1, **OPTIONS)
    broken = run(model_space, first, 5, tmp_path / "broken")
    second = ArchitectureStrategy(seed=1, **OPTIONS)
    run(model_space, second, 9, tmp_path / "broken", resumes=broken.id)
    assert second.history == whole.history
    assert json.loads(json.dumps(second.state_dict())) == second.state_dict()


def test_a_search_over_the_evaluators_choices_too(tmp_path):
    seen = []

    def evaluate(model, lr):
        seen.append(lr)
        nni.report_final_result(lr)

    space = SearchSpace.from_network(Conditional)
    strategy = ArchitectureStrategy("random")
    evaluator = FunctionalEvaluator(evaluate, lr=nni.choice("lr", [0.1, 0.2]))
    run(ArchitectureModelSpace(space), strategy, 4, tmp_path, evaluator)
    assert [o.architecture["lr"] for o in strategy.history] == seen


MUTABLES = {
    "scalar": Categorical([1, 2, "x", 0.5], label="scalar"),
    "objects": Categorical([(1, 1), (3, 3)], label="objects"),
    "one": Categorical(["only"], label="one"),
    "pair": CategoricalMultiple(["a", "b", "c"], n_chosen=2, label="pair"),
    "any": CategoricalMultiple([10, 20], label="any"),
    "lr": Numerical(1e-4, 1.0, log_distributed=True, label="lr"),
    "units": Numerical(1, 8, quantize=1, label="units"),
}


def test_every_architecture_of_translated_mutables_is_a_sample_of_nnis():
    translation = Translation.of(MUTABLES)
    mutables = MutableDict(MUTABLES)
    rng = np.random.default_rng(0)
    samples = [translation.sample(translation.space.sample(rng)) for _ in range(100)]
    for sample in samples:
        assert mutables.contains(sample), mutables.check_contains(sample)
    assert {tuple(s["pair"]) for s in samples} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert {tuple(s["any"]) for s in samples} == {(), (10,), (20,), (10, 20)}
    assert {s["objects"] for s in samples} == {(1, 1), (3, 3)}


def test_every_sample_of_translated_decisions_is_read_as_it_is():
    config_space = ConfigurationSpace({"a/b": ["x", "y"], "n": (1, 9), "lr": (0.1, 1.0)})
    config_space.add(EqualsCondition(config_space["n"], config_space["a/b"], "x"))
    space = SearchSpace(config_space)
    mutables = MutableDict({d.label: mutable_of(d) for d in space.decisions.values()})
    assert {str(label) for label in mutables.simplify()} == set(space.decisions)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert mutables.contains({**space.default(), "n": 1, **space.sample(rng)})


@pytest.mark.parametrize(
    "mutable",
    [
        Numerical(mu=0.0, sigma=1.0, label="x"),
        Numerical(0.0, 1.0, quantize=0.1, label="x"),
        CategoricalMultiple(list(range(30)), n_chosen=12, label="x"),
    ],
)
def test_a_mutable_without_equivalent_is_named(mutable):
    with pytest.raises(UnsupportedSpaceError, match="'x'"):
        Translation.of({"x": mutable})


def test_samples_that_constraints_refuse_are_drawn_again(tmp_path):
    class Constrained(ModelSpace):
        def __init__(self):
            super().__init__()
            a, b = nni.choice("a", [3, 2, 1]), nni.choice("b", [1, 2, 3])
            for mutable in (a, b, ExpressionConstraint(a + b == 4, label="sum")):
                self.add_mutable(mutable)
            self.layer = nn.Linear(ensure_frozen(a), ensure_frozen(b))

    strategy = ArchitectureStrategy("random")
    run(Constrained(), strategy, 6, tmp_path)
    assert {o.architecture["a"] + o.architecture["b"] for o in strategy.history} == {4}


def test_unknown_strategy():
    with pytest.raises(StrategyNameError, match="unknown strategy 'darwin'; expected one of"):
        ArchitectureStrategy("darwin")


def test_a_space_without_a_network():
    with pytest.raises(UnsupportedSpaceError, match="no network"):
        ArchitectureModelSpace(SearchSpace(ConfigurationSpace({"a": ["x", "y"]})))
