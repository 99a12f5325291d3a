"""Any sampler drives any space, and a trial's parameters are its architecture."""

from __future__ import annotations

import optuna
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    GreaterThanCondition,
    Integer,
)
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from nas_plugins import Architecture, ArchitectureError, SearchSpace, UnsupportedSpaceError
from nas_plugins.optuna import (
    ArchitectureSampler,
    RegularizedEvolutionSampler,
    architecture_of,
    distributions,
    space_of,
    suggest,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)


def conditional_space(*, forbidden: bool = False) -> SearchSpace:
    """Every kind of decision: nested two deep, ordinal, boolean, log, constant."""
    config_space = ConfigurationSpace()
    op = Categorical("op", ["conv", "pool", "skip"])
    depth = Integer("depth", (1, 4))
    kernel = Categorical("kernel", [3, 5, 7], ordered=True)
    dilated = Categorical("dilated", [True, False])
    dilation = Integer("dilation", (2, 64), log=True)
    second = Float("second", (0.5, 1.5))
    rate = Float("train/learning_rate", (1e-4, 1.0), log=True)
    config_space.add(
        [op, depth, kernel, dilated, dilation, second, rate, Constant("stem", "plain")]
    )
    config_space.add(
        [
            EqualsCondition(kernel, op, "conv"),
            EqualsCondition(dilated, op, "conv"),
            EqualsCondition(dilation, dilated, True),
            GreaterThanCondition(second, depth, 2),
        ]
    )
    if forbidden:
        config_space.add(
            ForbiddenAndConjunction(
                ForbiddenEqualsClause(op, "pool"), ForbiddenEqualsClause(depth, 1)
            )
        )
    return SearchSpace(config_space, name="conditional")


def value_of(architecture: Architecture) -> float:
    wide = architecture.get("kernel", 0) == 7
    return float(architecture["depth"]) + wide - abs(architecture["train/learning_rate"] - 0.01)


SAMPLERS = {
    "random": lambda space: optuna.samplers.RandomSampler(seed=0),
    "tpe": lambda space: optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
    "gp": lambda space: optuna.samplers.GPSampler(seed=0, n_startup_trials=5),
    "nsga2": lambda space: optuna.samplers.NSGAIISampler(seed=0, population_size=5),
    "ours": lambda space: RegularizedEvolutionSampler(
        space, seed=0, population_size=5, sample_size=2
    ),
    "ours_following": lambda space: RegularizedEvolutionSampler(
        seed=0, population_size=5, sample_size=2
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_any_sampler_drives_a_conditional_space(name: str) -> None:
    space = conditional_space()
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[name](space))
    seen = []

    def objective(trial: optuna.Trial) -> float:
        architecture = suggest(trial, space)
        assert architecture in space
        seen.append(architecture)
        return value_of(architecture)

    study.optimize(objective, n_trials=7 if name == "gp" else 30)
    assert [architecture_of(trial, space) for trial in study.trials] == seen
    assert (
        len({frozenset(architecture) for architecture in seen}) > 1
    )  # conditions were met and not


def test_parameters_are_the_decisions() -> None:
    space = conditional_space()
    assert distributions(space)["dilation"] == IntDistribution(2, 64, log=True)
    assert distributions(space)["train/learning_rate"] == FloatDistribution(1e-4, 1, log=True)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    architecture = suggest(trial, space)
    assert list(trial.params) == [label for label in space.decisions if label in architecture]
    assert trial.params == dict(architecture)
    assert trial.params["stem"] == "plain"
    expected = distributions(space)
    assert all(d == expected[name] for name, d in trial.distributions.items())


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_forbidden_choices_are_pruned(name: str) -> None:
    space = conditional_space(forbidden=True)
    study = optuna.create_study(sampler=SAMPLERS[name](space))
    study.optimize(lambda trial: float(suggest(trial, space)["depth"]), n_trials=60)
    states = {TrialState.COMPLETE: 0, TrialState.PRUNED: 0}
    for trial in study.trials:
        states[trial.state] += 1
        forbidden = trial.params["op"] == "pool" and trial.params["depth"] == 1
        assert forbidden == (trial.state is TrialState.PRUNED)
    assert all(states.values())


def test_our_proposals_are_never_forbidden() -> None:
    space = conditional_space(forbidden=True)
    study = optuna.create_study(sampler=SAMPLERS["ours"](space))
    study.optimize(lambda trial: float(suggest(trial, space)["depth"]), n_trials=60)
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)


def test_a_fixed_parameter_out_of_range_is_an_error() -> None:
    space = conditional_space()
    study = optuna.create_study()
    study.enqueue_trial({"depth": 9})
    with (
        pytest.warns(UserWarning, match="out of range"),
        pytest.raises(ArchitectureError, match=r"9 at 'depth'.*integer in \[1, 4\]"),
    ):
        study.optimize(lambda trial: len(suggest(trial, space)), n_trials=1)


def test_a_fixed_trial_replays_an_architecture() -> None:
    space = conditional_space()
    default = space.default()
    assert suggest(optuna.trial.FixedTrial(dict(default)), space) == default


def test_an_architecture_of_a_smaller_space_is_completed() -> None:
    old = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "gone": (0, 3)}))
    new = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "extra": [5, 6]}))
    study = optuna.create_study(sampler=ArchitectureSampler("random", old, seed=0))
    study.optimize(lambda trial: len(suggest(trial, old)), n_trials=1)
    trial = study.trials[0]
    assert architecture_of(trial, new) == Architecture({"op": trial.params["op"], "extra": 5})
    anybodys = optuna.create_study()
    anybodys.optimize(lambda trial: len(suggest(trial, old)), n_trials=1)
    with pytest.raises(ArchitectureError, match="lacks a choice at 'extra'"):
        architecture_of(anybodys.trials[0], new)  # it only shares a label


def test_steps_end_at_the_top_and_rounding_is_forgiven() -> None:
    space = space_of({"x": FloatDistribution(0.1, 0.3, step=0.1)})
    assert space.decisions["x"].choices == (0.1, 0.2, 0.3)
    wide = space_of({"x": FloatDistribution(0.1, 0.5, step=0.1)})
    assert 0.3 not in (wide.decisions["x"].choices or ())
    trial = optuna.trial.create_trial(
        value=1.0, params={"x": 0.3}, distributions={"x": FloatDistribution(0.1, 0.5, step=0.1)}
    )
    assert architecture_of(trial, wide)["x"] == wide.decisions["x"].choices[2]


def test_a_trial_of_another_space_is_named() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ArchitectureError, match=r"trial 0 has parameters \['x'\].*'conditional'"):
        architecture_of(study.trials[0], conditional_space())


def test_half_an_architecture_is_not_completed() -> None:
    space = conditional_space()
    trial = optuna.create_study().ask()
    trial.suggest_categorical("op", ["conv", "pool", "skip"])
    with pytest.raises(ArchitectureError, match="lacks a choice at"):
        architecture_of(trial, space)


def test_space_of_distributions() -> None:
    space = space_of(
        {
            "kind": CategoricalDistribution(["a", "b"]),
            "on": CategoricalDistribution([True, False]),
            "one": CategoricalDistribution([7]),
            "fixed": FloatDistribution(2.0, 2.0),
            "x": FloatDistribution(1e-5, 1.0, log=True),
            "n": IntDistribution(1, 100, log=True),
            "even": IntDistribution(2, 8, step=2),
            "half": FloatDistribution(-1.0, 1.0, step=0.5),
        }
    )
    decisions = space.decisions
    assert decisions["even"].choices == (2, 4, 6, 8)
    assert decisions["half"].choices == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert decisions["x"].log
    assert decisions["n"].integer
    assert decisions["n"].log
    assert decisions["on"].choices == (True, False)
    assert (decisions["one"].choices, decisions["fixed"].choices) == ((7,), (2.0,))


@pytest.mark.parametrize(
    "distribution",
    [
        CategoricalDistribution([None, 1]),
        CategoricalDistribution([1, True]),
        FloatDistribution(0, 1, step=1e-5),
    ],
)
def test_space_of_names_what_it_cannot_express(
    distribution: optuna.distributions.BaseDistribution,
) -> None:
    with pytest.raises(UnsupportedSpaceError, match="parameter 'bad' has"):
        space_of({"bad": distribution})


def test_what_cannot_be_expressed_is_drawn_at_random() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("activation", [None, "relu"])
        return float(trial.suggest_int("depth", 1, 30))

    study = optuna.create_study(direction="maximize", sampler=SAMPLERS["ours_following"](None))
    study.optimize(objective, n_trials=60)
    assert {trial.params["activation"] for trial in study.trials} == {None, "relu"}
    assert study.best_value >= 25
