"""MnasNet's search: a controller trained by PPO, rewarded for accuracy at a latency.

Each child is trained, timed on this machine, and worth accuracy * (latency / target)^-0.07.
(Tan et al. 2019: 8,000 children of five ImageNet epochs, timed on a phone, target 75 ms.)

    python examples/mnasnet_search.py --trials 60 --target-ms 0.5
"""

from __future__ import annotations

import argparse

import optuna

from lightning_modules import DigitsDataModule, train_child
from nas_plugins import Budget, spaces
from nas_plugins.estimators.latency import Conditions, latency_of
from nas_plugins.estimators.objectives import mnasnet_reward
from nas_plugins.optuna import PPOSampler, architecture_of, suggest

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=20)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--target-ms", type=float, default=0.5)
parser.add_argument("--storage", help="such as sqlite:///study.db; default: in memory")

space = spaces.load(  # three of the seven blocks, for images of 8x8
    "mnasnet", widths=[8, 16, 24], depths=[1, 2, 2], strides=[1, 2, 2],
    stem_stride=1, last=64, in_channels=1, num_classes=10,
)  # fmt: skip
data = DigitsDataModule()
conditions = Conditions(input_shape=data.image_shape, threads=1)


def main() -> None:
    options = parser.parse_args()

    def objective(trial: optuna.Trial) -> float:
        architecture = suggest(trial, space)
        costs = {"latency_ms": latency_of(space, architecture, conditions).median_ms}
        accuracy = train_child(space, architecture, data, budget=Budget(options.epochs)).score
        trial.set_user_attr("accuracy", accuracy)
        trial.set_user_attr("latency_ms", costs["latency_ms"])
        return mnasnet_reward(accuracy, costs, {"latency_ms": options.target_ms})

    study = optuna.create_study(
        study_name="mnasnet",
        storage=options.storage,
        load_if_exists=True,
        direction="maximize",
        sampler=PPOSampler(space, seed=0, batch_size=10, learning_rate=0.01),
    )
    study.optimize(objective, n_trials=options.trials)
    found = study.best_trial.user_attrs
    print(f"{found['accuracy']:.1%} in {found['latency_ms']:.2f} ms")
    print(architecture_of(study.best_trial, space).to_json(indent=1))


if __name__ == "__main__":
    main()
