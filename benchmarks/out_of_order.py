"""Strategies that are told out of order: four trials at once, in NNI and in HpBandSter.

Every trial is a process that sleeps for a random while and then looks its cell up in
NAS-Bench-201's table, so results overtake each other. Nothing may be lost, and every score has
to stand with the cell that earned it. What a strategy then makes of it is compared with the same
strategy told one result after the other.

    python -m benchmarks.out_of_order --table nb201.npz --hosts nni,hpbandster --workers 4 \
        --strategies regularized_evolution,reinforce,random --trials 100
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas_plugins import Architecture, SearchSpace

SPACE = "nas_bench_201"
OPTIONS: dict[str, dict[str, Any]] = {
    "regularized_evolution": {"population_size": 10, "sample_size": 3}
}


@dataclass(frozen=True)
class Outcome:
    """What a host has stored of one trial: when it was proposed and told, and what it says."""

    proposed: float
    told: float
    architecture: Architecture
    score: float | None


@dataclass(frozen=True)
class Lookup:
    """Sleeps, then gives an architecture's reward; loads no framework."""

    path: str
    longest_s: float

    def __call__(self, architecture: Architecture, budget: object = None) -> float:
        time.sleep(random.random() * self.longest_s)
        return _rewards(self.path)[architecture.id]


@cache
def _rewards(path: str) -> dict[str, float]:
    rewards: dict[str, float] = json.loads(Path(path).read_text("utf-8"))
    return rewards


# -- hosts ----------------------------------------------------------------------------------


def run_nni(
    space: SearchSpace, strategy: str, lookup: Lookup, num: int, workers: int, folder: Path
) -> tuple[list[Outcome], str]:
    """An experiment of nnictl; also how many rows of NNI's own table are right."""
    from nas_plugins.nni import records, write_config
    from nas_plugins.nni.metric import architecture_in, score_in

    trial = [sys.executable, "-m", "benchmarks.out_of_order", "--trial", lookup.path]
    config = write_config(
        space,
        folder / "config",
        strategy=strategy,
        strategy_options=OPTIONS.get(strategy),
        max_trials=num,
        trial_concurrency=workers,
        trial_command=" ".join([*trial, "--longest-s", str(lookup.longest_s)]),
    )
    with _experiment(config, folder) as directory:
        trials, _ = records.read(directory)
    found, right = [], 0
    for number, row in enumerate(trials):
        architecture = Architecture(architecture_in(row.value) or row.parameters)
        right += architecture == Architecture(row.parameters)
        found.append(Outcome(number, row.reported or 0, architecture, score_in(row.value)))
    return found, f"{right}/{len(trials)}"


@contextmanager
def _experiment(config: Path, home: Path) -> Iterator[Path]:
    """Run an experiment to its end, in a home of its own; its directory."""
    nnictl = str(Path(sys.executable).with_name("nnictl"))
    root = Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(root),
        "NODE_OPTIONS": f"--require {config.with_name('loopback.cjs')}",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [nnictl, "create", "--config", str(config), "--port", str(port)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = re.search(r"nnictl stop (\w+)", said.stdout + said.stderr)
    assert found is not None, said.stdout + said.stderr
    try:
        url = f"http://127.0.0.1:{port}/api/v1/nni/check-status"
        while True:
            with urllib.request.urlopen(url, timeout=60) as answer:
                status = json.load(answer)["status"]
            if status == "DONE":
                break
            if status == "ERROR":
                raise RuntimeError(f"the experiment failed; see {home}/nni-experiments/*/log")
            time.sleep(0.5)
        yield home / "nni-experiments" / found[1]
    finally:
        subprocess.run([nnictl, "stop", "--all"], env=environment, capture_output=True, check=False)


def run_hpbandster(
    space: SearchSpace, strategy: str, lookup: Lookup, num: int, workers: int, folder: Path
) -> tuple[list[Outcome], str]:
    """Every architecture once, at the full budget."""
    from nas_plugins.hpbandster import run

    result = run(
        space,
        strategy=strategy,
        strategy_options=OPTIONS.get(strategy),
        schedule="full",
        num_iterations=num,
        num_workers=workers,
        evaluate=lookup,
    )
    runs = result.get_all_runs()
    return [
        Outcome(
            r.time_stamps["submitted"],
            r.time_stamps["finished"],
            Architecture(r.info["architecture"]),
            None if r.loss is None else 1 - r.loss,
        )
        for r in sorted(runs, key=lambda r: r.time_stamps["submitted"])
    ], "-"


HOSTS = {"nni": run_nni, "hpbandster": run_hpbandster}


def run_trial(path: str, longest_s: float) -> None:
    """What one trial of NNI runs."""
    import nni

    from nas_plugins.nni.metric import final_metric

    lookup = Lookup(path, longest_s)
    time.sleep(random.random() * longest_s)  # NNI hands out parameters in the order of asking
    architecture = Architecture(nni.get_next_parameter())
    nni.report_final_result(final_metric(architecture, lookup(architecture)))


# -- comparison -----------------------------------------------------------------------------


def one_by_one(
    space: SearchSpace, strategy: str, rewards: dict[str, float], num: int
) -> list[float]:
    """Rewards of the same strategy, told each before it is asked again."""
    from nas_plugins.strategies import create

    made = create(strategy, space, **OPTIONS.get(strategy, {}))
    found = []
    for number in range(num):
        architecture = made.ask(number)
        found.append(rewards[architecture.id])
        made.tell(architecture, found[-1])
    return found


def row_of(
    host: str, strategy: str, found: Sequence[Outcome], own: str, alone: list[float], lookup: Lookup
) -> dict[str, Any]:
    """What to show of a search; ``overtaken`` are trials that a later one ended before."""
    rewards, num = _rewards(lookup.path), len(alone)
    scores = [outcome.score for outcome in found if outcome.score is not None]
    wrong = [
        o for o in found if o.score is not None and abs(rewards[o.architecture.id] - o.score) > 1e-6
    ]
    told = [outcome.told for outcome in found]
    quarter = num // 4
    return {
        "host": host,
        "strategy": strategy,
        "lost": num - len(scores),
        "wrong": len(wrong),
        "own_table_right": own,
        "overtaken": sum(told[i] > min(told[i:]) for i in range(len(told))),
        "best": round(max(scores), 2),
        "first_quarter": round(float(np.mean(scores[:quarter])), 2),
        "last_quarter": round(float(np.mean(scores[-quarter:])), 2),
        "best_alone": round(max(alone), 2),
        "last_quarter_alone": round(float(np.mean(alone[-quarter:])), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.out_of_order",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", help="NAS-Bench-201 as .npz")
    parser.add_argument("--hosts", default=",".join(HOSTS), help="(%(default)s)")
    parser.add_argument("--strategies", default="regularized_evolution,reinforce,random")
    parser.add_argument("--trials", type=int, default=100, help="each (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="at once (%(default)s)")
    parser.add_argument("--longest-s", type=float, default=0.5, help="of a trial (%(default)s)")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    from benchmarks.report import add_json, report

    add_json(parser)
    arguments = parser.parse_args()
    if arguments.trial is not None:
        run_trial(arguments.trial, arguments.longest_s)
        return
    if arguments.table is None:
        parser.error("--table is needed")
    from nas_plugins import spaces
    from nas_plugins.estimators.tabular import TabularNB201

    space, table = spaces.load(SPACE), TabularNB201(arguments.table)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "rewards.json"
        rewards = {a.id: table.query(a).reward for a in space.enumerate()}
        path.write_text(json.dumps(rewards), "utf-8")
        lookup = Lookup(str(path), arguments.longest_s)
        for strategy in arguments.strategies.split(","):
            alone = one_by_one(space, strategy, rewards, arguments.trials)
            for host in arguments.hosts.split(","):
                home = folder / f"{host}-{strategy}"
                home.mkdir()
                found, own = HOSTS[host](
                    space, strategy, lookup, arguments.trials, arguments.workers, home
                )
                rows.append(row_of(host, strategy, found, own, alone, lookup))
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
