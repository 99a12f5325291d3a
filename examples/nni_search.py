"""Regularized evolution in a ``NasExperiment`` of NNI, over a space of this package.

    python examples/nni_search.py --models 12

For experiments with ``nnictl`` see the configs in ``examples/nni``.
"""

import argparse
import tempfile

import nni
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.experiment.config import SequentialEngineConfig
from torch import nn, optim

from lightning_modules import DigitsDataModule
from nas_plugins.nni import ArchitectureModelSpace, ArchitectureStrategy


def evaluate(network: nn.Module, epochs: int = 2) -> None:
    """Train a child on the digits images; its accuracy is what is searched for."""
    data = DigitsDataModule()
    data.setup()
    optimizer = optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        network.train()
        for images, labels in data.train_dataloader():
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        network.eval()
        right = [(network(x).argmax(1) == y).float() for x, y in data.val_dataloader()]
        accuracy = sum(r.sum().item() for r in right) / sum(len(r) for r in right)
        nni.report_intermediate_result(accuracy)
    nni.report_final_result(accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=12, help="architectures to train")
    models = parser.parse_args().models
    space = ArchitectureModelSpace("nas_bench_201", channels=4, num_cells=1, in_channels=1)
    strategy = ArchitectureStrategy("regularized_evolution", population_size=5, sample_size=2)
    config = NasExperimentConfig(SequentialEngineConfig(max_model_count=models), "simplified")
    config.experiment_working_directory = tempfile.mkdtemp()
    experiment = NasExperiment(space, FunctionalEvaluator(evaluate), strategy, config)
    experiment.run()
    experiment.stop()
    for observation in sorted(strategy.history, key=lambda o: -o.score)[:3]:
        print(f"{observation.score:.4f}", *observation.architecture.values())


if __name__ == "__main__":
    main()
