"""One call that trains a supernet, cut off and resumed or not."""

import math

import pytest
import pytorch_lightning as pl
import torch
from tiny_search import tiny_space

from lightning_modules import (
    DigitsDataModule,
    SearchDataModule,
    SupernetClassifier,
    train_supernet,
)
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.rebuild import CheckpointError


@pytest.fixture(scope="module")
def data():
    return DigitsDataModule(32, data_fraction=0.1)


class PowerCut(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("mutator", ["gdas", "uniform"])
def test_what_was_cut_off_goes_on_as_if_never_stopped(mutator, data, tmp_path):
    options = {"epochs": 3, "seed": 4, "accelerator": "cpu"}
    torch.manual_seed(11)
    whole = train_supernet(tiny_space(), mutator, data, **options)
    assert torch.initial_seed() == 11
    checkpoint = tmp_path / "supernet" / "last.ckpt"
    with pytest.raises(RuntimeError, match="power cut"):
        train_supernet(
            tiny_space(), mutator, data, checkpoint=checkpoint, callbacks=[PowerCut()], **options
        )
    for _ in range(2):  # goes on; then there is nothing left to do
        again = train_supernet(tiny_space(), mutator, data, checkpoint=checkpoint, **options)
        expected, found = whole.state_dict(), again.state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
        assert again.search.history == whole.search.history
        assert len(again.search.history) == 3
    assert again.rank(data, num=1) == whole.rank(data, num=1)
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


class Seen(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        self.data = trainer.datamodule


@pytest.mark.parametrize(("mutator", "splits"), [("gdas", True), ("uniform", False)])
def test_only_methods_that_need_it_take_half_of_the_images(mutator, splits, data):
    seen = Seen()
    train_supernet(tiny_space(), mutator, data, epochs=1, accelerator="cpu", callbacks=[seen])
    assert isinstance(seen.data, SearchDataModule) == splits
    data.setup()
    assert len(seen.data.part("train")) == pytest.approx(
        len(data.part("train")) / (2 if splits else 1), abs=10
    )


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        train_supernet(tiny_space(), "gdas", data, epochs=1, checkpoint=tmp_path / "last.ckpt")


class Rates(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_more_epochs_take_up_the_longer_schedule(data, tmp_path):
    checkpoint, rates = tmp_path / "last.ckpt", Rates()
    for epochs in (2, 4):
        module = train_supernet(
            tiny_space(), "uniform", data, epochs=epochs, checkpoint=checkpoint, callbacks=[rates],
            accelerator="cpu",
        )  # fmt: skip
    low, high = module.hparams["min_learning_rate"], module.hparams["learning_rate"]
    cosine = [low + (high - low) * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    assert rates.seen == pytest.approx([high, (low + high) / 2, *cosine[2:]])


def test_a_checkpoint_of_another_search_is_refused(data, tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    options = {"epochs": 1, "checkpoint": checkpoint, "accelerator": "cpu"}
    train_supernet(tiny_space(), "darts", data, **options)
    with pytest.raises(CheckpointError, match="mutator='darts'; asked for was mutator='gdas'"):
        train_supernet(tiny_space(), "gdas", data, **options)
    with pytest.raises(CheckpointError, match="seed=0; asked for was seed=7"):
        train_supernet(tiny_space(), "darts", data, seed=7, **options)


def test_a_latency_table_is_kept_in_the_checkpoint(data, tmp_path):
    table = LatencyTable({"cell/first": {"conv3": 2.0, "conv1": 1.0, "skip_connect": 0.0}}, 3.0)
    table.write(tmp_path / "latency.json")
    for given in (table, tmp_path / "latency.json", str(tmp_path / "latency.json")):
        options = {"mutator_options": {"latency_ms": given, "latency_weight": 0.1}}
        module = train_supernet(
            tiny_space(), "proxyless", data, epochs=1, accelerator="cpu",
            checkpoint=tmp_path / "last.ckpt", **options,
        )  # fmt: skip
    (tmp_path / "latency.json").unlink()
    loaded = SupernetClassifier.load_from_checkpoint(tmp_path / "last.ckpt", network=module.space)
    best = module.space.default()
    assert loaded.search.mutator.latency.of(best) == module.search.mutator.latency.of(best) == 5.0


@pytest.mark.parametrize("name", ["callbacks", "max_epochs"])
def test_what_has_an_argument_is_no_option_of_the_trainer(name, data):
    with pytest.raises(ValueError, match=f"trainer_options has '{name}', which is train_supernet"):
        train_supernet(tiny_space(), "uniform", data, epochs=1, trainer_options={name: []})
