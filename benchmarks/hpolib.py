"""Hyper-parameters of fully connected networks, searched in HPOLib's tables.

Klein & Hutter 2019, arXiv:1905.04970: nine hyper-parameters, 62,208 settings, each with its mean
squared error on validation data, here the mean of four trainings. The space is plain: every
hyper-parameter is a choice, and nothing is known of what it means. Columns are the lowest error
found so far over the lowest of the table, mean over the searches.

    python -m benchmarks.hpolib --table fcnet_final.npz --samplers predictor,tpe,optuna_random
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import optuna
from ConfigSpace import Categorical, ConfigurationSpace

from benchmarks.report import add_json, report
from benchmarks.samplers import NAMES, make_sampler
from nas_plugins import SearchSpace
from nas_plugins.optuna import suggest

AT = (25, 50, 75, 100)
TABLES = (
    "naval_propulsion",
    "parkinsons_telemonitoring",
    "protein_structure",
    "slice_localization",
)


def search(seed: int, *, path: str, table: str, sampler: str) -> list[float]:
    """Lowest error over the table's after each of so many trainings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with np.load(path, allow_pickle=False) as file:
        choices = dict(json.loads(str(file["choices_json"])))
        errors = file[f"{table}_valid_mse"].astype(float).mean(1)
    space = SearchSpace(
        ConfigurationSpace({label: Categorical(label, items) for label, items in choices.items()})
    )
    shape = [len(items) for items in choices.values()]

    def objective(trial: optuna.Trial) -> float:
        setting = suggest(trial, space)
        at = [items.index(setting[label]) for label, items in choices.items()]
        return float(errors[np.ravel_multi_index(at, shape)])

    study = optuna.create_study(sampler=make_sampler(sampler, space, seed))
    study.optimize(objective, n_trials=AT[-1])
    found = np.minimum.accumulate([trial.value for trial in study.trials]) / errors.min()
    return [float(found[number - 1]) for number in AT]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hpolib",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", required=True, help="the four tables as .npz")
    parser.add_argument("--samplers", default="predictor,tpe", help=f"some of {','.join(NAMES)}")
    parser.add_argument("--seeds", type=int, default=12, help="searches each (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for table in TABLES:
            for sampler in arguments.samplers.split(","):
                one = partial(search, path=arguments.table, table=table, sampler=sampler)
                found = np.array(list(pool.map(one, range(arguments.seeds))))
                means = {f"after_{n}": round(m, 3) for n, m in zip(AT, found.mean(0), strict=True)}
                rows.append({"table": table, "sampler": sampler, **means, "seeds": len(found)})
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
