"""A space that grew continues its study."""

from __future__ import annotations

import logging
from typing import Any

import optuna
import pytest
from ConfigSpace import ConfigurationSpace
from optuna.trial import TrialState

from benchmarks.kill9_optuna import value_of
from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.optuna import (
    RegularizedEvolutionSampler,
    architecture_of,
    grown_study,
    suggest,
)
from nas_plugins.strategies import Observation

optuna.logging.set_verbosity(optuna.logging.ERROR)

BEFORE = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "width": (1, 8)}), name="before")


def now() -> SearchSpace:
    """With an operation, a range and a layer more; the layer's default is to be absent."""
    space = ConfigurationSpace({"op": ["conv", "pool", "skip"], "width": (1, 16)})
    space.add(ConfigurationSpace({"op2": ["absent", "conv"]})["op2"])
    return SearchSpace(space, name="now")


NOW = now()


def sampler(space: SearchSpace) -> RegularizedEvolutionSampler:
    return RegularizedEvolutionSampler(space, seed=0, population_size=4, sample_size=2)


def objective(space: SearchSpace) -> Any:
    return lambda trial: value_of(suggest(trial, space))


@pytest.fixture(params=["memory", "sqlite"])
def study(request: pytest.FixtureRequest, tmp_path: Any) -> optuna.Study:
    storage = None if request.param == "memory" else f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, direction="maximize", sampler=sampler(BEFORE))
    study.optimize(objective(BEFORE), n_trials=8)
    return study


def test_changed_choices_are_refused_with_a_cure(study: optuna.Study) -> None:
    same = optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=sampler(NOW)
    )
    with pytest.raises(UnsupportedSpaceError, match=r"other choices at 'op'.*grown_study"):
        same.optimize(objective(NOW), n_trials=1)


def test_a_new_decision_alone_needs_no_other_study(study: optuna.Study) -> None:
    space = BEFORE.join(ConfigurationSpace({"op2": ["absent", "conv"]}))
    same = optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=sampler(space)
    )
    same.optimize(objective(space), n_trials=2)
    assert same.sampler.strategy.num_told == 9  # all but the last, which nobody has read


def test_earlier_trials_are_told_to_the_strategy(study: optuna.Study) -> None:
    grown = grown_study(study, NOW, study_name="grown", sampler=sampler(NOW))
    assert [trial.values for trial in grown.trials] == [trial.values for trial in study.trials]
    for old, new in zip(study.trials, grown.trials, strict=True):
        assert architecture_of(new, NOW) == NOW.complete({**old.params, "op2": "absent"})
        assert new.datetime_complete == old.datetime_complete
    grown.optimize(objective(NOW), n_trials=20)
    numbers = [trial.system_attrs["nas_plugins:number"] for trial in grown.trials]
    assert numbers == list(range(28))
    taken = {architecture["op"] for t in grown.trials for architecture in [t.params]}
    assert taken == {"conv", "pool", "skip"}
    # What the sampler proposes is what the bare strategy does after the same history.
    bare = sampler(NOW).strategy
    bare.replay(Observation(architecture_of(t, NOW), t.value) for t in grown.trials)
    assert architecture_of(_next(grown), NOW) == bare.ask(28)
    assert len(study.trials) == 8  # as it was


def _next(study: optuna.Study) -> Any:
    trial = study.ask()
    suggest(trial, NOW)
    return trial


def test_a_script_may_grow_its_study_at_each_start(study: optuna.Study) -> None:
    grown_study(study, NOW, study_name="grown")
    study.optimize(objective(BEFORE), n_trials=1)
    grown = grown_study(study, NOW, study_name="grown")
    assert len(grown.trials) == 9
    assert len(grown_study(study, NOW, study_name="grown").trials) == 9


def test_optunas_own_samplers_go_on(study: optuna.Study) -> None:
    tpe = optuna.samplers.TPESampler(seed=0, n_startup_trials=2, multivariate=True)
    grown = grown_study(study, NOW, study_name="grown", sampler=tpe)
    common = optuna.search_space.intersection_search_space(grown.get_trials())
    assert set(common) == {"op", "op2", "width"}
    grown.optimize(objective(NOW), n_trials=3)


def test_failed_and_pruned_trials_come_along_and_others_are_left_out(
    study: optuna.Study, caplog: pytest.LogCaptureFixture
) -> None:
    study.tell(study.ask(), state=TrialState.FAIL)
    stopped = study.ask()
    suggest(stopped, BEFORE)
    stopped.report(0.5, 1)
    study.tell(stopped, state=TrialState.PRUNED)
    study.ask()
    smaller = SearchSpace(ConfigurationSpace({"op": ["conv", "skip"], "width": (1, 8)}), name="s")
    with caplog.at_level(logging.WARNING):
        grown = grown_study(study, smaller, study_name="another")
    kept = [t for t in study.trials[:10] if t.params.get("op") != "pool"]
    assert [t.state for t in grown.trials] == [t.state for t in kept]
    assert {t.params.get("op") for t in grown.trials} <= {"conv", None}
    assert f"{10 - len(kept)} trials are left out" in caplog.text
    whole = grown_study(study, NOW, study_name="grown")
    assert [t.state.name for t in whole.trials[8:]] == ["FAIL", "PRUNED"]
    assert whole.trials[9].intermediate_values == {1: 0.5}
