"""Published sets, read from small files in the published formats."""

from __future__ import annotations

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from lightning_modules import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    DataError,
    FashionMNISTDataModule,
    ImageFolderDataModule,
)

RNG = np.random.default_rng(0)


def write_pickle(path, content) -> str:
    """Write as the CIFAR archives do; returns the checksum that torchvision verifies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


def batch(num: int, num_classes: int, key: str) -> dict:
    pixels = RNG.integers(0, 256, (num, 3072), dtype=np.uint8)
    return {"data": pixels, key: [i % num_classes for i in range(num)]}


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    folder = tmp_path / datasets.CIFAR10.base_folder
    files = {name: batch(40, 10, "labels") for name, _ in datasets.CIFAR10.train_list}
    sums = [[name, write_pickle(folder / name, content)] for name, content in files.items()]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums)
    test = write_pickle(folder / "test_batch", batch(20, 10, "labels"))
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", test]])
    meta = write_pickle(folder / "batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", meta)
    return tmp_path, files


def test_cifar10(cifar10):
    directory, files = cifar10
    data = CIFAR10DataModule(directory, batch_size=8, validation_fraction=0.25)
    assert [len(data.part(p)) for p in ("train", "val", "test")] == [150, 50, 20]
    pixels = np.concatenate([c["data"] for c in files.values()]).reshape(-1, 3, 32, 32)
    image, label = data.part("val")[3]
    index = data.part("val").indices[3]
    assert torch.equal(image, torch.as_tensor(pixels[index]))
    assert label == index % 10
    images, _ = next(iter(data.val_dataloader()))
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
    torch.testing.assert_close(images[3], (image / 255 - mean) / std)


def test_cifar10_damaged(cifar10):
    directory, _ = cifar10
    path = directory / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"CIFAR10 is not in .* or is damaged.*download=True"):
        CIFAR10DataModule(directory).setup()


def test_cifar100(tmp_path, monkeypatch):
    folder = tmp_path / datasets.CIFAR100.base_folder
    for split in ("train", "test"):
        content = batch(200, 100, "fine_labels")
        checksum = write_pickle(folder / split, content)
        monkeypatch.setattr(datasets.CIFAR100, f"{split}_list", [[split, checksum]])
    meta = write_pickle(folder / "meta", {"fine_label_names": [str(i) for i in range(100)]})
    monkeypatch.setitem(datasets.CIFAR100.meta, "md5", meta)
    data = CIFAR100DataModule(tmp_path, validation_fraction=0.5)
    assert sorted(label for _, label in data.part("val")) == list(range(100))
    assert data.image_shape == (3, 32, 32)


def test_fashion_mnist(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = {}
    for prefix, num in (("train", 50), ("t10k", 20)):
        pixels[prefix] = RNG.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        images = struct.pack(">4i", 0x803, num, 28, 28) + pixels[prefix].tobytes()
        labels = struct.pack(">2i", 0x801, num) + bytes(i % 10 for i in range(num))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    data = FashionMNISTDataModule(tmp_path)
    assert [len(data.part(p)) for p in ("train", "val", "test")] == [45, 5, 20]
    assert torch.equal(data.part("test")[7][0], torch.as_tensor(pixels["t10k"][7])[None])
    assert data.image_shape == (1, 28, 28)


@pytest.mark.parametrize("kind", [CIFAR10DataModule, CIFAR100DataModule, FashionMNISTDataModule])
def test_absent_set_says_how_to_get_it(kind, tmp_path):
    with pytest.raises(DataError, match=r"is not in .*Unpack the published archive.*download=True"):
        kind(tmp_path).setup()


def write_images(folder, num: int) -> None:
    for color, name in (((255, 0, 0), "apple"), ((0, 0, 255), "sea")):
        (folder / name).mkdir(parents=True)
        for i in range(num):
            Image.new("RGB", (20, 14), color).save(folder / name / f"{i}.png")


@pytest.mark.parametrize("part", ["val", "test"])
def test_folder_with_parts_of_differing_classes_is_refused(tmp_path, part):
    for name in ("train", "val", "test"):
        write_images(tmp_path / name, 2)
    (tmp_path / part / "apple").rename(tmp_path / part / "stone")
    with pytest.raises(DataError, match=rf"{part} has .*\['sea', 'stone'\].*\['apple', 'sea'\]"):
        ImageFolderDataModule(tmp_path).setup()


def test_folder_with_parts(tmp_path):
    for name, num in (("train", 6), ("val", 2), ("test", 1)):
        write_images(tmp_path / name, num)
    data = ImageFolderDataModule(tmp_path, image_size=10, mean=(), std=())
    assert [len(data.part(p)) for p in ("train", "val", "test")] == [12, 4, 2]
    images, labels = next(iter(data.val_dataloader()))
    assert images.shape == (4, 3, 10, 10)
    assert labels.tolist() == [0, 0, 1, 1]
    assert images[0].amax((1, 2)).tolist() == [1, 0, 0]


def test_folder_without_parts_is_split(tmp_path):
    write_images(tmp_path, 10)
    data = ImageFolderDataModule(tmp_path, validation_fraction=0.25)
    assert [len(data.part(p)) for p in ("train", "val", "test")] == [14, 4, 2]
    assert (data.num_classes, data.image_shape) == (2, (3, 32, 32))


def test_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no images in .*one folder per class"):
        ImageFolderDataModule(tmp_path)
