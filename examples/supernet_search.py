"""Search with a supernet: one training of all candidates, then the best child by itself.

    python examples/supernet_search.py --epochs 10

DARTS on scikit-learn's digits, two minutes on two cores with ten epochs.
"""

import argparse

import pytorch_lightning as pl

from lightning_modules import DigitsDataModule, SearchDataModule, SupernetClassifier
from nas_plugins import spaces

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()

    data = DigitsDataModule()
    space = spaces.load("darts", channels=4, num_cells=3, in_channels=1)
    search = SupernetClassifier(space, "darts", mutator_options={"arch_lr": 3e-3})
    pl.Trainer(max_epochs=args.epochs).fit(search, SearchDataModule(data))

    (score, best), *others = search.rank(data, num=3)
    print(f"{score:.3f} with inherited weights: {dict(best)}")
    child = search.child(best, inherit_weights=False)
    trainer = pl.Trainer(max_epochs=args.epochs, gradient_clip_val=5.0)
    trainer.fit(child, data)
    trainer.test(child, data)
