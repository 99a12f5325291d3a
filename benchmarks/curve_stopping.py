"""Early stopping of one objective: epochs saved, and what is stopped that should not have been.

Studies are replayed in random orders from whole trainings that ``benchmarks.early_stopping``
recorded, through Optuna, with learning-curve extrapolation and with Optuna's own pruners:

    python -m benchmarks.curve_stopping --curves benchmarks/results/joint_curves.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from optuna.pruners import BasePruner

from benchmarks.early_stopping import CURVES
from benchmarks.report import add_json, report
from nas_plugins.estimators.learning_curve import CurveModel, Extrapolation
from nas_plugins.optuna import LearningCurvePruner

Curves = Sequence[Sequence[float]]


class Remembering(CurveModel):
    """Extrapolates each beginning of a curve once: a belief knows nothing of the study."""

    beliefs: dict[tuple[float, ...], Remembered] = {}
    seconds: list[float] = []
    ends: tuple[float, ...] = ()

    def extrapolate(self, values: Sequence[float], horizon: int) -> Any:
        key = (*values, float(horizon))
        if key not in self.beliefs:
            started = time.process_time()
            belief = super().extrapolate(values, horizon)
            self.seconds.append(time.process_time() - started)
            self.beliefs[key] = Remembered(belief)
        return self.beliefs[key]


class Remembered:
    """A belief without its samples: all that is asked is whether it exceeds a curve's end."""

    def __init__(self, belief: Extrapolation) -> None:
        self.above = {end: belief.probability_above(end) for end in Remembering.ends}

    def probability_above(self, value: float) -> float:
        return self.above[value]


def rules(horizon: int) -> Mapping[str, Callable[[], BasePruner]]:
    """Pruners of a fresh study; Optuna's with its defaults, ours asking every third epoch."""
    return {
        "none": optuna.pruners.NopPruner,
        "learning curve": lambda: LearningCurvePruner(horizon, interval=3),
        "learning curve, min_epochs 4": lambda: LearningCurvePruner(
            horizon, min_epochs=4, interval=3
        ),
        "MedianPruner": optuna.pruners.MedianPruner,
        "SuccessiveHalvingPruner": optuna.pruners.SuccessiveHalvingPruner,
        "HyperbandPruner": lambda: optuna.pruners.HyperbandPruner(max_resource=horizon),
    }


def replay(curves: Curves, pruner: BasePruner) -> dict[str, float]:
    """A study whose trials are these curves, in this order; counts, and the best that it kept."""
    stopped = wrong = improving = 0
    epochs, best = 0, -np.inf

    def objective(trial: optuna.Trial) -> float:
        nonlocal stopped, wrong, improving, epochs, best
        curve = curves[trial.number]
        better = np.isfinite(best) and curve[-1] > best
        improving += better
        for epoch, value in enumerate(curve, start=1):
            epochs += 1
            trial.report(value, epoch)
            if epoch < len(curve) and trial.should_prune():
                stopped += 1
                wrong += better
                raise optuna.TrialPruned
        best = max(best, curve[-1])
        return curve[-1]

    study = optuna.create_study(
        study_name="replay",  # Hyperband deals trials to brackets by a hash of it
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=pruner,
    )
    study.optimize(objective, n_trials=len(curves))
    return {
        "epochs": epochs,
        "stopped": stopped,
        "wrong": wrong,
        "improving": improving,
        "lost": max(curve[-1] for curve in curves) - best,
    }


def compare(curves: Curves, num_orders: int, seed: int) -> list[dict[str, Any]]:
    """Each rule over the same random orders."""
    horizon = len(curves[0])
    Remembering.ends = tuple(sorted({curve[-1] for curve in curves}))
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(curves)) for _ in range(num_orders)]
    rows = []
    for name, pruner in rules(horizon).items():
        Remembering.seconds.clear()
        found = [replay([curves[i] for i in order], pruner()) for order in orders]
        total = {key: np.array([row[key] for row in found]) for key in found[0]}
        rows.append(
            {
                "rule": name,
                "epochs spent": _share(total["epochs"].sum(), num_orders * len(curves) * horizon),
                "trials stopped": _share(total["stopped"].sum(), num_orders * len(curves)),
                "of those wrongly": _share(total["wrong"].sum(), total["stopped"].sum()),
                "improvements stopped": _share(total["wrong"].sum(), total["improving"].sum()),
                "best lost in": _share((total["lost"] > 0).sum(), num_orders),
                "points lost, mean": round(100 * float(total["lost"].mean()), 3),
                "points lost, worst": round(100 * float(total["lost"].max()), 2),
                "seconds each": _mean(Remembering.seconds),
            }
        )
    return rows


def _mean(seconds: Sequence[float]) -> float | None:
    """Of new beliefs; a rule that asked for none took no time."""
    return round(sum(seconds) / len(seconds), 2) if seconds else None


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curve_stopping",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--curves", type=Path, default=CURVES, help="to replay (%(default)s)")
    parser.add_argument("--orders", type=int, default=100, help="replays (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the orders (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trainings = json.loads(arguments.curves.read_text(encoding="utf-8"))
    curves = [training["accuracies"] for training in trainings]
    with patch("nas_plugins.optuna.learning_curve.CurveModel", Remembering):
        rows = compare(curves, arguments.orders, arguments.seed)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
