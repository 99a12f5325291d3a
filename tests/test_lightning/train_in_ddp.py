"""Script of test_ddp: Lightning starts it once more for the second process."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from lightning_modules import DigitsDataModule, train_child
from nas_plugins import Budget
from nas_plugins.spaces import load


class Watch(pl.Callback):
    """What this process trained on, and with what it ended."""

    def __init__(self) -> None:
        self.images: list[str] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.images += [hashlib.md5(i.numpy().tobytes()).hexdigest() for i in batch[0]]

    def on_fit_end(self, trainer, pl_module):
        self.weights = sum(p.double().sum().item() for p in pl_module.network.parameters())


def main(directory: Path) -> None:
    space, watch = load("nas_bench_201", channels=4, num_cells=1), Watch()
    # Lightning chdirs nothing and hands the arguments on; the rank is in the environment.
    result = train_child(
        space, space.default(), DigitsDataModule(), budget=Budget(epochs=1, data_fraction=0.5),
        directory=directory, callbacks=[watch], accelerator="cpu",
        trainer_options={
            "devices": 2,
            # An operation that leads to a `none` has no gradient.
            "strategy": DDPStrategy(process_group_backend="gloo", find_unused_parameters=True),
        },
    )  # fmt: skip
    seen = {"images": watch.images, "weights": watch.weights, "metrics": result.metrics}
    rank = os.environ.get("LOCAL_RANK", "0")
    (directory / f"rank{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()  # or gloo's threads may abort the process
