"""JASQNet's search: cells, and how many bits their weights have, for accuracy and for size.

Children are trained quantised (Chen et al. 2018). NSGA-II searches both objectives and prints
their front; with a target size there is one reward, beyond it accuracy * target / size.

    python examples/jasqnet_search.py --trials 60 > front.json
    python examples/jasqnet_search.py --trials 60 --target-kb 10 > best.json
"""

import argparse
import json

import optuna

from lightning_modules import DigitsDataModule, train_child
from nas_plugins import Budget, spaces
from nas_plugins.estimators.cost import cost_of
from nas_plugins.estimators.objectives import mnasnet_reward
from nas_plugins.optuna import NSGA2Sampler, RegularizedEvolutionSampler, architecture_of, suggest

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=20)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--target-kb", type=float, help="one reward for both")

space = spaces.load(
    "jasqnet", space="nas_bench_201", bits=[16, 8, 4], channels=4, num_cells=1, in_channels=1
)
data = DigitsDataModule()


def main() -> None:
    options = parser.parse_args()

    def evaluate(trial: optuna.Trial) -> tuple[float, float]:
        architecture = suggest(trial, space)
        kilobytes = cost_of(space, architecture, data.image_shape).bits / 8000
        accuracy = train_child(space, architecture, data, budget=Budget(options.epochs)).score
        trial.set_user_attr("found", {"accuracy": round(accuracy, 4), "kilobytes": kilobytes})
        return accuracy, kilobytes

    def reward(trial: optuna.Trial) -> float:
        accuracy, size = evaluate(trial)
        return mnasnet_reward(accuracy, {"kb": size}, {"kb": options.target_kb}, alpha=0, beta=-1)

    sampler = NSGA2Sampler(space, seed=0, population_size=10)
    directions, objective = ["maximize", "minimize"], evaluate
    if options.target_kb is not None:
        directions, objective = ["maximize"], reward
        sampler = RegularizedEvolutionSampler(space, seed=0, population_size=10, sample_size=3)
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.optimize(objective, n_trials=options.trials)
    best = sorted(study.best_trials, key=lambda t: -t.user_attrs["found"]["accuracy"])
    rows = [t.user_attrs["found"] | {"architecture": dict(architecture_of(t, space))} for t in best]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
