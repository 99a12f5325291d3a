"""Immediate regret against simulated seconds, for strategies beside the hosts' own searches.

Replayed on the tables of :mod:`benchmarks.hpo_tables`; the searches are named in
:mod:`benchmarks.hpo_searches`. The incumbent is what has the best score at full length of what a
search trained; its regret is how much worse its mean is than the best of the table. Looked at
after so many seconds as that many full trainings of median length take. A name may have its own
number of seeds, ``gp:20``. In a file that exists the rows of other searches are kept.

    python -m benchmarks.regret --table fcnet_final.npz --searches random,tpe,gp:20 --json FILE
    python -m benchmarks.regret --table nb201.npz --datasets cifar10 \
        --searches random,hpbandster_bohb,hyperband+proportional_improvement --json FILE

``benchmarks.pictures`` draws what ``--json`` wrote, ``--sooner FILE`` compares it.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hpo_searches import Trace, search
from benchmarks.hpo_tables import FCNET, load
from benchmarks.report import report

DEFAULT = "random,regularized_evolution,particle_swarm,radial_basis,predictor,gp,tpe"


def replay(
    seed: int, *, path: str, dataset: str, name: str, at: list[float]
) -> tuple[list[float], float]:
    """Regret at each moment, NaN before there is an incumbent; and processor seconds."""
    table = load(path, dataset)
    began = time.process_time()
    trace = search(name, table, seed, at[-1] * table.full_s)
    return at_moments(trace, [count * table.full_s for count in at]), time.process_time() - began


def at_moments(trace: Trace, moments: list[float]) -> list[float]:
    """Regret of the incumbent at some seconds."""
    times = [seconds for seconds, _ in trace]
    regrets = [float("nan"), *(regret for _, regret in trace)]
    return [regrets[int(np.searchsorted(times, moment, side="right"))] for moment in moments]


def row_of(dataset: str, name: str, at: list[float], found: np.ndarray) -> dict[str, Any]:
    """Median over seeds where at least half have an incumbent, a search without one last."""
    row: dict[str, Any] = {"dataset": dataset, "search": name, "seeds": len(found)}
    worst = np.nan_to_num(found, nan=np.inf)
    for label, share in (("median", 0.5), ("quarter", 0.25), ("three_quarters", 0.75)):
        values = np.quantile(worst, share, axis=0, method="inverted_cdf")
        row[label] = [float(f"{v:.3g}") if np.isfinite(v) else None for v in values]
    return {**row, "at": at}


def sooner(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How much sooner than random search each median is where random search ends.

    Between moments both logarithms are taken to change evenly.
    """
    found = []
    for row in rows:
        random = next(r for r in rows if (r["dataset"], r["search"]) == (row["dataset"], "random"))
        goal, at = random["median"][-1], row["at"]
        regrets = [np.inf if value is None else value for value in row["median"]]
        first = next((i for i, regret in enumerate(regrets) if regret <= goal), None)
        factor = None
        if first is not None:
            when = at[first]
            if first > 0 and 0 < regrets[first] < goal < regrets[first - 1] < np.inf:
                logs = np.log([regrets[first], regrets[first - 1]])
                when = np.exp(np.interp(np.log(goal), logs, np.log([when, at[first - 1]])))
            factor = round(float(at[-1] / when), 1)
        found.append({**{k: row[k] for k in ("dataset", "search", "seeds")}, "sooner": factor})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.regret",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", help="FC-Net or NAS-Bench-201 as .npz")
    parser.add_argument("--sooner", type=Path, metavar="FILE", help="compare what --json wrote")
    parser.add_argument("--searches", default=DEFAULT, help="(%(default)s)")
    parser.add_argument("--datasets", default=",".join(FCNET), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=50, help="searches each (%(default)s)")
    parser.add_argument(
        "--at", default="2,3,5,8,13,20,32,50,70,100", help="full trainings (%(default)s)"
    )
    parser.add_argument("--processes", type=int, default=2, help="at a time (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    arguments = parser.parse_args()
    if arguments.sooner is not None:
        report(sooner(json.loads(arguments.sooner.read_text(encoding="utf-8"))), None)
        return
    at = [float(count) for count in arguments.at.split(",")]
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for dataset in arguments.datasets.split(","):
            for entry in arguments.searches.split(","):
                name, _, own = entry.partition(":")
                run = partial(replay, path=arguments.table, dataset=dataset, name=name, at=at)
                results = list(pool.map(run, range(int(own or arguments.seeds))))
                found = np.array([regrets for regrets, _ in results])  # (seeds, moments)
                row = row_of(dataset, name, at, found)
                row["processor_s"] = round(float(np.mean([spent for _, spent in results])), 2)
                rows.append(row)
                print(dataset, name, row["median"], row["processor_s"], flush=True)
                if arguments.json is not None:
                    write(rows, arguments.json)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Rows to a file, a line each; what it has of the same searches is replaced."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    merged = {(row["dataset"], row["search"]): row for row in [*kept, *rows]}
    lines = ",\n".join(json.dumps(row) for row in merged.values())
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
