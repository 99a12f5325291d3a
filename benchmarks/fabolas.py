"""Time to the best of full data: FABOLAS beside Bayesian optimisation without shares.

A multi-layer perceptron of scikit-learn on its digits, four hyper-parameters. FABOLAS trains on
shares of the data, plain Bayesian optimisation and random search on all of it; seconds are
those of the processor in training. After each training stands what its incumbent reaches on
all data. The optimum is the best that any of the runs saw.

    python -m benchmarks.fabolas --seeds 5 --json FILE
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace, Float
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from benchmarks.report import add_json, report
from nas_plugins import Architecture, SearchSpace
from nas_plugins.strategies import create

STRATEGIES = ("fabolas", "gp", "random")
Curve = list[tuple[float, float]]
"""Seconds so far and accuracy of the incumbent on all data."""


def make_space(shares: bool) -> SearchSpace:
    space = ConfigurationSpace(
        {"hidden": (8, 256), "learning_rate": Float("learning_rate", (1e-5, 1e-1), log=True)}
    )
    space.add(Float("alpha", (1e-7, 1e-1), log=True), Float("momentum", (0.5, 0.99)))
    if shares:
        space.add(Float("data_fraction", (1 / 64, 1.0), log=True))
    return SearchSpace(space)


class Digits:
    """Trains on a share of the data; the same arguments are trained once."""

    def __init__(self) -> None:
        x, y = load_digits(return_X_y=True)
        self._parts = train_test_split(x / 16, y, test_size=600, random_state=0, stratify=y)
        self._known: dict[tuple[Architecture, float], tuple[float, float]] = {}

    def train(self, architecture: Architecture, share: float) -> tuple[float, float]:
        """Validation accuracy and seconds."""
        if (architecture, share) not in self._known:
            x, x_valid, y, y_valid = self._parts
            num = max(20, round(share * len(x)))
            network = MLPClassifier(
                hidden_layer_sizes=(architecture["hidden"],),
                learning_rate_init=architecture["learning_rate"],
                alpha=architecture["alpha"],
                momentum=architecture["momentum"],
                solver="sgd",
                batch_size=20,
                max_iter=40,
                random_state=0,
            )
            began = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                network.fit(x[:num], y[:num])
            seconds = time.process_time() - began
            self._known[architecture, share] = float(network.score(x_valid, y_valid)), seconds
        return self._known[architecture, share]


def search(name: str, digits: Digits, seed: int, seconds: float) -> Curve:
    """A search until its trainings took so many seconds."""
    strategy: Any = create(name, make_space(name == "fabolas"), seed=seed)
    curve: Curve = []
    spent, best = 0.0, (0.0, None)
    while spent < seconds:
        architecture = strategy.ask()
        plain = Architecture({k: v for k, v in architecture.items() if k != "data_fraction"})
        accuracy, took = digits.train(plain, architecture.get("data_fraction", 1.0))
        spent += took
        if name == "fabolas":
            strategy.tell(architecture, (accuracy, -took))
            if not strategy.has_model:
                continue
            chosen = strategy.recommend()
            plain = Architecture({k: v for k, v in chosen.items() if k != "data_fraction"})
            accuracy, _ = digits.train(plain, 1.0)  # judged, not paid for
            curve.append((spent, accuracy))
            continue
        strategy.tell(architecture, accuracy)
        best = max(best, (accuracy, None), key=lambda pair: pair[0])
        curve.append((spent, best[0]))
    return curve


def time_to(curve: Curve, accuracy: float) -> float | None:
    """Seconds after which the incumbent is that good and stays so."""
    for i, (seconds, _) in enumerate(curve):
        if all(later >= accuracy for _, later in curve[i:]):
            return seconds
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fabolas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="searches each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of training (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    digits = Digits()
    curves = {
        name: [search(name, digits, seed, arguments.seconds) for seed in range(arguments.seeds)]
        for name in STRATEGIES
    }
    optimum = max(accuracy for of in curves.values() for curve in of for _, accuracy in curve)
    rows = []
    for name, of in curves.items():
        times = [time_to(curve, 0.99 * optimum) for curve in of]
        reached = [t for t in times if t is not None]
        rows.append(
            {
                "strategy": name,
                "reached_99_percent": f"{len(reached)} of {len(times)}",
                "median_seconds": round(statistics.median(reached), 2) if reached else None,
                "final_mean": round(float(np.mean([curve[-1][1] for curve in of])), 4),
                "optimum": round(optimum, 4),
            }
        )
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
