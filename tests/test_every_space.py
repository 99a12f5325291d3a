"""Optuna's own TPE and HpBandSter's own BOHB on every published space."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from ConfigSpace import (
    AndConjunction,
    Categorical,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    ForbiddenLessThanRelation,
    GreaterThanCondition,
    InCondition,
)
from ConfigSpace.hyperparameters import OrdinalHyperparameter

from nas_plugins import Architecture, SearchSpace, UnsupportedSpaceError, spaces


@pytest.fixture(params=sorted(spaces.REGISTRY))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    module = importlib.import_module(f"nas_plugins.spaces.{request.param}")
    return spaces.load(request.param, **getattr(module, "TINY", {}))


def value_of(architecture: Architecture) -> float:
    """Any number that depends on all of it."""
    return int(architecture.id[:6], 16) / 16**6


def test_tpe(space: SearchSpace) -> None:
    optuna = pytest.importorskip("optuna", reason="the optuna extra is not installed")
    from nas_plugins.optuna import architecture_of, suggest

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=4))
    study.optimize(lambda trial: value_of(suggest(trial, space)), n_trials=8)
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert finished
    assert all(architecture_of(trial, space) in space for trial in finished)


def bohb_over(config_space: ConfigurationSpace):
    pytest.importorskip("hpbandster", reason="the hpbandster extra is not installed")
    from hpbandster.optimizers.config_generators.bohb import BOHB

    from nas_plugins.hpbandster.ordinals import GeneratorOfPlaces, with_places

    placed, choices = with_places(config_space)
    return GeneratorOfPlaces(BOHB(placed, random_fraction=0.0, num_samples=4), choices)


def tell(generator, architecture: Architecture, *, update_model: bool) -> None:
    job = SimpleNamespace(
        kwargs={"config": dict(architecture), "budget": 9.0},
        result={"loss": value_of(architecture), "info": {}},
        exception=None,
    )
    generator.new_result(job, update_model=update_model)


def test_bohb(space: SearchSpace) -> None:
    generator = bohb_over(space.config_space)
    rng = np.random.default_rng(0)
    num = 2 * len(space.decisions) + 6
    for i in range(num):
        tell(generator, space.sample(rng), update_model=i == num - 1)
    config, info = generator.get_config(9.0)
    assert info["model_based_pick"]
    assert Architecture(config) in space


def test_bohb_keeps_the_order_of_choices() -> None:
    """Its model is told places, between which it can interpolate, and everybody else choices."""
    space = ConfigurationSpace({"x": Float("x", (0, 1))})
    batch = OrdinalHyperparameter("batch", [16, 64, 256, 1024], default_value=256)
    op, scale = Categorical("op", ["conv", "pool"]), OrdinalHyperparameter("scale", ["s", "m", "l"])
    decay, width, only = (
        Float("decay", (0, 1)),
        Float("width", (0, 1)),
        OrdinalHyperparameter("only", ["one"]),
    )
    space.add(batch, op, scale, decay, width, only)
    space.add(
        GreaterThanCondition(decay, batch, 16),
        AndConjunction(EqualsCondition(width, op, "conv"), InCondition(width, scale, ["s", "l"])),
    )
    space.add(
        ForbiddenAndConjunction(
            ForbiddenEqualsClause(batch, 1024), ForbiddenEqualsClause(op, "pool")
        )
    )
    ours = SearchSpace(space)
    generator = bohb_over(space)
    rng = np.random.default_rng(0)
    for i in range(40):
        tell(generator, ours.sample(rng), update_model=i == 39)
    assert generator.configspace["batch"].default_value == 2
    assert generator.kde_vartypes[list(generator.configspace).index("batch")] == "c"
    found = [generator.get_config(9.0)[0] for _ in range(20)]
    assert all(Architecture(config) in ours for config in found)
    assert len({config["batch"] for config in found}) > 1
    assert {"decay" in config for config in found if config["batch"] > 16} == {True}


def test_a_comparison_of_ordered_choices_is_refused() -> None:
    a, b = OrdinalHyperparameter("a", [1, 2, 3]), OrdinalHyperparameter("b", [1, 2, 3])
    space = ConfigurationSpace({"x": Float("x", (0, 1))})
    space.add(a, b)
    space.add(ForbiddenLessThanRelation(a, b))
    with pytest.raises(UnsupportedSpaceError, match="ordered decision"):
        bohb_over(space)
