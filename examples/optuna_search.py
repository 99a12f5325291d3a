"""Search a small NAS-Bench-201 network for the digits images in an Optuna study.

Run it again with the same storage and it goes on where it was. With ``--sampler tpe`` Optuna's
own sampler drives the same space.

    python examples/optuna_search.py --trials 20 --storage sqlite:///study.db
"""

from __future__ import annotations

import argparse

import optuna

from lightning_modules import DigitsDataModule, train_child
from lightning_modules.callbacks import OptunaPruningCallback
from nas_plugins import Budget, spaces
from nas_plugins.optuna import RegularizedEvolutionSampler, architecture_of, suggest

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=20)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--data-fraction", type=float, default=0.5)
parser.add_argument("--sampler", choices=["regularized_evolution", "tpe"])
parser.add_argument("--storage", help="such as sqlite:///study.db; default: in memory")

space = spaces.load("nas_bench_201", channels=4, num_cells=1, in_channels=1)
data = DigitsDataModule()


def main() -> None:
    options = parser.parse_args()
    budget = Budget(epochs=options.epochs, data_fraction=options.data_fraction)

    def objective(trial: optuna.Trial) -> float:
        pruning = OptunaPruningCallback(trial, monitor="val_acc")
        return train_child(
            space, suggest(trial, space), data, budget=budget, callbacks=[pruning]
        ).score

    if options.sampler == "tpe":
        sampler = optuna.samplers.TPESampler(seed=0)
    else:
        sampler = RegularizedEvolutionSampler(space, seed=0, population_size=8, sample_size=3)
    study = optuna.create_study(
        study_name="digits",
        storage=options.storage,
        load_if_exists=True,
        direction="maximize",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    study.optimize(objective, n_trials=options.trials)
    print(f"best of {len(study.trials)}: {study.best_value:.1%} validation accuracy")
    print(architecture_of(study.best_trial, space).to_json(indent=1))


if __name__ == "__main__":
    main()
