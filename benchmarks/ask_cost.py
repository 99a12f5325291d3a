"""Milliseconds that a sampler takes for an ask, by the number of past trials.

An ask is one trial of the NAS-Bench-201 space: created, its six parameters suggested, and
told. Storage is memory, filled beforehand with finished trials; ``optuna_random`` computes
next to nothing, so its row is what Optuna and the storage take themselves. ``first_ms`` is
the first ask, in which a sampler may read the whole history.

    python -m benchmarks.ask_cost --samplers regularized_evolution,optuna_random,tpe \
        --sizes 100,1000,10000,100000
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import optuna
from ConfigSpace import ConfigurationSpace
from optuna.trial import create_trial

from benchmarks.report import add_json, report
from benchmarks.samplers import NAMES, make_sampler
from nas_plugins import SearchSpace
from nas_plugins.optuna import distributions, suggest

OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
EDGES = ["1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2"]


def make_space() -> SearchSpace:
    """NAS-Bench-201's decisions, without its network."""
    return SearchSpace(ConfigurationSpace({f"cell/{edge}": OPERATIONS for edge in EDGES}))


def filled_study(space: SearchSpace, num_trials: int) -> optuna.Study:
    """A study in memory with so many finished trials."""
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(0)
    parameters = distributions(space)
    for _ in range(num_trials):
        # Past study.add_trial, which reads the study once more for each.
        study._storage.create_new_trial(
            study._study_id,
            create_trial(
                params=dict(space.sample(rng)), distributions=parameters, value=rng.random()
            ),
        )
    return study


def ask(study: optuna.Study, space: SearchSpace) -> float:
    """Milliseconds of one trial."""
    began = time.perf_counter()
    trial = study.ask()
    suggest(trial, space)
    study.tell(trial, 0.5)
    return (time.perf_counter() - began) * 1e3


def measure(study: optuna.Study, space: SearchSpace, asks: int, limit_s: float) -> dict[str, Any]:
    """Median over so many asks, or over those that fit into the time."""
    first = ask(study, space)
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < asks and (not times or time.perf_counter() - began < limit_s):
        times.append(ask(study, space))
    return {
        "ms_per_ask": round(statistics.median(times), 3),
        "first_ms": round(first, 1),
        "asks": len(times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ask_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "regularized_evolution,random,grid,optuna_random,tpe"
    parser.add_argument("--samplers", default=default, help=f"some of {','.join(NAMES)}")
    parser.add_argument("--sizes", default="100,1000,10000,100000", help="past trials")
    parser.add_argument("--asks", type=int, default=100, help="measured each (%(default)s)")
    parser.add_argument(
        "--limit-s", type=float, default=20, help="stop a sampler's asks then (%(default)s)"
    )
    add_json(parser)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = make_space()
    rows = []
    for name in arguments.samplers.split(","):
        for size in (int(size) for size in arguments.sizes.split(",")):
            study = filled_study(space, size)
            study.sampler = make_sampler(name, space, seed=0)
            row = {"sampler": name, "n_trials": size}
            rows.append({**row, **measure(study, space, arguments.asks, arguments.limit_s)})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
