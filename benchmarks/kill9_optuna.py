"""A study whose process is killed with -9 again and again, beside one that is not.

The killed study is simply run again, and has to end as the unbroken one: every proposal
made once, in order, with the same values.

    python -m benchmarks.kill9_optuna --storages sqlite,journal --kills 20 --trials 200
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import optuna
from ConfigSpace import ConfigurationSpace, EqualsCondition
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from benchmarks.report import add_json, report
from nas_plugins import Architecture, SearchSpace
from nas_plugins.optuna import RegularizedEvolutionSampler, architecture_of, suggest

STORAGES = ("sqlite", "journal")
SEED = 0
SECONDS_PER_TRIAL = 0.01


def make_space() -> SearchSpace:
    """Six operations, of which one has a parameter of its own, and a learning rate."""
    config_space = ConfigurationSpace({f"op{i}": ["conv", "pool", "skip"] for i in range(6)})
    other = ConfigurationSpace({"kernel": [3, 5, 7], "learning_rate": (1e-4, 1.0)})
    config_space.add(list(other.values()))
    config_space.add(EqualsCondition(config_space["kernel"], config_space["op0"], "conv"))
    return SearchSpace(config_space)


def value_of(architecture: Architecture) -> float:
    """Improves with every convolution; otherwise rugged, and the same in every process."""
    rugged = zlib.crc32(architecture.to_json().encode()) / 2**32
    return sum(choice == "conv" for choice in architecture.values()) + rugged


def open_study(storage: str, path: Path) -> optuna.Study:
    where: Any = f"sqlite:///{path}"
    if storage == "journal":
        # A process that dies while it holds the lock blocks the next for the grace period.
        lock = JournalFileSymlinkLock(str(path), grace_period=3)
        where = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock))
    return optuna.create_study(
        study_name="killed",
        storage=where,
        sampler=RegularizedEvolutionSampler(
            make_space(), seed=SEED, population_size=8, sample_size=3
        ),
        direction="maximize",
        load_if_exists=True,
    )


def work(storage: str, path: Path, num_trials: int) -> None:
    """What a user runs: the study, until so many trials are complete.

    After each trial it says so and waits for a line, or the end, of its standard input.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = make_space()

    def objective(trial: optuna.Trial) -> float:
        architecture = suggest(trial, space)
        time.sleep(SECONDS_PER_TRIAL)
        return value_of(architecture)

    study = open_study(storage, path)
    print("ready", flush=True)
    enough = optuna.study.MaxTrialsCallback(num_trials, states=(TrialState.COMPLETE,))
    if len(study.get_trials(states=(TrialState.COMPLETE,))) < num_trials:
        study.optimize(objective, callbacks=[enough, _pause])


def _pause(study: optuna.Study, trial: FrozenTrial) -> None:
    print("done", flush=True)
    sys.stdin.readline()


def start(storage: str, path: Path, num_trials: int) -> subprocess.Popen[str]:
    """A process that works on the study, when it is about to begin."""
    command = [sys.executable, "-m", __spec__.name, "--work", str(path)]
    process = subprocess.Popen(
        [*command, "--storages", storage, "--trials", str(num_trials)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if _line(process) != "ready\n":
        raise RuntimeError(f"the worker ended with {process.wait()} before it began")
    return process


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the worker ended with {process.returncode}")


def compare(
    storage: str, num_trials: int, num_kills: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Run both studies.

    Raises:
        AssertionError: Something was lost, doubled or different.
    """
    rng = random.Random(seed)
    unbroken, killed = folder / f"unbroken.{storage}", folder / f"killed.{storage}"
    process = start(storage, unbroken, num_trials)
    began = time.perf_counter()
    finish(process)
    duration = time.perf_counter() - began

    kept: dict[int, tuple[Any, ...]] = {}
    for kills_left in range(num_kills, 0, -1):
        process = start(storage, killed, num_trials)
        # After some trials, and a time in which a trial may get anywhere.
        for _ in range(rng.randint(0, (num_trials - len(kept)) // (kills_left + 1))):
            _line(process)
            print(file=process.stdin, flush=True)
        time.sleep(rng.uniform(0, 1.5 * duration / num_trials))
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with {process.returncode} before it was killed")
        process.kill()
        process.wait()
        now = complete(storage, killed)
        assert kept.items() <= now.items(), "a completed trial was lost or changed"
        kept = now
    finish(start(storage, killed, num_trials))

    assert kept.items() <= complete(storage, killed).items()
    expected, found = (list(complete(storage, path).values()) for path in (unbroken, killed))
    numbers = [number for number, *_ in found]
    assert sorted(numbers) == list(range(num_trials)), "a proposal was lost or doubled"
    assert found == expected, "the killed study took another way"
    study = open_study(storage, killed)
    assert len(study.trials) - num_trials <= num_kills, "more was lost than what was running"
    best = open_study(storage, unbroken).best_value
    assert study.best_value == best
    return {
        "storage": storage,
        "kills": num_kills,
        "complete": len(found),
        "running_when_killed": len(study.trials) - num_trials,
        "best": best,
        "same_as_unbroken": found == expected,
    }


def complete(storage: str, path: Path) -> dict[int, tuple[Any, ...]]:
    """Trial number to proposal number, architecture and value, of completed trials."""

    def facts(trial: FrozenTrial) -> tuple[Any, ...]:
        number = trial.system_attrs["nas_plugins:number"]
        return number, architecture_of(trial, space), trial.value

    space = make_space()
    trials = open_study(storage, path).get_trials(states=(TrialState.COMPLETE,))
    return {trial.number: facts(trial) for trial in trials}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kill9_optuna",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--storages", default=",".join(STORAGES), help="(%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="in a row (%(default)s)")
    parser.add_argument("--trials", type=int, default=200, help="completed (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.storages, arguments.work, arguments.trials)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = []
    for storage in arguments.storages.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(
                compare(storage, arguments.trials, arguments.kills, arguments.seed, Path(folder))
            )
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
