"""A mutator as a one-shot strategy of NNI: one training, then the best architectures.

    python examples/nni_supernet.py --epochs 20

The same supernet search as in ``supernet_search.py``, driven by a ``NasExperiment``. Every
method of ``nas_plugins.mutators`` goes by its name: ``darts``, ``enas``, ``uniform`` ….
"""

import argparse
import tempfile

from nni.nas.evaluator.pytorch import Classification
from nni.nas.experiment import NasExperiment

from lightning_modules import DigitsDataModule, SearchDataModule
from nas_plugins.nni import ArchitectureModelSpace, SupernetStrategy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    epochs = parser.parse_args().epochs
    evaluator = Classification(
        datamodule=SearchDataModule(DigitsDataModule()),
        num_classes=10,
        learning_rate=3e-3,
        max_epochs=epochs,
        default_root_dir=tempfile.mkdtemp(),
    )
    space = ArchitectureModelSpace("nas_bench_201", channels=8, num_cells=1, in_channels=1)
    experiment = NasExperiment(space, evaluator, SupernetStrategy("gdas"))
    experiment.run()
    experiment.stop()
    for model in experiment.export_top_models(3):
        print(f"{model.metric:.3f} with inherited weights:", *model.sample.values())


if __name__ == "__main__":
    main()
