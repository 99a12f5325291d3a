"""Early stopping with two objectives: epochs saved, and how much of the front is kept.

First real trainings are recorded: random architectures of NAS-Bench-201 on the digits images
(``--space joint``: and of hyper-parameters), accuracy after each epoch, and parameters. Then
studies are replayed from the record, with and without stopping, in many random orders.

    python -m benchmarks.early_stopping --record curves.json --architectures 81
    python -m benchmarks.early_stopping --curves curves.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.report import add_json, report
from nas_plugins.estimators.moasha import MOASHA
from nas_plugins.optuna import MultiObjectivePruner
from nas_plugins.pareto import pareto_front

CURVES = Path(__file__).parent / "results" / "digits_curves.json"

Trainings = Sequence[Mapping[str, Any]]


def record(space_name: str, count: int, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Train random architectures, all different, to the end."""
    import pytorch_lightning as pl
    import torch

    from lightning_modules import DigitsDataModule, train_child
    from nas_plugins import Budget, spaces
    from nas_plugins.estimators.cost import cost_of

    class Curve(pl.Callback):
        def __init__(self) -> None:
            self.accuracies: list[float] = []

        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                self.accuracies.append(round(float(trainer.callback_metrics["val_acc"]), 5))

    torch.set_num_threads(1)
    space = spaces.load(space_name, channels=8, num_cells=1)
    data = DigitsDataModule(batch_size=64, seed=seed)
    rng = np.random.default_rng(seed)
    architectures = dict.fromkeys(space.sample(rng) for _ in range(2 * count))
    trainings = []
    for architecture in list(architectures)[:count]:
        curve = Curve()
        train_child(
            space,
            architecture,
            data,
            budget=Budget(epochs=epochs),
            seed=seed,
            accelerator="cpu",
            callbacks=[curve],
        )
        cost = cost_of(space, architecture, (1, 8, 8), in_channels=1)
        trainings.append(
            {
                "architecture": architecture.id,
                "parameters": cost.parameters,
                "accuracies": curve.accuracies,
            }
        )
    return trainings


def replay(trainings: Trainings, pruner: MultiObjectivePruner | None) -> optuna.Study:
    """A study whose trials are these trainings, in this order."""

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        training = trainings[trial.number]
        for epoch, accuracy in enumerate(training["accuracies"], start=1):
            values = (accuracy, training["parameters"])
            if pruner is not None and pruner.should_prune(trial, values, step=epoch):
                trial.set_user_attr("epochs", epoch)
                raise optuna.TrialPruned
        trial.set_user_attr("epochs", len(training["accuracies"]))
        return values

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=len(trainings))
    return study


def measure(study: optuna.Study, trainings: Trainings) -> dict[str, float]:
    """What a study spent and found, as shares of what all whole trainings give."""
    epochs = sum(trial.user_attrs["epochs"] for trial in study.trials)
    whole = [(t["accuracies"][-1], t["parameters"]) for t in trainings]
    found = [tuple(t.values) for t in study.get_trials() if t.values]
    front = {whole[i] for i in np.flatnonzero(pareto_front([(a, -p) for a, p in whole]))}
    return {
        "epochs": epochs / sum(len(t["accuracies"]) for t in trainings),
        "hypervolume": hypervolume(found, whole) / hypervolume(whole, whole),
        "front": len(front & set(found)) / len(front),
    }


def hypervolume(points: Sequence[tuple[float, float]], whole: Sequence[Any]) -> float:
    """Area dominated: accuracy from 0 up, and the logarithm of the size from the largest down."""
    largest = np.log(max(size for _, size in whole))
    area, reached = 0.0, 0.0
    ordered = sorted((largest - np.log(size), accuracy) for accuracy, size in points)
    for saved, accuracy in reversed(ordered):
        area += max(0.0, accuracy - reached) * saved
        reached = max(reached, accuracy)
    return area


RULES: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "published, eta 3": {"reduction_factor": 3.0},
    "published, eta 2": {"reduction_factor": 2.0},
    "spare_front, eta 3": {"reduction_factor": 3.0, "spare_front": True},
    "spare_front, eta 2": {"reduction_factor": 2.0, "spare_front": True},
}


def compare(trainings: Trainings, num_orders: int, seed: int) -> list[dict[str, Any]]:
    """Mean and worst of each rule over random orders."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(trainings)) for _ in range(num_orders)]
    rows = []
    for name, options in RULES.items():
        measured = []
        for order in orders:
            ordered = [trainings[i] for i in order]
            length = len(ordered[0]["accuracies"])
            pruner = MultiObjectivePruner(MOASHA(max_resource=length, **options))
            measured.append(measure(replay(ordered, pruner if options else None), ordered))
        columns = {key: np.array([row[key] for row in measured]) for key in measured[0]}
        rows.append(
            {
                "rule": name,
                "epochs": f"{columns['epochs'].mean():.1%}",
                "hypervolume": f"{columns['hypervolume'].mean():.2%}",
                "hypervolume, worst": f"{columns['hypervolume'].min():.2%}",
                "front found": f"{columns['front'].mean():.1%}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.early_stopping",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--record", type=Path, help="train, and write the curves to this file")
    parser.add_argument("--space", default="nas_bench_201", help="to record (%(default)s)")
    parser.add_argument("--architectures", type=int, default=81, help="to train (%(default)s)")
    parser.add_argument("--epochs", type=int, default=9, help="of each training (%(default)s)")
    parser.add_argument("--curves", type=Path, default=CURVES, help="to replay (%(default)s)")
    parser.add_argument("--orders", type=int, default=100, help="replays (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.record is not None:
        made = record(arguments.space, arguments.architectures, arguments.epochs, arguments.seed)
        lines = ",\n".join(json.dumps(training) for training in made)
        arguments.record.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trainings = json.loads(arguments.curves.read_text(encoding="utf-8"))
    report(compare(trainings, arguments.orders, arguments.seed), arguments.json)


if __name__ == "__main__":
    main()
