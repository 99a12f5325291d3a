"""A search space of your own: write the network, ask for what is open, search it.

    python examples/custom_space.py --trials 12 --epochs 4

Twelve trainings take less than a minute on two cores.
"""

import argparse
from functools import partial

from torch import nn

from lightning_modules import DigitsDataModule, train_child
from nas_plugins import Budget, SearchSpace
from nas_plugins.strategies import create


class Network(nn.Module):
    def __init__(self, choose, channels=8):
        super().__init__()

        def convolution():  # asked in a candidate: this choice exists for "conv" alone
            make = partial(nn.Conv2d, channels, channels, padding="same")
            return choose.layer("kernel", {"3": partial(make, 3), "5": partial(make, 5)})

        def block(i):  # the label "kernel" is one decision, shared by all blocks
            pool = partial(nn.MaxPool2d, 3, stride=1, padding=1)
            operation = choose.layer(f"block{i}", {"conv": convolution, "pool": pool})
            return nn.Sequential(operation, nn.BatchNorm2d(channels), nn.ReLU())

        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = choose.repeat("depth", block, (1, 3))
        self.merge = choose.inputs(
            "merge", ["stem", "blocks"], num_chosen=None, required=["blocks"]
        )
        self.dropout = nn.Dropout(choose.value("dropout", low=0.0, high=0.5))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 10)
        )

    def forward(self, x):
        stem = self.stem(x)
        return self.head(self.dropout(self.merge([stem, self.blocks(stem)])))


space = SearchSpace.from_network(Network, name="custom", channels=8)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()

    strategy = create("regularized_evolution", space, seed=0, population_size=5, sample_size=2)
    for trial in range(args.trials):
        architecture = strategy.ask()
        result = train_child(space, architecture, DigitsDataModule(), budget=Budget(args.epochs))
        strategy.tell(architecture, result.score)
        print(f"trial {trial}: validation accuracy {result.score:.3f} of {dict(architecture)}")
