"""The sampler's state is the study's trials: order, direction, numbers, restarts."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from ConfigSpace import ConfigurationSpace
from optuna.trial import TrialState, create_trial

import nas_plugins.optuna
from nas_plugins import (
    Architecture,
    NasPluginsError,
    ScoreError,
    SearchSpace,
    UnsupportedSpaceError,
)
from nas_plugins.optuna import (
    ArchitectureSampler,
    RandomArchitectureSampler,
    RegularizedEvolutionSampler,
    architecture_of,
    distributions,
    suggest,
)
from nas_plugins.optuna.worker import Worker
from nas_plugins.strategies import (
    REGISTRY,
    Deduplicated,
    Predictor,
    RandomSearch,
    RegularizedEvolution,
    StrategyNameError,
    create,
    strategy_class,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE = SearchSpace(
    ConfigurationSpace({**{f"op{i}": ["conv", "pool", "skip"] for i in range(5)}, "rate": (0.1, 1)})
)
OPTIONS = {"population_size": 6, "sample_size": 3}


def value_of(architecture: Architecture) -> float:
    return sum(c == "conv" for c in architecture.values()) + float(architecture["rate"])


def objective(trial: optuna.Trial) -> float:
    return value_of(suggest(trial, SPACE))


def evolution(seed: int = 0) -> RegularizedEvolutionSampler:
    return RegularizedEvolutionSampler(SPACE, seed=seed, **OPTIONS)


def architectures(study: optuna.Study) -> list[Architecture]:
    return [architecture_of(trial, SPACE) for trial in study.trials]


def numbers(study: optuna.Study) -> list[int | None]:
    return [trial.system_attrs.get("nas_plugins:number") for trial in study.trials]


def maximized(**keywords: Any) -> optuna.Study:
    return optuna.create_study(direction="maximize", **keywords)


def _spy(study: optuna.Study) -> list[tuple[Architecture, Any]]:
    """What the study's strategy is told from now on."""
    told: list[tuple[Architecture, Any]] = []
    tell = study.sampler.strategy.tell

    def noted(architecture: Architecture, score: Any, **keywords: Any) -> None:
        told.append((architecture, score))
        tell(architecture, score, **keywords)

    study.sampler.strategy.tell = noted
    return told


@pytest.mark.parametrize("name", REGISTRY)
def test_same_sequence_as_the_bare_strategy(name: str) -> None:
    strategy = create(name, SPACE, seed=3)
    expected = []
    for number in range(30):
        expected.append(strategy.ask(number))
        strategy.tell(expected[-1], value_of(expected[-1]))
    study = maximized(sampler=ArchitectureSampler(name, SPACE, seed=3))
    study.optimize(objective, n_trials=30)
    assert architectures(study) == expected


def test_minimizing_is_maximizing_the_negative() -> None:
    up, down = maximized(sampler=evolution()), optuna.create_study(sampler=evolution())
    up.optimize(objective, n_trials=40)
    down.optimize(lambda trial: -objective(trial), n_trials=40)
    assert architectures(up) == architectures(down)
    assert up.best_value > 5


def test_several_objectives_are_turned_one_by_one() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=evolution())
    told = _spy(study)
    study.optimize(lambda trial: (objective(trial), 2.0), n_trials=20)
    assert [score for _, score in told] == [(t.values[0], -2.0) for t in study.trials[:19]]


def test_one_objective_strategies_say_so() -> None:
    class Single(RandomSearch):
        multi_objective = False

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=ArchitectureSampler(Single(SPACE))
    )
    with pytest.raises(ScoreError, match="2 objectives, but Single understands one"):
        study.optimize(lambda trial: (objective(trial), 0.0), n_trials=1)


@pytest.mark.parametrize("name", REGISTRY)
def test_threads_take_different_numbers(name: str) -> None:
    study = maximized(sampler=ArchitectureSampler(name, SPACE, seed=0))
    study.optimize(objective, n_trials=40, n_jobs=2)
    assert sorted(numbers(study)) == list(range(40))
    assert study.sampler.strategy.num_told <= 40


def test_asked_together_and_told_in_any_order() -> None:
    study = maximized(sampler=evolution())
    for _ in range(4):
        trials = [study.ask() for _ in range(5)]
        values = {trial.number: objective(trial) for trial in reversed(trials)}
        for number in (2, 0, 4, 1, 3):
            study.tell(trials[number], values[trials[number].number])
    assert numbers(study) == list(range(20))
    reader = evolution()
    study.sampler = reader
    suggest(study.ask(), SPACE)
    expected = RegularizedEvolution(SPACE, seed=0, **OPTIONS)
    for trial in sorted(study.trials[:20], key=lambda t: t.datetime_complete):
        expected.tell(architecture_of(trial, SPACE), trial.value)
    assert reader.strategy.ask(99) == expected.ask(99)


def test_an_enqueued_architecture_is_what_is_told() -> None:
    study = maximized(sampler=evolution())
    told = _spy(study)
    wanted = SPACE.default()
    study.enqueue_trial(dict(wanted))
    study.enqueue_trial({"op0": "skip"})
    study.optimize(objective, n_trials=4)
    first, second, third, _ = architectures(study)
    assert first == wanted
    assert second == evolution().strategy.ask(0).replace(op0="skip")
    assert [architecture for architecture, _ in told] == [first, second, third]
    assert numbers(study) == [None, 0, 1, 2]  # nothing was sampled for the first


def test_pruned_failed_and_infinite_have_no_score(caplog: pytest.LogCaptureFixture) -> None:
    study = maximized(sampler=evolution())
    told = _spy(study)

    def uneven(trial: optuna.Trial) -> float:
        value = objective(trial)
        trial.report(value, 0)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise RuntimeError("out of memory")
        return {3: float("nan"), 4: float("inf")}.get(trial.number, value)

    with caplog.at_level(logging.WARNING):
        study.optimize(uneven, n_trials=6, catch=RuntimeError)
    assert [score for _, score in told] == [study.trials[0].value, None, None, None, None]
    assert numbers(study) == list(range(6))
    assert "trial 4 counts as failed: its value is infinite" in caplog.text


def test_trials_of_another_space_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    study = maximized(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    study.sampler = evolution()
    with caplog.at_level(logging.WARNING):
        study.optimize(objective, n_trials=4)
    assert study.sampler.strategy.num_told == 3
    assert numbers(study) == [None, None, None, 0, 1, 2, 3]
    assert len(caplog.records) == 1
    assert "trial 0 has parameters ['x']" in caplog.text


def test_other_samplers_trials_are_learnt_from() -> None:
    study = maximized(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=5)
    study.sampler = evolution()
    study.optimize(objective, n_trials=2)
    assert study.sampler.strategy.num_told == 6


def test_parameters_beside_the_space_are_reproducible() -> None:
    def wider(trial: optuna.Trial) -> float:
        return objective(trial) + trial.suggest_float("momentum", 0, 1)

    runs = []
    for seed in (0, 0, 1):
        study = maximized(sampler=evolution(seed))
        study.optimize(wider, n_trials=5)
        runs.append([trial.params["momentum"] for trial in study.trials])
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 5


@pytest.mark.parametrize("every", [1, 7])
def test_a_restart_continues_exactly(every: int) -> None:
    unbroken, restarted = maximized(sampler=evolution()), maximized(sampler=evolution())
    unbroken.optimize(objective, n_trials=28)
    for _ in range(0, 28, every):
        restarted.sampler = evolution()
        restarted.optimize(objective, n_trials=every)
    assert architectures(restarted) == architectures(unbroken)


def test_a_result_that_arrives_late_is_sorted_in() -> None:
    study = maximized(sampler=evolution())
    study.optimize(objective, n_trials=12)
    now = datetime.now()
    for minutes in (-2, -1):  # another worker's clock, or its slow storage
        architecture = SPACE.default().replace(rate=0.5 - minutes / 10)
        early = create_trial(
            params=dict(architecture), distributions=distributions(SPACE), value=9.0
        )
        early.datetime_complete = now + timedelta(minutes=minutes)
        study.add_trial(early)
    study.optimize(objective, n_trials=1)
    fresh = evolution()
    fresh.strategy.replay([])
    for trial in sorted(study.trials[:14], key=lambda t: t.datetime_complete):
        fresh.strategy.tell(architecture_of(trial, SPACE), trial.value)
    assert architectures(study)[-1] == fresh.strategy.ask(12)
    for number in range(20):
        assert study.sampler.strategy.ask(number) == fresh.strategy.ask(number)


def test_one_sampler_serves_several_studies() -> None:
    sampler = evolution()
    alone, other = maximized(sampler=sampler), maximized(sampler=sampler)
    for _ in range(10):
        alone.optimize(objective, n_trials=1)
        other.optimize(objective, n_trials=1)
    assert architectures(alone) == architectures(other)
    assert numbers(other) == list(range(10))


def test_a_pickled_sampler_goes_on() -> None:
    study, copied = maximized(sampler=evolution()), maximized(sampler=evolution())
    study.optimize(objective, n_trials=20)
    copied.optimize(objective, n_trials=10)
    copied = pickle.loads(pickle.dumps(copied))
    copied.optimize(objective, n_trials=10)
    assert architectures(copied) == architectures(study)


def test_hyperband_sees_one_history() -> None:
    """Its pruner hands samplers a guise of the study with the trials of one bracket."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    study = maximized(sampler=evolution(), pruner=pruner)

    def stepwise(trial: optuna.Trial) -> float:
        value = objective(trial)
        for step in range(9):
            trial.report(value * (step + 1) / 9, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study.optimize(stepwise, n_trials=40)
    assert numbers(study) == list(range(40))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    suggest(study.ask(), SPACE)
    assert study.sampler.strategy.num_told == 40


# -- numbers of killed workers ----------------------------------------------------------


def _ended_process() -> list[Any]:
    """What a worker that has ended wrote."""
    code = (
        "from nas_plugins.optuna.worker import Worker; w = Worker.here(); "
        "print(w.host, w.pid, w.started, sep='\\n')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    host, pid, started = said.stdout.split()
    return [host, int(pid), started]


@pytest.fixture(scope="module")
def ended() -> list[Any]:
    return _ended_process()


def _lose(study: optuna.Study, worker: list[Any], *, to_the_end: bool = True) -> int:
    """Sample a trial, then pretend that another process did; its trial number."""
    trial = study.ask()
    suggest(trial, SPACE)
    entry = [*worker, to_the_end]
    study._storage.set_trial_system_attr(trial._trial_id, "nas_plugins:worker", entry)
    return trial.number


def test_a_killed_workers_proposal_is_made_again(ended: list[Any]) -> None:
    study, unbroken = maximized(sampler=evolution()), maximized(sampler=evolution())
    unbroken.optimize(objective, n_trials=12)
    for _ in range(4):
        study.optimize(objective, n_trials=3)
        _lose(study, ended)
        study.sampler = evolution()
    done = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert [architecture_of(trial, SPACE) for trial in done] == architectures(unbroken)
    assert numbers(study) == [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12]


def test_an_asked_trial_keeps_its_number_after_its_process(ended: list[Any]) -> None:
    study = maximized(sampler=evolution())
    _lose(study, ended, to_the_end=False)
    study.optimize(objective, n_trials=2)
    assert numbers(study) == [0, 1, 2]


def test_a_worker_elsewhere_is_presumed_alive(ended: list[Any]) -> None:
    study = maximized(sampler=evolution())
    _lose(study, ["elsewhere", *ended[1:]])
    study.optimize(objective, n_trials=1)
    assert numbers(study) == [0, 1]


def test_a_process_number_used_again_is_another_worker() -> None:
    here = Worker.here()
    assert not here.is_gone()
    assert Worker(here.host, here.pid, "some other time").is_gone()
    assert not Worker("elsewhere", here.pid, "some other time").is_gone()


def test_a_process_that_may_not_be_looked_at_is_presumed_alive(monkeypatch) -> None:
    from nas_plugins.optuna import worker

    def refused(pid: int, signal: int) -> None:
        raise PermissionError

    here = Worker.here()
    another = Worker(here.host, 2**22 + 1, "before")  # no process has so high a number
    assert another.is_gone()
    monkeypatch.setattr(worker.os, "kill", refused)
    assert not another.is_gone()


def test_a_failure_told_by_another_sampler_is_one() -> None:
    study = maximized(sampler=evolution())
    found = []
    for _ in range(3):
        trial = study.ask()
        found.append(suggest(trial, SPACE))
        teller = optuna.load_study(study_name=study.study_name, storage=study._storage)
        teller.tell(trial.number, state=TrialState.FAIL)
    assert len(set(found)) == 3
    assert numbers(study) == [0, 1, 2]


def test_without_proc_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_plugins.optuna import worker

    monkeypatch.setattr(worker, "Path", lambda path: _Nowhere())
    monkeypatch.setattr(
        worker.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 0, "Sun Nov 22 10:00:00\n"),
    )
    assert worker._start_time(os.getpid()) == "Sun Nov 22 10:00:00"

    def absent(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("ps")

    monkeypatch.setattr(worker.subprocess, "run", absent)
    assert worker._start_time(os.getpid()) == ""  # not known: presumed alive


class _Nowhere:
    def exists(self) -> bool:
        return False


def test_a_stale_trial_failed_by_another_never_happened(ended: list[Any]) -> None:
    study = maximized(sampler=evolution())
    study.optimize(objective, n_trials=2)
    lost = _lose(study, ended)
    trial_id = study.trials[lost]._trial_id
    study._storage.set_trial_state_values(trial_id, TrialState.FAIL)  # as a stale heartbeat is
    study.sampler = evolution()
    study.optimize(objective, n_trials=2)
    assert numbers(study) == [0, 1, 2, 2, 3]
    assert study.sampler.strategy.num_told == 3


def test_workers_that_start_together_leave_room_for_each_other() -> None:
    """All have their trial before any has its number."""
    storage = optuna.storages.InMemoryStorage()
    first = maximized(study_name="s", storage=storage, sampler=evolution())
    studies = [first] + [
        optuna.load_study(study_name="s", storage=storage, sampler=evolution()) for _ in range(3)
    ]
    trials = [study.ask() for study in studies]
    for trial in (trials[2], trials[0], trials[3], trials[1]):
        suggest(trial, SPACE)
    assert numbers(first) == [0, 1, 2, 3]


# -- construction -----------------------------------------------------------------------


def test_a_strategy_comes_as_instance_name_or_factory() -> None:
    strategy = RegularizedEvolution(SPACE, seed=0, **OPTIONS)
    samplers = [
        ArchitectureSampler(strategy),
        ArchitectureSampler(lambda space: RegularizedEvolution(space, seed=0, **OPTIONS), SPACE),
        evolution(),
    ]
    found = []
    for sampler in samplers:
        study = maximized(sampler=sampler)
        study.optimize(objective, n_trials=15)
        found.append(architectures(study))
    assert found[0] == found[1] == found[2]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(StrategyNameError, match="unknown strategy 'evolution'"):
        ArchitectureSampler("evolution", SPACE)
    with pytest.raises(StrategyNameError, match="no option 'population'"):
        RegularizedEvolutionSampler(population=3)
    other = SearchSpace(ConfigurationSpace({"x": [1, 2]}))
    with pytest.raises(ValueError, match="give the space to one of them"):
        ArchitectureSampler(RandomSearch(SPACE), other)
    with pytest.raises(AttributeError, match="NoSuchSampler"):
        nas_plugins.optuna.NoSuchSampler  # noqa: B018


def test_every_strategy_has_a_ready_sampler() -> None:
    for name in REGISTRY:
        ready = strategy_class(name).__name__.removesuffix("Prior")
        if ready.endswith("Search"):
            ready = ready.removesuffix("Search") + "Architecture"
        sampler = getattr(nas_plugins.optuna, f"{ready}Sampler")(SPACE, seed=0)
        assert type(sampler.strategy) is strategy_class(name)
        assert f"{ready}Sampler" in nas_plugins.optuna.__all__
        assert f"{ready}Sampler" in dir(nas_plugins.optuna)


def test_without_a_seed_runs_differ() -> None:
    first, second = RandomArchitectureSampler(SPACE), RandomArchitectureSampler(SPACE)
    assert first.strategy.ask(0) != second.strategy.ask(0)


# -- scores from memory -----------------------------------------------------------------


def test_remembered_values_are_the_studys_own() -> None:
    small = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"]}))
    strategy = Deduplicated(RandomSearch(small, seed=0), reask=False)
    sampler = ArchitectureSampler(strategy)
    study = optuna.create_study(sampler=sampler)
    trained = []

    def thrifty(trial: optuna.Trial) -> float:
        architecture = suggest(trial, small)
        known = sampler.remembered(architecture)
        if known is None:
            trained.append(architecture)
            known = 3.0 if architecture["op"] == "conv" else 5.0
        return known

    study.optimize(thrifty, n_trials=12)
    assert len(trained) == 2
    assert {(t.params["op"], t.value) for t in study.trials} == {("conv", 3.0), ("pool", 5.0)}


def test_remembered_values_of_several_objectives() -> None:
    sampler = ArchitectureSampler(Deduplicated(RandomSearch(SPACE, seed=0), reask=False))
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: (objective(trial), 2.0), n_trials=2)
    first = study.trials[0]
    assert sampler.remembered(architecture_of(first, SPACE)) == first.values


def test_remembering_needs_a_strategy_that_does() -> None:
    with pytest.raises(NasPluginsError, match="RegularizedEvolution does not remember"):
        evolution().remembered(SPACE.default())


def test_a_lock_guards_the_strategy() -> None:
    """Two threads sample at once: neither sees the other's half-told history."""
    study = maximized(sampler=evolution())
    busy = threading.Lock()
    overlapped = []
    ask = study.sampler.strategy.ask

    def watched(number: int, **options: int) -> Architecture:
        overlapped.append(not busy.acquire(blocking=False))
        architecture = ask(number, **options)
        busy.release()
        return architecture

    study.sampler.strategy.ask = watched
    study.optimize(objective, n_trials=20, n_jobs=4)
    assert overlapped == [False] * 20


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_trials_at_the_same_time_differ_after_another_samplers(storage, tmp_path):
    url = None if storage == "memory" else f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        direction="maximize", storage=url, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=8)
    study.sampler = ArchitectureSampler(Predictor(SPACE, num_initial=4), seed=0)
    at_once = [suggest(study.ask(), SPACE) for _ in range(4)]
    assert len({Architecture({**a, "rate": 0.5}) for a in at_once}) == 4
    pending = study.sampler._history.num_pending(study.trials[-1], 99)
    assert pending == 3


def test_steps_are_searched_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a space, a parameter with a step is a decision like others."""
    sampler = ArchitectureSampler("random", seed=0)
    study = optuna.create_study(sampler=sampler)
    replays = []
    real = ArchitectureSampler._tell_again
    monkeypatch.setattr(
        ArchitectureSampler, "_tell_again", lambda self: (replays.append(1), real(self))
    )
    study.optimize(lambda trial: trial.suggest_float("x", 0.1, 0.7, step=0.1), n_trials=80)
    assert len(replays) == 2  # at the start, and once the space is known
    assert sampler.strategy.num_told == 79
    assert sum(trial.params["x"] == 0.7 for trial in study.trials[1:]) > 4


def test_a_parameter_that_is_no_decision_is_named(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(sampler=ArchitectureSampler("random", seed=0))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("other", [None, 1])
        return trial.suggest_float("x", 0, 1)

    with caplog.at_level(logging.WARNING):
        study.optimize(objective, n_trials=4)
    assert sum("parameter 'other' is drawn at random" in m for m in caplog.messages) == 1


@pytest.mark.parametrize("given", ["nas_bench_201", SearchSpace])
def test_what_is_no_space_is_named(given: Any) -> None:
    with pytest.raises(UnsupportedSpaceError, match="expected a SearchSpace, got .*; make it one"):
        ArchitectureSampler("random", given)
    with pytest.raises(UnsupportedSpaceError, match="expected a SearchSpace"):
        suggest(optuna.trial.FixedTrial({}), given)
    with pytest.raises(UnsupportedSpaceError, match="expected a SearchSpace"):
        create("random", given)
