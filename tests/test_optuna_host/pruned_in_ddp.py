"""One study whose second trial is pruned inside DDP on two CPU processes; run as a script.

    python pruned_in_ddp.py external|fork|spawn STORAGE OUTPUT [size]

``external``: the caller starts both processes (LOCAL_RANK), as torchrun does. With ``size``,
the network's size is a second objective of the study.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing import util
from pathlib import Path

import optuna
import pytorch_lightning as pl
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.callbacks import (
    OptunaMultiObjectivePruningCallback,
    OptunaPruningCallback,
)
from nas_plugins.estimators.moasha import MOASHA
from nas_plugins.optuna import MultiObjectivePruner, intermediate_values

EPOCHS = 3
SIZE = 7.0


class Scripted(pl.LightningModule):
    """Learns nothing that matters; its accuracy is written in a curve."""

    def __init__(self, curve: list[float]) -> None:
        super().__init__()
        self.curve = curve
        self.layer = nn.Linear(1, 1)

    def on_fit_start(self) -> None:
        # gloo's threads must end before their process does, or it may abort (see the end, too).
        if multiprocessing.parent_process() is not None:
            util.Finalize(None, torch.distributed.destroy_process_group, exitpriority=10)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return self.layer(batch[0]).sum()

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        # The processes differ; only their mean is the curve.
        apart = 0.25 * (-1) ** self.global_rank if self.trainer.world_size == 2 else 0.0
        self.log("val_acc", self.curve[self.current_epoch] + apart, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def callback_for(trial: optuna.Trial | None, *, with_size: bool) -> pl.Callback:
    if not with_size:
        return OptunaPruningCallback(trial)
    pruner = MultiObjectivePruner(MOASHA(min_resource=2))
    return OptunaMultiObjectivePruningCallback(trial, pruner, monitor=["val_acc", SIZE])


def fit(callback: pl.Callback, curve: list[float], start_method: str) -> float:
    data = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo", start_method=start_method),
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scripted(curve), data, data)
    return float(trainer.callback_metrics["val_acc"])


def main(mode: str, storage: str, output: Path, *, with_size: bool) -> None:
    rank = int(os.environ.get("LOCAL_RANK", 0)) if mode == "external" else 0
    start_method = "popen" if mode == "external" else mode
    study = None
    if rank == 0:
        study = optuna.create_study(
            directions=["maximize", "minimize"] if with_size else ["maximize"],
            storage=JournalStorage(JournalFileBackend(storage[len("journal:") :]))
            if storage.startswith("journal:")
            else (storage or None),
            pruner=optuna.pruners.ThresholdPruner(lower=0.5),
        )
    outcomes = []
    for curve in ([0.6, 0.7, 0.8], [0.6, 0.4, 0.8]):
        trial = study.ask() if study else None
        try:
            score = fit(callback_for(trial, with_size=with_size), curve, start_method)
            outcomes.append(["complete", round(score, 3)])
            if study:
                study.tell(trial, [score, SIZE] if with_size else score)
        except optuna.TrialPruned as pruned:
            outcomes.append(["pruned", str(pruned)])
            if study:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    result = {"outcomes": outcomes}
    if study:
        reports = [t.intermediate_values or intermediate_values(t) for t in study.trials]
        result["reports"] = [list(report.items()) for report in reports]
    output.with_suffix(f".{rank}").write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), with_size="size" in sys.argv[4:])
    if torch.distributed.is_initialized():  # where the caller started the processes
        torch.distributed.destroy_process_group()
