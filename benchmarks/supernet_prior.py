"""What a supernet's scores are worth to a search by training, on NAS-Bench-201.

A supernet is trained on a part of CIFAR-10's images, made smaller, and scores random cells by
the loss of their inherited weights. First the scores are compared with the table's accuracies
of the same cells. Then searches are replayed on the table, each without the scores and with them
as the start, as the distribution, or as the cheap judge of several candidates
(:class:`nas_plugins.strategies.SupernetPrior`); TPE gets the best scored cells enqueued.

    python -m benchmarks.supernet_prior --table nb201.npz --data cifar10_jpeg_full.npz \
        --json FILE

With ``--simulated 0.5`` there is no supernet: the scores are the table's test accuracies with so
much noise that their rank correlation with them, Kendall's tau, is that; drawn anew for every
search. So one sees how good scores have to be. The noise of one cell is independent of another's,
which a supernet's errors are not: estimates for further cells come out better than theirs.

The supernet's scores are kept beside the rows; an interrupted run goes on from both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytorch_lightning as pl
from rich.progress import track
from scipy.stats import kendalltau, norm, rankdata, spearmanr
from torch import Tensor, nn

from benchmarks.data import CIFAR10JpegDataModule, data_directory
from benchmarks.report import report
from lightning_modules import SearchDataModule, SupernetClassifier
from lightning_modules.isolation import isolated, seeded
from nas_plugins import SearchSpace, mutators, spaces
from nas_plugins.estimators.one_shot import OneShotScore
from nas_plugins.estimators.tabular import TabularNB201
from nas_plugins.mutators.derivation import distinct
from nas_plugins.mutators.prior import frequencies
from nas_plugins.optuna import suggest
from nas_plugins.prior import Prior
from nas_plugins.strategies import Strategy, SupernetPrior, create

NETWORK = {"channels": 8, "num_cells": 1}
LEARNING_RATE = 0.2
"""Of the supernet; the default, 0.025, is that of far longer searches."""

NUM_TRAININGS = 100
CHECKPOINTS = (10, 25, 50, 100)
TARGETS = (93.5, 94.0, 94.2)
"""Test accuracies in percent; the best cell has 94.37."""

EVOLUTION = {"population_size": 10, "sample_size": 3}
EVOLVE = {"inner": "regularized_evolution", "inner_options": EVOLUTION}
NEVER: Mapping[str, Any] = {"num_initial": 0}

SEARCHES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random": ("random", {}),
    "random, 10 best first": ("supernet_prior", {"inner": "random", "num_initial": 10}),
    "random by the probabilities": (
        "supernet_prior",
        {"inner": "random", "num_initial": 0, "prior_weight": 1e9},
    ),
    "best of 10 random": (
        "supernet_prior",
        {"inner": "random", "num_initial": 0, "num_candidates": 10},
    ),
    "evolution": ("regularized_evolution", EVOLUTION),
    "evolution, 10 best first": ("supernet_prior", {**EVOLVE, "num_initial": 10}),
    "evolution, prior_weight 10": ("supernet_prior", {**EVOLVE, **NEVER, "prior_weight": 10}),
    "evolution, best of 4": ("supernet_prior", {**EVOLVE, **NEVER, "num_candidates": 4}),
    "evolution, 10 best first, best of 4": (
        "supernet_prior",
        {**EVOLVE, "num_initial": 10, "num_candidates": 4},
    ),
    "tpe": ("tpe", {}),
    "tpe, 10 best first": ("tpe", {"num_initial": 10}),
    "the ranking alone": ("supernet_prior", {"inner": "random", "num_initial": NUM_TRAININGS}),
}


def train(space: SearchSpace, arguments: argparse.Namespace) -> Prior:
    """Train the supernet, and score random cells by inherited weights."""
    data = CIFAR10JpegDataModule(
        arguments.data,
        64,
        limit=arguments.images,
        image_size=arguments.image_size,
        validation_fraction=0.2,
    )
    learns = mutators.mutator_class(arguments.method).needs_validation_data
    options = {} if learns else {"num_candidates": arguments.cells}
    with isolated(quiet=True):
        with seeded(arguments.seed):
            module = SupernetClassifier(
                space,
                arguments.method,
                mutator_options=options,
                learning_rate=LEARNING_RATE,
                seed=arguments.seed,
            )
        trainer = pl.Trainer(
            max_epochs=arguments.epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, SearchDataModule(data, seed=arguments.seed) if learns else data)
        score = OneShotScore(
            module.supernet,
            data.train_dataloader(),
            data.val_dataloader(),
            recalibration_batches=4,
            metric=minus_loss,
        )
        return mutators.prior_of(
            module.search.mutator,
            score,
            num=10,
            num_sampled=arguments.cells if learns else 0,
            seed=arguments.seed,
        )


def minus_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Finer than the accuracy, in which many cells are equal."""
    return -nn.functional.cross_entropy(logits, labels)


def simulate(
    space: SearchSpace, table: TabularNB201, tau: float, num_cells: int, seed: int
) -> Prior:
    """Scores of random cells that agree with their test accuracies as far as is asked for.

    Of two normal variables with correlation r, Kendall's tau is ``2 / pi * arcsin(r)``.
    """
    rng = np.random.default_rng(seed)
    cells = distinct(space, (space.sample(rng) for _ in range(num_cells)))
    ranks = rankdata([table.query(cell).test_accuracy for cell in cells])
    truth = norm.ppf((ranks - 0.5) / len(cells))
    correlation = np.sin(np.pi / 2 * tau)
    noise = rng.standard_normal(len(cells))
    scores = correlation * truth + np.sqrt(1 - correlation**2) * noise
    pairs = Prior(zip(scores.tolist(), cells, strict=True))
    return Prior(pairs.scores, frequencies(space, pairs.scores))


def correlations(
    space: SearchSpace, prior: Prior, table: TabularNB201, seed: int = 1
) -> Iterator[dict[str, Any]]:
    """Rank correlation of scores, and of the estimates for 1,000 other cells, with the table."""
    judge = SupernetPrior(space, prior=prior)
    scored = {architecture for _, architecture in prior.scores}
    rng = np.random.default_rng(seed)
    others = {cell for cell in (space.sample(rng) for _ in range(1200)) if cell not in scored}
    for name, cells in {"scored": scored, "estimated": list(others)[:1000]}.items():
        worth = [judge.worth(cell) for cell in cells]
        results = [table.query(cell) for cell in cells]
        row: dict[str, Any] = {"cells_are": name, "n": len(worth)}
        for column in ("reward", "test_accuracy"):
            truth = [getattr(result, column) for result in results]
            row[f"kendall_{column}"] = round(float(kendalltau(worth, truth).statistic), 3)
            row[f"spearman_{column}"] = round(float(spearmanr(worth, truth).statistic), 3)
        yield row


def replay(
    space: SearchSpace, table: TabularNB201, ask: Callable[[], Any], tell: Callable[..., Any]
) -> np.ndarray:
    """Test accuracy of the best by reward, after each training; shape ``(trainings,)``."""
    best, found = -np.inf, []
    test = 0.0
    for _ in range(NUM_TRAININGS):
        asked, architecture = ask()
        result = table.query(architecture)
        tell(asked, result.reward)
        if result.reward > best:
            best, test = result.reward, result.test_accuracy
        found.append(test)
    return np.array(found)


def curve(
    space: SearchSpace,
    table: TabularNB201,
    prior: Prior,
    strategy: str,
    options: Mapping[str, Any],
    seed: int,
) -> np.ndarray:
    """One replayed search."""
    if strategy == "tpe":
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        for _, architecture in prior.scores[: options.get("num_initial", 0)]:
            study.enqueue_trial(dict(architecture))

        def asked() -> tuple[Any, Any]:
            trial = study.ask()
            return trial, suggest(trial, space)

        return replay(space, table, asked, study.tell)
    if strategy == "supernet_prior":
        options = {"prior": prior, **options}
    searching: Strategy = create(strategy, space, seed=seed, **options)

    def proposed() -> tuple[Any, Any]:
        architecture = searching.ask()
        return architecture, architecture

    return replay(space, table, proposed, searching.tell)


def summary(curves: np.ndarray) -> dict[str, Any]:
    """Mean and deviation after some trainings; mean trainings to reach the targets.

    A search that has not reached a target counts as one training more than it had.

    Args:
        curves: Shape ``(seeds, trainings)``.
    """
    row: dict[str, Any] = {}
    for number in CHECKPOINTS:
        after = curves[:, number - 1]
        row[f"after_{number}"] = f"{after.mean():.2f}±{after.std():.2f}"
    for target in TARGETS:
        reached = curves >= target
        first = np.where(reached.any(axis=1), reached.argmax(axis=1), curves.shape[1]) + 1
        row[f"to_{target}"] = round(float(first.mean()), 1)
        row[f"reach_{target}"] = round(float(reached.any(axis=1).mean()), 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.supernet_prior",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", type=Path, default=data_directory() / "nb201.npz")
    parser.add_argument("--data", type=Path, default=data_directory() / "cifar10_jpeg_full.npz")
    parser.add_argument("--method", default="uniform", help="of the supernet (%(default)s)")
    parser.add_argument("--images", type=int, default=10_000, help="for training (%(default)s)")
    parser.add_argument("--image-size", type=int, default=16, help="pixels (%(default)s)")
    parser.add_argument("--epochs", type=int, default=80, help="of the supernet (%(default)s)")
    parser.add_argument("--cells", type=int, default=600, help="to score (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the supernet (%(default)s)")
    parser.add_argument("--simulated", type=float, help="Kendall's tau, instead of a supernet")
    parser.add_argument("--seeds", type=int, default=200, help="searches each (%(default)s)")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="of the rows")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    space = spaces.load("nas_bench_201", **NETWORK)
    table = TabularNB201(arguments.table)
    fields = ["method", "images", "image_size", "epochs", "cells", "seed"]
    if arguments.simulated is not None:
        fields = ["simulated", "cells", "seed"]
    setting = {field: getattr(arguments, field) for field in fields}
    rows: list[dict[str, Any]] = []
    if arguments.json.exists():
        rows = json.loads(arguments.json.read_text(encoding="utf-8"))

    def keep(row: dict[str, Any]) -> None:
        rows.append({**setting, **row})
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    def kept(**row: Any) -> bool:
        return any({**setting, **row}.items() <= done.items() for done in rows)

    scores = arguments.json.with_suffix(f".{'-'.join(map(str, setting.values()))}.scores")

    @cache
    def prior(seed: int) -> Prior:
        if arguments.simulated is not None:
            return simulate(space, table, arguments.simulated, arguments.cells, seed)
        if not scores.exists():
            began = time.process_time()
            train(space, arguments).write(scores)
            keep({"supernet_cpu_s": round(time.process_time() - began)})
        return Prior.of(scores)  # of one supernet, for all searches

    if not kept(cells_are="scored"):
        for row in correlations(space, prior(arguments.seed), table):
            keep(row)
    for name, (strategy, options) in track(SEARCHES.items(), description="replays"):
        if not kept(search=name, seeds=arguments.seeds):
            curves = [
                curve(space, table, prior(seed), strategy, options, seed)
                for seed in range(arguments.seeds)
            ]
            keep({"search": name, "seeds": arguments.seeds, **summary(np.stack(curves))})
    mine = [row for row in rows if setting.items() <= row.items()]
    hidden = {*setting, *(f"reach_{target}" for target in TARGETS)}
    for shown in ("cells_are", "search"):
        report([{k: v for k, v in r.items() if k not in hidden} for r in mine if shown in r], None)


if __name__ == "__main__":
    main()
