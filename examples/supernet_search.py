"""Search with a supernet: one training of all candidates, then the best child by itself.

    python examples/supernet_search.py --epochs 20

GDAS over the cells of NAS-Bench-201 on scikit-learn's digits, half a minute on two cores.
Every method of ``nas_plugins.mutators`` goes by its name: ``darts``, ``enas``, ``uniform`` ….
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
    space = spaces.load("nas_bench_201", channels=8, num_cells=1, in_channels=1)
    module = SupernetClassifier(space, "gdas")
    pl.Trainer(max_epochs=args.epochs).fit(module, SearchDataModule(data))
    module.search.draw_alphas("alphas.svg")

    (score, best), *others = module.rank(data, num=3)
    print(f"{score:.3f} with inherited weights: {dict(best)}")
    child = module.child(best, inherit_weights=False)
    trainer = pl.Trainer(max_epochs=args.epochs, gradient_clip_val=5.0)
    trainer.fit(child, data)
    trainer.test(child, data)
