"""Many processes on one study, in PostgreSQL or behind Optuna's gRPC proxy, killed at random.

Whatever happens to the workers, nothing that one of them finished may be lost, and no proposal
may be made twice. With PostgreSQL, Optuna's heartbeat fails the trials of dead workers and
enqueues them again; behind the proxy there is no heartbeat, and the sampler itself makes the
lost proposals again.

    python -m benchmarks.scale_optuna --workers 16 --trials 2000 --kills 30

Rows of other strategies that a file of ``--json`` has are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import GrpcStorageProxy, RDBStorage
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

from benchmarks.kill9_optuna import make_space, value_of
from benchmarks.postgres import server
from benchmarks.report import add_json, known, merged, report, write
from benchmarks.samplers import make_sampler
from nas_plugins import strategies
from nas_plugins.optuna import architecture_of, suggest

STORAGES = ("postgresql", "grpc")
HEARTBEAT_S = 3
GRACE_S = 15  # a worker that is only slow for so long fails: study.optimize raises in it
NUMBER = "nas_plugins:number"

_RENAMED = hasattr(optuna.storages, "RetryHeartbeatStaleTrialCallback")  # in Optuna 4.9


def retry_failed_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueue a trial again whose worker died."""
    name = "RetryHeartbeatStaleTrialCallback" if _RENAMED else "RetryFailedTrialCallback"
    getattr(optuna.storages, name)()(study, trial)


def open_storage(address: str) -> Any:
    """Storage at a database URL, or behind the proxy at ``grpc://host:port``."""
    if address.startswith("grpc://"):
        host, _, port = address.removeprefix("grpc://").partition(":")
        proxy = GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=60)
        return proxy
    name = "heartbeat_stale_trial_callback" if _RENAMED else "failed_trial_callback"
    return RDBStorage(
        address,
        heartbeat_interval=HEARTBEAT_S,
        grace_period=GRACE_S,
        **{name: retry_failed_trial},
    )


def work(address: str, strategy: str, num_trials: int, log: Path) -> None:
    """What each process runs until so many trials are complete."""
    space = make_space()
    study = optuna.load_study(
        study_name=strategy,
        storage=open_storage(address),
        sampler=make_sampler(strategy, space, seed=0),
    )

    def objective(trial: optuna.Trial) -> float:
        began = time.perf_counter()
        _ = trial.relative_params  # reads the history and asks the strategy
        trial.set_user_attr("ask_ms", 1000 * (time.perf_counter() - began))
        return value_of(suggest(trial, space))

    def announce(study: optuna.Study, trial: FrozenTrial) -> None:
        with log.open("a") as file:  # what a worker says here, the study has to keep
            file.write(f"{trial.number} {trial.value!r}\n")

    enough = MaxTrialsCallback(num_trials, states=(TrialState.COMPLETE,))
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < num_trials:
        study.optimize(objective, callbacks=[announce, enough])


class Workers:
    """Processes on one study, some of which are killed and replaced."""

    def __init__(self, address: str, strategy: str, num_trials: int, folder: Path) -> None:
        self._arguments = [address, strategy, str(num_trials)]
        self._folder = folder
        self._started = 0
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        log = self._folder / f"{self._started}.log"
        self._started += 1
        command = [sys.executable, "-m", "benchmarks.scale_optuna", "--work"]
        self.running.append(subprocess.Popen([*command, *self._arguments, str(log)]))

    def kill(self, rng: random.Random) -> None:
        victim = self.running.pop(rng.randrange(len(self.running)))
        victim.kill()
        victim.wait()
        self.start()

    def finish(self) -> None:
        failures = [p.returncode for p in self.running if p.wait() != 0]
        if failures:
            raise RuntimeError(f"workers ended with {failures}")

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()

    def announced(self) -> dict[int, float]:
        """Trial number to value, of all trials a worker saw completed."""
        lines = [
            line
            for log in self._folder.glob("*.log")
            for line in log.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return {int(number): float(value) for number, value in map(str.split, lines)}


def search(
    address: str, strategy: str, *, workers: int, trials: int, kills: int, seed: int
) -> dict[str, Any]:
    """One study by many workers; what it came to.

    Raises:
        AssertionError: Something was lost or done twice.
    """
    rng = random.Random(seed)
    storage = open_storage(address)
    study = optuna.create_study(study_name=strategy, storage=storage, direction="maximize")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        crew = Workers(address, strategy, trials, Path(folder))
        try:
            for _ in range(workers):
                crew.start()
            # Not in the last tenth: a killed worker's trial shall have the time to be repeated.
            for moment in sorted(rng.randrange(trials * 9 // 10) for _ in range(kills)):
                while _num_complete(study) <= moment:
                    time.sleep(0.05)
                crew.kill(rng)
            crew.finish()
        finally:
            crew.stop()
        seconds = time.perf_counter() - began
        announced = crew.announced()
    found = check(study, announced, kills)
    return {"strategy": strategy, "workers": workers, **found, "seconds": round(seconds, 1)}


def _num_complete(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def check(study: optuna.Study, announced: dict[int, float], kills: int) -> dict[str, Any]:
    """Compare what is stored with what workers saw, and proposal with proposal.

    Raises:
        AssertionError: Something was lost or done twice.
    """
    found = study.get_trials(deepcopy=False)
    assert [trial.number for trial in found] == list(range(len(found)))
    complete = [trial for trial in found if trial.state is TrialState.COMPLETE]
    stored = {trial.number: trial.value for trial in complete}
    assert announced.items() <= stored.items(), "a completed trial was lost or changed"
    numbers = Counter(trial.system_attrs[NUMBER] for trial in complete)
    twice = [number for number, times in numbers.items() if times > 1]
    assert not twice, f"proposals {twice} were made twice"
    # Of the last that were lost, or given up by two at once, nobody may be left to make them.
    gaps = max(numbers) + 1 - len(numbers)
    assert gaps <= kills + 1, f"{gaps} proposals were not made again"
    retried = [t for t in complete if "failed_trial" in t.system_attrs]
    space = make_space()
    assert all(architecture_of(trial, space) in space for trial in complete)
    asks = [trial.user_attrs["ask_ms"] for trial in complete]
    tenth = max(1, len(asks) // 10)
    return {
        "complete": len(complete),
        "kills": kills,
        "lost while running": len(found) - len(complete),
        "retried": len(retried),
        "proposals not made again": gaps,
        "ask_ms, first tenth": round(_median(asks[:tenth]), 2),
        "ask_ms, last tenth": round(_median(asks[-tenth:]), 2),
    }


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


@contextlib.contextmanager
def proxied(url: str) -> Iterator[str]:
    """Address of Optuna's gRPC proxy before a database, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.scale_optuna", "--serve", url, str(port)]
    process = subprocess.Popen(command)
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def serve(url: str, port: int) -> None:
    storage = optuna.storages.get_storage(url)
    optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=port)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_optuna",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every = ",".join(strategies.REGISTRY)
    parser.add_argument("--storages", default=",".join(STORAGES), help="(%(default)s)")
    parser.add_argument("--strategies", default=every, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=16, help="processes (%(default)s)")
    parser.add_argument("--trials", type=int, default=2000, help="completed (%(default)s)")
    parser.add_argument("--kills", type=int, default=30, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the kills (%(default)s)")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    add_json(parser)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if arguments.work is not None:
        address, strategy, num_trials, log = arguments.work
        work(address, strategy, int(num_trials), Path(log))
        return
    if arguments.serve is not None:
        serve(arguments.serve[0], int(arguments.serve[1]))
        return
    rows = known(arguments.json)
    options = {key: getattr(arguments, key) for key in ("workers", "trials", "kills", "seed")}
    for storage in arguments.storages.split(","):
        for strategy in arguments.strategies.split(","):
            with contextlib.ExitStack() as stack:
                address = stack.enter_context(server())
                if storage == "grpc":
                    address = stack.enter_context(proxied(address))
                row = {"storage": storage, **search(address, strategy, **options)}
            print(json.dumps(row), flush=True)
            rows = merged(rows, [row], ("storage", "strategy"))
            write(rows, arguments.json)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
