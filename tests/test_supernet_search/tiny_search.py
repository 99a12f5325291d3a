"""A small space and data that tests of the search share; importable by a child process."""

from __future__ import annotations

import logging
import warnings

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nas_plugins import SearchSpace

CHANNELS = 4


class TinyNet(nn.Module):
    """Three choices of operation around one choice of inputs; norms may be left out."""

    def __init__(self, choose, channels=CHANNELS, norm=True, num_classes=10, dropout=0.0):
        super().__init__()

        def conv(kernel):
            layers = [nn.Conv2d(channels, channels, kernel, padding=kernel // 2), nn.Tanh()]
            return lambda: nn.Sequential(
                *layers, nn.BatchNorm2d(channels) if norm else nn.Identity()
            )

        def operation(label):
            return choose.layer(
                label,
                {"conv3": conv(3), "conv1": conv(1), "skip_connect": nn.Identity},
                only_in_mixture={"pool": lambda: nn.AvgPool2d(3, 1, 1)},
            )

        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.first = operation("cell/first")
        self.second = operation("cell/second")
        self.merge = choose.inputs("cell/merge", 3, num_chosen=None, required=[2])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.stem(x)
        first = self.first(x)
        second = self.second(first)
        return self.head(self.dropout(self.merge([x, first, second]).mean((2, 3))))


def tiny_space(**options):
    return SearchSpace.from_network(TinyNet, **options)


def images(num, seed):
    """Random images whose class is where they are brightest: learnable, and made in no time."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, 1, 8, 8, generator=generator)
    labels = torch.arange(num) % 10
    for i, label in enumerate(labels):
        x[i, 0, label % 8] += 2.0 + (label >= 8)
    return TensorDataset(x, labels)


def loaders(batch_size=8, num=64):
    return DataLoader(images(num, 0), batch_size), DataLoader(images(num, 1), batch_size)


class Classifier(pl.LightningModule):
    """What a user has: a module with a supernet somewhere in it."""

    def __init__(self, network, dropout=0.0):
        super().__init__()
        self.backbone = nn.ModuleDict({"net": network})
        self.outside = nn.Linear(10, 10)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.outside(self.dropout(self.backbone["net"](x)))

    def training_step(self, batch, batch_idx):
        x, labels = batch
        loss = nn.functional.cross_entropy(self(x), labels)
        self.log("train_loss", loss)
        return {"loss": loss, "other": 1}

    def validation_step(self, batch, batch_idx):
        x, labels = batch
        self.log("val_loss", nn.functional.cross_entropy(self(x), labels))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]


def quiet():
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)


def trainer(*callbacks, **options):
    quiet()
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "callbacks": list(callbacks),
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "log_every_n_steps": 1,
            **options,
        }
    )
