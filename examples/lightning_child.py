"""Lightning: train one architecture with a Trainer of your own, keep it, use it elsewhere.

Run: python examples/lightning_child.py --epochs 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torchmetrics.classification import MulticlassF1Score

from lightning_modules import ChildClassifier, DigitsDataModule
from nas_plugins import Architecture
from nas_plugins.export import load_exported
from nas_plugins.spaces import load


def main(epochs: int, directory: Path, architecture_file: Path | None) -> None:
    space = load("nas_bench_201", channels=8, num_cells=1, in_channels=1)
    if architecture_file is None:  # any: say, what a search found
        architecture = space.sample(np.random.default_rng(0))
    else:
        architecture = space.validate(Architecture.from_json(architecture_file))

    torch.manual_seed(0)
    data = DigitsDataModule(crop_padding=1)
    child = ChildClassifier(
        space,
        architecture,
        learning_rate=0.1,
        label_smoothing=0.1,
        input_shape=data.image_shape,
        metrics={"f1": MulticlassF1Score(num_classes=10)},
    )
    trainer = pl.Trainer(max_epochs=epochs, gradient_clip_val=5, default_root_dir=directory)
    trainer.fit(child, datamodule=data)
    trainer.test(child, datamodule=data)

    # A checkpoint holds the architecture: no space and no search is needed to read it.
    best = ChildClassifier.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    files = best.export(directory / "exported", formats=["state_dict", "torchscript"])
    network = load_exported(directory / "exported")
    images, labels = next(iter(data.test_dataloader()))
    with torch.no_grad():
        correct = (network(images).argmax(1) == labels).sum()
    print(f"{correct} of {len(labels)} images right after export to", *files, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path("lightning_child"))
    parser.add_argument("--architecture", type=Path, help="JSON file; default: a random one")
    options = parser.parse_args()
    main(options.epochs, options.directory, options.architecture)
