"""The same search through every storage, in one process and in several."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.kill9_optuna import compare, make_space, value_of
from nas_plugins.optuna import RegularizedEvolutionSampler, architecture_of, suggest

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE = make_space()


@pytest.fixture(params=["sqlite", "journal", "grpc"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    elif request.param == "journal":
        yield JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    else:
        pytest.importorskip("grpc", reason="Optuna's gRPC storage needs grpcio")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        behind = optuna.storages.get_storage(f"sqlite:///{tmp_path}/study.db")
        threading.Thread(
            target=optuna.storages.run_grpc_proxy_server,
            kwargs={"storage": behind, "host": "127.0.0.1", "port": port},
            daemon=True,
        ).start()
        proxy = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
        proxy.wait_server_ready(timeout=120)
        yield proxy
        proxy.close()


def run(storage: Any, n_trials: int, **keywords: Any) -> optuna.Study:
    study = optuna.create_study(
        study_name="s",
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        sampler=RegularizedEvolutionSampler(SPACE, seed=0, population_size=5, sample_size=2),
    )
    study.optimize(lambda trial: value_of(suggest(trial, SPACE)), n_trials=n_trials, **keywords)
    return study


def facts(study: optuna.Study) -> list[Any]:
    return [(architecture_of(trial, SPACE), trial.value) for trial in study.trials]


@pytest.mark.host
def test_same_search_as_in_memory_also_after_a_restart(storage: Any) -> None:
    run(storage, 8)
    study = run(storage, 7)  # another sampler, another study object
    assert facts(study) == facts(run(None, 15))


@pytest.mark.host
def test_threads_share_a_storage(storage: Any) -> None:
    study = run(storage, 12, n_jobs=2)
    numbers = [trial.system_attrs["nas_plugins:number"] for trial in study.trials]
    assert sorted(numbers) == list(range(12))


WORKER = """
import os, sys, time
from benchmarks.kill9_optuna import work
from pathlib import Path
path = Path(sys.argv[1])
path.with_suffix(f".{os.getpid()}").touch()
while len(list(path.parent.iterdir())) < 2:  # else one may do it all before the other begins
    time.sleep(0.01)
work("journal", path, int(sys.argv[2]))
"""


@pytest.mark.host
def test_processes_share_a_study(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    command = [sys.executable, "-c", WORKER, str(path), "60"]
    nothing = subprocess.DEVNULL
    workers = [subprocess.Popen(command, stdin=nothing, stdout=nothing) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    study = optuna.load_study(
        study_name="killed", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    numbers = [trial.system_attrs["nas_plugins:number"] for trial in study.trials]
    assert sorted(numbers) == list(range(len(numbers)))
    pids = {trial.system_attrs["nas_plugins:worker"][1] for trial in study.trials}
    assert len(pids) == 2


@pytest.mark.host
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_killed_again_and_again(kind: str, tmp_path: Path) -> None:
    row = compare(kind, 20, 3, 0, tmp_path)
    assert row["same_as_unbroken"]
    assert (row["kills"], row["complete"]) == (3, 20)


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_killed_twenty_times(kind: str, tmp_path: Path) -> None:
    row = compare(kind, 200, 20, 0, tmp_path)
    assert row["same_as_unbroken"]
    assert (row["kills"], row["complete"]) == (20, 200)
