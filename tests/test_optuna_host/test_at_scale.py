"""Several processes on one study in PostgreSQL and behind gRPC, killed on the way."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import optuna
import pytest
from optuna.storages import GrpcStorageProxy, RDBStorage
from optuna.trial import TrialState

from benchmarks import postgres
from benchmarks.kill9_optuna import make_space, value_of
from benchmarks.scale_optuna import (
    GRACE_S,
    check,
    open_storage,
    proxied,
    retry_failed_trial,
    search,
)
from nas_plugins.optuna import RandomArchitectureSampler, suggest
from nas_plugins.optuna.history import StudyHistory

optuna.logging.set_verbosity(optuna.logging.ERROR)

needs_postgresql = pytest.mark.skipif(
    postgres.why_not() is not None, reason=postgres.why_not() or "PostgreSQL is there"
)


@pytest.mark.host
@needs_postgresql
@pytest.mark.parametrize("kind", ["postgresql", "grpc"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_nothing_is_lost_or_done_twice(kind: str) -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(postgres.server())
        if kind == "grpc":
            pytest.importorskip("grpc", reason="Optuna's gRPC storage needs grpcio")
            address = stack.enter_context(proxied(address))
        row = search(address, "regularized_evolution", workers=4, trials=60, kills=3, seed=0)
    assert 60 <= row["complete"] < 60 + 4
    assert row["kills"] == 3


# -- what the check finds ---------------------------------------------------------------


def small_study() -> optuna.Study:
    space = make_space()
    sampler = RandomArchitectureSampler(space, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("ask_ms", 1.0)
        return value_of(suggest(trial, space))

    study.optimize(objective, n_trials=4)
    return study


def test_the_check_sees_what_was_lost_or_doubled() -> None:
    study = small_study()
    announced = {trial.number: trial.value for trial in study.trials}
    assert check(study, announced, 0)["complete"] == 4
    with pytest.raises(AssertionError, match="lost or changed"):
        check(study, {**announced, 7: 0.5}, 0)
    again = study.trials[0]
    study.add_trial(again)
    with pytest.raises(AssertionError, match=r"proposals \[0\] were made twice"):
        check(study, announced, 0)


# -- Optuna's own repeating of lost trials ----------------------------------------------


def lost_trial(study: optuna.Study) -> optuna.Trial:
    """One of a process that died: it never reports again, and is known to be gone."""
    trial = study.ask()
    suggest(trial, make_space())
    key = "nas_plugins:worker"
    host, pid, _, _ = study._storage.get_trial(trial._trial_id).system_attrs[key]
    study._storage.set_trial_system_attr(trial._trial_id, key, [host, pid, "before", True])
    return trial


def number_of(study: optuna.Study, trial: optuna.Trial) -> int:
    suggest(trial, make_space())
    return study.trials[trial.number].system_attrs["nas_plugins:number"]


def study_in(storage: Any) -> optuna.Study:
    return optuna.create_study(
        storage=storage, sampler=RandomArchitectureSampler(make_space(), seed=0)
    )


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_lost_number_waits_for_the_trial_that_optuna_repeats(tmp_path: Any) -> None:
    study = study_in(open_storage(f"sqlite:///{tmp_path}/study.db"))
    lost = lost_trial(study)
    fresh = optuna.load_study(
        study_name=study.study_name,
        storage=study._storage,
        sampler=RandomArchitectureSampler(make_space(), seed=0),
    )
    assert number_of(fresh, fresh.ask()) == 1  # not 0: the lost one is repeated by Optuna
    fresh._storage.set_trial_state_values(lost._trial_id, TrialState.FAIL)
    assert number_of(fresh, fresh.ask()) == 2  # nor between the failure and the copy
    retry_failed_trial(fresh, fresh.trials[lost.number])
    copy = fresh.ask()
    assert copy.params == lost.params
    assert number_of(fresh, copy) == 0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_lost_number_is_free_when_nobody_repeats_the_trial(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its first heartbeat, say: Optuna never notices."""
    study = study_in(open_storage(f"sqlite:///{tmp_path}/study.db"))
    lost_trial(study)
    assert number_of(study, study.ask()) == 1
    later = time.monotonic() + 2 * GRACE_S + 1
    monkeypatch.setattr("nas_plugins.optuna.history.time.monotonic", lambda: later)
    assert number_of(study, study.ask()) == 0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_without_a_callback_a_lost_number_is_free_at_once(tmp_path: Any) -> None:
    study = study_in(RDBStorage(f"sqlite:///{tmp_path}/study.db", heartbeat_interval=60))
    lost_trial(study)
    assert number_of(study, study.ask()) == 0


def test_what_a_killed_worker_had_sent_may_arrive_later(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a server: its trial still runs when its death is seen, and then is complete."""
    study = study_in(f"sqlite:///{tmp_path}/study.db")
    lost = lost_trial(study)
    storage, history = study._storage, study.sampler._history  # type: ignore[attr-defined]
    assert history._settling_s == 0  # nobody writes for a dead process here
    history._settling_s = 1.0
    monkeypatch.setattr(
        "nas_plugins.optuna.history.time.sleep",
        lambda seconds: storage.set_trial_state_values(lost._trial_id, TrialState.COMPLETE, [1.0]),
    )
    assert number_of(study, study.ask()) == 1


def test_a_trial_that_is_listed_after_a_later_one_is_read_all_the_same(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Optuna's proxy does when two are created at the same moment."""
    study = study_in(f"sqlite:///{tmp_path}/study.db")
    trials = [study.ask() for _ in range(3)]
    for trial in trials:
        suggest(trial, make_space())
    listed = study._storage.get_all_trials
    hidden = {1}
    other = StudyHistory(study._storage, study._study_id)
    monkeypatch.setattr(
        study._storage,
        "get_all_trials",
        lambda *a, **k: [t for t in listed(*a, **k) if t.number not in hidden],
    )
    study.tell(trials[2], 0.5)
    assert [t.number for t in other.read()] == [2]
    study.tell(trials[0], 0.5)
    assert [t.number for t in other.read()] == [0]
    hidden.clear()
    study.tell(trials[1], 0.5)
    assert [t.number for t in other.read()] == [1]
    fourth = study.ask()
    assert other.number(study.trials[fourth.number]) == 3


def test_a_server_is_known_as_such() -> None:
    assert StudyHistory(GrpcStorageProxy(port=1), 0)._settling_s == 3
    assert StudyHistory(optuna.storages.InMemoryStorage(), 0)._settling_s == 0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_copy_of_a_trial_that_died_before_it_had_compared_takes_another_number(
    tmp_path: Any,
) -> None:
    """Its process had written a number that another had as well, and nothing more."""
    study = study_in(open_storage(f"sqlite:///{tmp_path}/study.db"))
    assert number_of(study, study.ask()) == 0
    died = study.ask()
    study._storage.set_trial_system_attr(died._trial_id, "nas_plugins:number", 0)
    study._storage.set_trial_state_values(died._trial_id, TrialState.FAIL)
    retry_failed_trial(study, study.trials[died.number])
    copy = study.ask()
    assert study.trials[copy.number].system_attrs["nas_plugins:number"] == 0
    taken = number_of(study, copy)
    assert taken == 2  # 1 is left for the other, should it give way as well
    assert number_of(study, copy) == taken
    assert number_of(study, study.ask()) == 1


# -- numbers ----------------------------------------------------------------------------


def test_who_meets_another_number_takes_the_next(tmp_path: Any) -> None:
    """A worker that read before another wrote, and writes after it."""
    url = f"sqlite:///{tmp_path}/study.db"
    first = study_in(url)
    second = optuna.load_study(
        study_name=first.study_name,
        storage=url,
        sampler=RandomArchitectureSampler(make_space(), seed=0),
    )
    early, late = first.ask(), second.ask()
    history = first.sampler._history_of(first)
    history.read()
    free_number = history._free_number

    def meanwhile(*args: Any, **keywords: Any) -> int:
        number = free_number(*args, **keywords)
        if not keywords:  # the other has not seen this trial begin, and takes the same
            second._storage.set_trial_system_attr(late._trial_id, "nas_plugins:number", number)
        return number

    history._free_number = meanwhile
    frozen = first._storage.get_trial(early._trial_id)
    assert history.number(frozen) == 1
    stored = [t.system_attrs["nas_plugins:number"] for t in first.get_trials()]
    assert stored == [1, 0]
