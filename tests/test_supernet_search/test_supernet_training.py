"""One call that trains a supernet, cut off and resumed or not."""

import pytest
import pytorch_lightning as pl
import torch
from tiny_search import tiny_space

from lightning_modules import DigitsDataModule, SearchDataModule, train_supernet
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
