"""Real photographs through the whole path, where the archive is at hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.data import CIFAR10JpegDataModule, data_directory
from lightning_modules import DataError, train_child
from lightning_modules.data import labels_of
from nas_plugins import Budget

PATH = data_directory() / "cifar10_jpeg_full.npz"


@pytest.mark.skipif(not PATH.is_file(), reason=f"no {PATH}; set NAS_PLUGINS_DATA")
def test_real_photographs(space, architecture):
    data = CIFAR10JpegDataModule(PATH, limit=500, cutout=0.5)
    assert [len(data.part(p)) for p in ("train", "val", "test")] == [450, 50, 100]
    assert np.bincount(labels_of(data.part("val"))).tolist() == [5] * 10
    images = np.concatenate([batch.numpy() for batch, _ in data.train_dataloader()])
    assert images.shape == (450, 3, 32, 32)
    assert np.abs(images.mean((0, 2, 3))).max() < 0.1
    assert np.abs(images.std((0, 2, 3)) - 1).max() < 0.1
    result = train_child(space, architecture, data, budget=Budget(epochs=2), accelerator="cpu")
    assert result.metrics["train_loss"] < np.log(10)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*absent\.npz"):
        CIFAR10JpegDataModule(tmp_path / "absent.npz").setup()
