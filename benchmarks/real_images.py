"""Searches with a supernet on real images, against random architectures of the same space.

Each method searches CIFAR-10's images with a supernet; the architecture that it derives is
trained from scratch and tested, in the same way as ``--random`` architectures drawn
uniformly. All is small enough for two cores: a stated part of the images, made smaller, a
narrow and shallow network, few epochs. Methods have their defaults; what one may need at this
scale and the paper did not is a method of its own in ``VARIANTS``.

    python -m benchmarks.real_images --methods darts,enas,proxyless,one_shot,uniform \
        --json FILE

With ``--json`` rows are written as they come, and an interrupted run goes on from them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from rich.progress import track

from benchmarks.data import CIFAR10JpegDataModule, data_directory
from benchmarks.report import add_json, report
from lightning_modules import SearchDataModule, SupernetClassifier, train_child
from lightning_modules.isolation import isolated, seeded
from nas_plugins import Budget, SearchSpace, spaces
from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError

METHODS = ("darts", "enas", "proxyless", "one_shot", "uniform", "gdas", "pc_darts")

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "nas_bench_201": {"channels": 8, "num_cells": 1},
    "darts": {"channels": 8, "num_cells": 3},
    "proxylessnas": {
        "small_images": True,
        "num_classes": 10,
        "widths": [8, 12, 16],
        "depths": [3, 3, 3],
        "strides": [1, 2, 2],
        "last": 64,
    },
}
"""Space to the options of its network, in the search and in the trainings after it."""

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "proxyless_fast": ("proxyless", {"arch_lr": 0.01}),
    "proxyless_reinforce": ("proxyless", {"method": "reinforce"}),
}
"""Name to a method and what differs from its defaults: alphas that move further in few steps."""


def search(
    space: SearchSpace,
    method: str,
    data: CIFAR10JpegDataModule,
    epochs: int,
    warmup_epochs: int,
    seed: int,
) -> Architecture:
    """What a method derives: the best by inherited weights of five, where it inherits."""
    with isolated(quiet=True):
        with seeded(seed):
            name, options = VARIANTS.get(method, (method, {}))
            module = SupernetClassifier(
                space, name, mutator_options=options, warmup_epochs=warmup_epochs, seed=seed
            )
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, SearchDataModule(data, seed=seed))
        try:
            return module.rank(data)[0][1]
        except UnsupportedSpaceError:
            return module.search.derive()[0]


def train(
    space: SearchSpace,
    architecture: Architecture,
    data: CIFAR10JpegDataModule,
    epochs: int,
    seed: int,
) -> float:
    """Test accuracy in percent after a training from scratch."""
    result = train_child(
        space,
        architecture,
        data,
        budget=Budget(epochs=epochs),
        seed=seed,
        accelerator="cpu",
        test=True,
    )
    return 100 * result.metrics["test_acc"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=data_directory() / "cifar10_jpeg_full.npz")
    parser.add_argument("--space", choices=NETWORKS, default="nas_bench_201")
    parser.add_argument("--methods", default=",".join(METHODS), help="(%(default)s)")
    parser.add_argument("--random", type=int, default=10, help="architectures (%(default)s)")
    parser.add_argument("--images", type=int, default=10_000, help="for training (%(default)s)")
    parser.add_argument("--image-size", type=int, default=16, help="pixels (%(default)s)")
    parser.add_argument("--search-epochs", type=int, default=30, help="(%(default)s)")
    parser.add_argument(
        "--warmup-epochs", type=int, default=0, help="of these for weights alone (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of a child (%(default)s)")
    parser.add_argument("--searches", type=int, default=3, help="seeds a method (%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()

    data = CIFAR10JpegDataModule(
        arguments.data, 64, limit=arguments.images, image_size=arguments.image_size
    )
    space = spaces.load(arguments.space, **NETWORKS[arguments.space])
    setting = {
        "space": arguments.space,
        "images": arguments.images,
        "image_size": arguments.image_size,
        "epochs": arguments.epochs,
    }
    searching = {
        "search_epochs": arguments.search_epochs,
        "warmup_epochs": arguments.warmup_epochs,
    }
    rows: list[dict[str, Any]] = []
    if arguments.json and arguments.json.exists():
        rows = json.loads(arguments.json.read_text(encoding="utf-8"))
    work = [("random", seed) for seed in range(arguments.random)]
    methods = arguments.methods.split(",")
    work += [(method, seed) for seed in range(arguments.searches) for method in methods]
    for method, seed in track(work, description="searches and trainings"):
        row = {**setting, "method": method, "seed": seed}
        if method != "random":
            row |= searching
        if any(row.items() <= done.items() for done in rows):
            continue
        began = time.perf_counter()
        if method == "random":
            architecture = space.sample(np.random.default_rng((seed, 1)))
        else:
            architecture = search(space, method, data, *searching.values(), seed)
        row["search_s"] = round(time.perf_counter() - began, 1)
        row["test_acc"] = round(train(space, architecture, data, arguments.epochs, seed), 2)
        row["architecture"] = dict(architecture)
        rows.append(row)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    shown = [row for row in rows if setting.items() <= row.items()]
    shown = [r for r in shown if r["method"] == "random" or searching.items() <= r.items()]
    report(summary(shown), None)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation of test accuracy, in percent, and how far above random."""
    accuracies: dict[str, list[float]] = {}
    for row in rows:
        accuracies.setdefault(row["method"], []).append(row["test_acc"])
    base = statistics.mean(accuracies["random"]) if "random" in accuracies else float("nan")
    return [
        {
            "method": method,
            "mean": round(statistics.mean(found), 2),
            "std": round(statistics.pstdev(found), 2),
            "over_random": round(statistics.mean(found) - base, 2),
            "n": len(found),
        }
        for method, found in accuracies.items()
    ]


if __name__ == "__main__":
    main()
