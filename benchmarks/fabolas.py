"""Time to the best of full data: FABOLAS beside Bayesian optimisation without shares.

As in the first experiment of Klein et al. 2017, arXiv:1605.07079, a support vector machine with
two hyper-parameters, C and gamma, on a grid, so that searches are replayed: each point trained on
1/64 to the whole of 16,384 images of CIFAR-10 at 8x8 pixels, and scored on 10,000 others. Seconds
are those of the processor in training and scoring, the kernel's matrices included.

FABOLAS trains on shares of the data, the others on all of it. The incumbent is judged by what
it reaches on all data, as a share of the grid's best: of FABOLAS what it recommends, whether or
not that was ever trained on all data, of the others the best so far. Asking takes no time here.

    python -m benchmarks.fabolas --record svm_grid.json
    python -m benchmarks.fabolas --table svm_grid.json --seeds 20 --json FILE
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace, Float
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.svm import SVC

from benchmarks.data import CIFAR10JpegDataModule, data_directory
from benchmarks.report import add_json, report
from nas_plugins import Architecture, SearchSpace
from nas_plugins.strategies import create

C = np.logspace(-2, 4, 11)
GAMMA = np.logspace(-5, 0, 11)
NUM_IMAGES = 16_384
SHARES = [2.0**-i for i in reversed(range(7))]
SECONDS = {"fabolas": 120.0, "gp": 1500.0, "random": 1500.0}
"""Of training, for each search."""
MOMENTS = (5, 10, 20, 30, 60, 120, 300, 600, 1200)
Curve = list[tuple[float, float]]
"""Seconds so far and accuracy of the incumbent on all data."""


def record(path: Path) -> None:
    """Train every point of the grid on every share."""
    data = CIFAR10JpegDataModule(data_directory() / "cifar10_jpeg_full.npz", image_size=8).load()
    (x, y), (x_valid, y_valid) = (_arrays(data[part]) for part in ("train", "test"))
    x, y = x[:NUM_IMAGES], y[:NUM_IMAGES]
    mean, deviation = x.mean(), x.std()
    x, x_valid = (x - mean) / deviation, (x_valid - mean) / deviation
    accuracies = np.zeros((len(C), len(GAMMA), len(SHARES)))
    seconds = np.zeros_like(accuracies)
    for k, share in enumerate(SHARES):
        num = round(share * len(x))
        began = time.process_time()
        distances = [euclidean_distances(of, x[:num], squared=True) for of in (x[:num], x_valid)]
        shared_s = time.process_time() - began
        for j, gamma in enumerate(GAMMA):
            began = time.process_time()
            similar, similar_valid = (np.exp(-gamma * squares) for squares in distances)
            once_s = shared_s + time.process_time() - began
            for i, c in enumerate(C):
                began = time.process_time()
                machine = SVC(C=c, kernel="precomputed").fit(similar, y[:num])
                accuracies[i, j, k] = machine.score(similar_valid, y_valid)
                seconds[i, j, k] = once_s + time.process_time() - began
        print(f"{num} images: {seconds[..., k].mean():.3g} s", flush=True)
    content = {"accuracy": accuracies.round(5).tolist(), "seconds": seconds.round(4).tolist()}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _arrays(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``(images, channels * height * width)`` and classes ``(images,)``."""
    pairs = [images[i] for i in range(len(images))]
    return np.stack([x.flatten().numpy() for x, _ in pairs]).astype(float), np.array(
        [int(y) for _, y in pairs]
    )


class Grid:
    """What was recorded."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self._accuracies, self._seconds = (np.array(content[k]) for k in ("accuracy", "seconds"))
        self.optimum = float(self._accuracies[..., -1].max())
        space = {"c": (0, len(C) - 1), "gamma": (0, len(GAMMA) - 1)}
        self.space = SearchSpace(ConfigurationSpace(space))
        share = Float("data_fraction", (SHARES[0], 1.0), log=True)
        self.with_shares = self.space.join(ConfigurationSpace({"data_fraction": share}))

    def train(self, architecture: Architecture, share: float) -> tuple[float, float]:
        """Accuracy and seconds."""
        place = int(architecture["c"]), int(architecture["gamma"]), SHARES.index(share)
        return float(self._accuracies[place]), float(self._seconds[place])


def search(name: str, grid: Grid, seed: int, seconds: float) -> Curve:
    """A search until its trainings took so many seconds."""
    return (_with_shares if name == "fabolas" else _in_full)(name, grid, seed, seconds)


def _with_shares(name: str, grid: Grid, seed: int, seconds: float) -> Curve:
    strategy: Any = create(name, grid.with_shares, seed=seed)
    curve: Curve = []
    spent = 0.0
    while spent < seconds:
        asked = strategy.ask()
        share = min(SHARES, key=lambda s: abs(np.log(s / float(asked["data_fraction"]))))
        trained = grid.with_shares.exchange(asked, "data_fraction", share)
        accuracy, took = grid.train(trained, share)
        spent += took
        strategy.tell(trained, (accuracy, -took))
        if strategy.has_model:
            curve.append((spent, grid.train(strategy.recommend(), 1.0)[0]))  # judged, not paid for
    return curve


def _in_full(name: str, grid: Grid, seed: int, seconds: float) -> Curve:
    strategy = create(name, grid.space, seed=seed)
    curve: Curve = []
    spent, best = 0.0, 0.0
    while spent < seconds:
        architecture = strategy.ask()
        accuracy, took = grid.train(architecture, 1.0)
        spent += took
        strategy.tell(architecture, accuracy)
        best = max(best, accuracy)
        curve.append((spent, best))
    return curve


def medians(curves: list[Curve], at: np.ndarray) -> np.ndarray:
    """Median over searches of what the incumbent reaches at some seconds, 0 without one."""
    rows = []
    for curve in curves:
        times, reached = np.array([(0.0, 0.0), *curve]).T
        rows.append(reached[np.searchsorted(times, at, side="right") - 1])
    return np.median(rows, axis=0)


def row_of(name: str, curves: list[Curve], optimum: float) -> dict[str, Any]:
    """Medians, and the seconds after which they are and stay near the optimum."""
    end = min(curve[-1][0] for curve in curves)
    row: dict[str, Any] = {"strategy": name, "seeds": len(curves), "until_s": round(end, 2)}
    for seconds in MOMENTS:
        share = float(medians(curves, np.array([seconds]))[0]) / optimum
        row[f"{seconds:g} s"] = round(share, 3) if seconds <= end else None
    grid = np.linspace(0, end, 5001)
    shares = medians(curves, grid) / optimum
    for percent in (95, 99):
        below = np.flatnonzero(shares < percent / 100)
        since = int(below[-1]) + 1 if len(below) else 0
        row[f"s to {percent} %"] = round(float(grid[since]), 2) if since < len(grid) else None
    counts = [len(curve) for curve in curves]
    return {**row, "trainings": round(statistics.mean(counts), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fabolas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="train the grid, write it there"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="what --record wrote")
    parser.add_argument("--strategies", default=",".join(SECONDS), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="searches each (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.record is not None:
        record(arguments.record)
    if arguments.table is None:
        return
    grid = Grid(arguments.table)
    rows = []
    for name in arguments.strategies.split(","):
        curves = [search(name, grid, seed, SECONDS[name]) for seed in range(arguments.seeds)]
        rows.append(row_of(name, curves, grid.optimum))
        print(rows[-1], flush=True)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
