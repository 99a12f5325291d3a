"""A study's trials read as a history, a few at a time, and the numbers of its proposals."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState

from nas_plugins.optuna.worker import Worker

__all__ = ["NUMBER", "StudyHistory", "completion_order"]

NUMBER = "nas_plugins:number"
"""System attribute of a trial: which proposal of the study it holds."""

_WORKER = "nas_plugins:worker"
_FAILED = "nas_plugins:failed"

_SETTLING_S = 3.0


class StudyHistory:
    """Cursor over the trials of one study, and the book of proposal numbers.

    A trial that is sampled takes a *number*, the smallest that no other trial holds, and
    keeps it in a system attribute that its own worker alone writes; a study attribute would
    lose concurrent updates. A trial that ended holds its number for ever. A trial that is
    running holds it while its process lives: when the process was killed, the number is
    free, and whoever samples next asks the lost proposal again. Only where Optuna itself is to
    repeat such trials (a heartbeat with a retry callback), the number is kept for its copy,
    and is free when none has come in time.

    That presumes the process runs the trial to its end, as ``study.optimize`` does. A trial
    from ``study.ask`` may be told by another process, and holds its number until it is.

    What a process sent before it was killed may still be on its way through a server, the end of
    its trial among it. Where there is one, a death is waited out for a moment when it is
    first seen, and the trial is read again.

    Reading costs the trials that are new or were not finished before, not the whole history
    (beyond what the storage itself spends).

    Args:
        storage: The study's storage.
        study_id: The study's key in it.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id
        self._num_seen = 0
        self._unread: list[FrozenTrial] = []
        self._open: dict[int, FrozenTrial] = {}  # not finished, by trial number
        self._hidden: set[int] = set()  # numbers of trials not listed yet, though later ones were
        self._gone: set[Worker] = set()  # known to have ended, which is final
        self._held: set[int] = set()  # for ever; every number below the floor is as well
        self._floor = 0
        self._patience_s = _time_to_retry(storage)
        waits = not self._patience_s and _is_behind_a_server(storage)
        self._settling_s = _SETTLING_S if waits else 0.0
        self._lost: dict[int, tuple[int, float]] = {}  # trial number: its number, seen lost when
        self._compared: set[int] = set()  # trials of this process whose number is theirs alone

    def is_of(self, storage: BaseStorage, study_id: int) -> bool:
        return storage is self._storage and study_id == self._study_id

    def read(self) -> list[FrozenTrial]:
        """Trials that finished since the last call, in order of completion."""
        self._refresh()
        finished, self._unread = self._unread, []
        return sorted(finished, key=completion_order)

    def _refresh(self) -> None:
        for trial in list(self._changed()):
            self._num_seen = max(self._num_seen, trial.number + 1)
            if not trial.state.is_finished():
                self._open[trial.number] = trial
                continue
            self._open.pop(trial.number, None)
            # Failed by another than its own worker (a stale heartbeat): it never happened. A trial
            # of study.ask may be told by anybody.
            if trial.state is not TrialState.FAIL or _has_failed(trial):
                self._unread.append(trial)
                self._hold(trial.system_attrs.get(NUMBER))
            else:
                self._lose(trial)

    def sign(self, trial: FrozenTrial, *, to_the_end: bool) -> None:
        """Note that this process works on a trial.

        Args:
            trial: Running.
            to_the_end: Whether nobody but this process will finish it.
        """
        here = Worker.here()
        self._set(trial, _WORKER, [here.host, here.pid, here.started, to_the_end])

    def sign_failure(self, trial: FrozenTrial) -> None:
        """Note that a trial is about to fail by what happened in it."""
        self._set(trial, _FAILED, True)

    def number_held(self, trial: FrozenTrial) -> int | None:
        """The proposal number a trial had when it was last read."""
        known = self._open.get(trial.number)
        return None if known is None else known.system_attrs.get(NUMBER)

    def number(self, trial: FrozenTrial) -> int:
        """The proposal number of a running trial; taken now if it has none.

        Workers that take theirs in the same moment mostly do not meet, because a running trial
        with a smaller trial number is left room for. It can happen all the same when one dies
        or has only begun. So the number is written first and then compared with what the
        others have written: of two with the same number at least the later sees the other, and
        who sees it takes another.

        Optuna's copy of a trial whose process died brings its number along. The process may
        have died before it had compared, so the copy is compared as well, unless it brings
        parameters too, which are that number's proposal.
        """
        held = self.number_held(trial)
        if held is not None and (trial.number in self._compared or trial.params):
            return held
        self._compared.add(trial.number)
        self._see_deaths()
        number = self._free_number(trial.number) if held is None else held
        while True:
            self._set(trial, NUMBER, number)
            if isinstance(self._storage, InMemoryStorage):  # one process, whose sampler locks
                return number
            self._refresh()
            taken, _ = self._taken_by_others(trial.number)
            if number not in taken and not self._is_held(number):
                return number
            number = self._free_number(trial.number, contested=number)

    def num_pending(self, trial: FrozenTrial, number: int) -> int:
        """How many proposals with smaller numbers other trials are at work on."""
        taken, _ = self._taken_by_others(trial.number)
        return sum(other < number for other in taken)

    def _free_number(self, trial_number: int, contested: int | None = None) -> int:
        """The smallest that is free, after one each for trials that come first.

        Args:
            trial_number: Of the trial that needs one.
            contested: What others have taken as well; those of them that come first give it
                up too, and then look for another.
        """
        taken, num_before = self._taken_by_others(trial_number)
        if contested is not None:
            num_before += sum(
                other.number < trial_number and other.system_attrs.get(NUMBER) == contested
                for other in self._open.values()
            )
        number = self._floor
        while self._is_held(number) or number in taken or num_before > 0:
            num_before -= not self._is_held(number) and number not in taken
            number += 1
        return number

    def _see_deaths(self) -> None:
        """Learn which workers have ended, and read their trials once more."""
        workers = {_worker_of(trial)[0] for trial in self._open.values()}
        dead = {worker for worker in workers - self._gone if worker and worker.is_gone()}
        self._gone |= dead
        if dead and self._settling_s:
            time.sleep(self._settling_s)
            self._refresh()

    def _is_held(self, number: int) -> bool:
        return number < self._floor or number in self._held

    def _changed(self) -> Iterator[FrozenTrial]:
        """Trials that are new, or were unfinished when last seen."""
        if not isinstance(self._storage, InMemoryStorage):
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
            # Optuna's proxy lists a trial only after it has answered who created it, which may be
            # after a later one is listed; most of the time all are there.
            end = trials[-1].number + 1 if trials else 0
            by_number = trials if len(trials) == end else {t.number: t for t in trials}
            wanted = [*self._open, *self._hidden, *range(self._num_seen, end)]
            self._hidden = {n for n in wanted if len(trials) < end and n not in by_number}
            yield from (by_number[number] for number in wanted if number not in self._hidden)
            return
        # Its list of all trials is a fresh copy each time: milliseconds in a long study.
        for trial in self._open.values():
            yield self._storage.get_trial(trial._trial_id)
        number = self._num_seen
        while True:
            try:
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(
                    self._study_id, number
                )
            except KeyError:
                return
            yield self._storage.get_trial(trial_id)
            number += 1

    def _hold(self, number: int | None) -> None:
        if number is not None and number >= self._floor:
            self._held.add(number)
            while self._floor in self._held:
                self._held.remove(self._floor)
                self._floor += 1

    def _taken_by_others(self, trial_number: int) -> tuple[set[int], int]:
        """Numbers of unfinished trials, and how many trials before this one need one yet."""
        taken: set[int] = set()
        num_before = 0
        for other in self._open.values():
            if other.number == trial_number:
                continue
            worker, to_the_end = _worker_of(other)
            if NUMBER in other.system_attrs:
                if to_the_end and worker in self._gone:
                    self._lose(other)
                else:
                    taken.add(other.system_attrs[NUMBER])
            elif worker is not None and other.number < trial_number:
                num_before += worker not in self._gone
        latest = time.monotonic() - self._patience_s
        taken.update(number for number, since in self._lost.values() if since > latest)
        return taken, num_before

    def _lose(self, trial: FrozenTrial) -> None:
        """Keep the number of a trial whose process died, if Optuna will repeat the trial."""
        number = trial.system_attrs.get(NUMBER)
        if self._patience_s and number is not None:
            self._lost.setdefault(trial.number, (number, time.monotonic()))

    def _set(self, trial: FrozenTrial, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial._trial_id, key, value)
        if trial.number in self._open:
            known = self._open[trial.number] = copy.copy(self._open[trial.number])
            known.system_attrs = {**known.system_attrs, key: value}


def _has_failed(trial: FrozenTrial) -> bool:
    """Whether a failed trial was told to have, and not given up as lost."""
    *_, to_the_end = trial.system_attrs.get(_WORKER, [True])
    return _FAILED in trial.system_attrs or not to_the_end


def _time_to_retry(storage: BaseStorage) -> float:
    """Seconds after which a trial whose process died has been repeated; 0 without retries."""
    if not isinstance(storage, BaseHeartbeat):
        return 0.0
    interval = storage.get_heartbeat_interval()
    # Its name changed in Optuna 4.9.
    callback = getattr(storage, "get_heartbeat_stale_trial_callback", None)
    callback = callback or storage.get_failed_trial_callback
    if interval is None or callback() is None:
        return 0.0
    grace = getattr(getattr(storage, "_backend", storage), "grace_period", None)
    return 2.0 * (grace or 2 * interval)


def _is_behind_a_server(storage: BaseStorage) -> bool:
    """Whether what a process writes is carried out by another one."""
    if isinstance(storage, GrpcStorageProxy):
        return True
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)
    return engine is not None and engine.dialect.name != "sqlite"


def completion_order(trial: FrozenTrial) -> tuple[datetime, int]:
    """Key by which trials are told: time of completion, then number."""
    assert trial.datetime_complete is not None
    return trial.datetime_complete, trial.number


def _worker_of(trial: FrozenTrial) -> tuple[Worker | None, bool]:
    """Who runs a trial, and whether to its end; a retried one that waits has nobody yet."""
    entry = trial.system_attrs.get(_WORKER)
    if entry is None or trial.state is not TrialState.RUNNING:
        return None, False
    host, pid, started, to_the_end = entry
    return Worker(host, pid, started), to_the_end
