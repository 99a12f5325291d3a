"""Data modules: splits, subsets, normalisation, augmentation, what is said of bad data."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from lightning_modules import DataError, DatasetDataModule, DigitsDataModule
from lightning_modules.data import TensorImages, labels_of, split, stratified_order


def shares(labels) -> np.ndarray:
    return np.bincount(np.asarray(labels), minlength=10) / len(labels)


def images_of(part) -> set[bytes]:
    return {part[i][0].numpy().tobytes() for i in range(len(part))}


# -- splits -----------------------------------------------------------------------------


def test_every_stretch_of_the_order_is_stratified():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = stratified_order(labels, seed=0)
    assert sorted(order) == list(range(1000))
    for start in (0, 250, 730):
        counts = np.bincount(labels[order[start : start + 100]], minlength=3)
        assert np.all(np.abs(counts - [60, 30, 10]) <= 1)


def test_order_differs_by_seed_alone():
    labels = np.arange(200) % 10
    assert np.array_equal(stratified_order(labels, 1), stratified_order(labels, 1))
    assert not np.array_equal(stratified_order(labels, 1), stratified_order(labels, 2))


def test_digits_are_split_into_disjoint_stratified_parts(digits):
    parts = {name: digits.part(name) for name in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [1079, 359, 359]
    whole = shares(np.concatenate([labels_of(part) for part in parts.values()]))
    for part in parts.values():
        assert np.abs(shares(labels_of(part)) - whole).max() < 0.005
    images = [images_of(part) for part in parts.values()]
    assert sum(len(i) for i in images) == len(set.union(*images))


def test_split_follows_its_seed():
    first, again, other = (DigitsDataModule(seed=s).part("val").images for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_data_fraction_is_stratified_and_nested(digits, fraction):
    def loaded(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        batches = list(digits.prepared_for(data_fraction=share).train_dataloader())
        return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])

    images, labels = loaded(fraction)
    assert len(labels) == round(1079 * fraction)
    assert np.abs(shares(labels) - shares(labels_of(digits.part("train")))).max() < 0.02
    larger = {i.numpy().tobytes() for i in loaded(0.8)[0]}
    assert {i.numpy().tobytes() for i in images} <= larger


def test_order_of_training_follows_seed_and_epoch(digits):
    def order(seed: int, epoch: int) -> torch.Tensor:
        loader = digits.prepared_for(seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([labels for _, labels in loader])

    assert torch.equal(order(0, 0), order(0, 0))
    assert not torch.equal(order(0, 0), order(0, 1))
    assert not torch.equal(order(0, 0), order(1, 0))


# -- batches ----------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "last"), [(54, 53), (77, 77), (49, 49), (1, 1)])
def test_no_training_batch_of_a_single_image(digits, batch_size, last):
    loader = digits.prepared_for(batch_size=batch_size).train_dataloader()
    sizes = [len(labels) for _, labels in loader]
    assert sizes[-1] == last


def test_digits_are_normalised(digits):
    images = torch.cat([i for i, _ in digits.prepared_for().train_dataloader()])
    assert images.shape == (1079, 1, 8, 8)
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(1, abs=0.02)


def test_copies_share_images_and_leave_the_original(digits):
    copy = digits.prepared_for(seed=5, batch_size=8, data_fraction=0.5)
    assert copy.part("train") is digits.part("train")
    assert (digits.training_seed, digits.batch_size, digits.data_fraction) == (0, 64, 1.0)
    assert copy.describe() != digits.describe()


class Collect(pl.LightningModule):
    """Keeps the batches that a training step receives."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        self.batches.append(batch[0])
        return self.layer(batch[0].mean().view(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.validation = batch[0]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


def collected(data: DigitsDataModule, epochs: int = 2) -> Collect:
    module = Collect()
    pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=epochs, limit_train_batches=2,
    ).fit(module, datamodule=data)  # fmt: skip
    return module


def test_augmentation_follows_the_seed_wherever_images_are_loaded():
    def data(seed: int, workers: int, **options) -> DigitsDataModule:
        options = options or {"crop_padding": 1, "cutout": 0.25}
        module = DigitsDataModule(32, num_workers=workers, **options)
        return module.prepared_for(seed=seed)

    here = collected(data(0, 0))
    there = collected(data(0, 1))
    plain = collected(data(0, 0, crop_padding=0))
    assert all(torch.equal(a, b) for a, b in zip(here.batches, there.batches, strict=True))
    assert not torch.equal(here.batches[0], plain.batches[0])
    assert torch.equal(here.validation, plain.validation)
    assert not torch.equal(here.batches[0], here.batches[2])


def test_crop_pads_with_black():
    module = collected(DigitsDataModule(crop_padding=8), epochs=1)
    black = -0.3053 / 0.3760
    assert module.batches[0].min().item() == pytest.approx(black)


# -- the user's own ---------------------------------------------------------------------


class Pairs(Dataset):
    """No list of labels, no batches: the least that a dataset is."""

    def __init__(self, num: int, num_classes: int = 4) -> None:
        self.num, self.num_classes = num, num_classes

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index):
        image = torch.full((3, 6, 5), index % 256, dtype=torch.uint8)
        return image, index % self.num_classes


def test_any_dataset_serves():
    data = DatasetDataModule(Pairs(80), batch_size=16, validation_fraction=0.25)
    assert (data.in_channels, data.num_classes, data.image_shape) == (3, 4, (3, 6, 5))
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (16, 3, 6, 5)
    assert images.dtype == torch.float32
    assert images.max() <= 79 / 255
    assert labels.dtype == torch.long
    assert len(data.part("val")) == 20
    assert np.bincount(labels_of(data.part("val"))).tolist() == [5, 5, 5, 5]
    with pytest.raises(DataError, match=r"has no test data; it has \['train', 'val'\]"):
        data.test_dataloader()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_images_of_any_type_are_trained_on_as_float32(dtype, space):
    images = torch.arange(12 * 36).reshape(12, 1, 6, 6).to(dtype)
    part = TensorDataset(images, torch.arange(12) % 10)
    data = DatasetDataModule(part, part, num_classes=10, batch_size=12)
    batch, _ = next(iter(data.val_dataloader()))
    torch.testing.assert_close(batch, images.float())
    network = space.build(space.default(), in_channels=1, num_classes=10)
    data.check(network)
    network(batch).sum().backward()  # what training does beyond the check


class Listed(Pairs):
    """Keeps a list of what its labels are made of."""

    def __init__(self, targets, target_transform=None) -> None:
        super().__init__(len(targets))
        self.targets, self.target_transform = targets, target_transform

    def __getitem__(self, index):
        change = self.target_transform or {"cat": 1, "dog": 0}.get
        return super().__getitem__(index)[0], change(self.targets[index])


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Listed([0, 1, 2, 3], lambda target: target // 2), [0, 0, 1, 1]),
        (Listed(["cat", "dog", "cat", "dog"]), [1, 0, 1, 0]),
    ],
)
def test_labels_are_those_that_the_dataset_returns(part, expected):
    assert labels_of(part).tolist() == expected
    data = DatasetDataModule(part, part, batch_size=4)
    assert data.num_classes == 2
    assert next(iter(data.val_dataloader()))[1].tolist() == expected


def test_listed_labels_need_no_images(monkeypatch):
    part = Listed([3, 1, 2])
    monkeypatch.setattr(Listed, "__getitem__", lambda self, index: 1 / 0)
    assert labels_of(part).tolist() == [3, 1, 2]


def test_labels_that_are_no_number_are_named():
    part = Listed(["cat", "dog"], str.upper)
    with pytest.raises(DataError, match=r"label 'CAT'; expected the number of its class"):
        DatasetDataModule(part)


def test_datasets_of_tensors_and_given_parts():
    part = TensorDataset(torch.rand(12, 1, 4, 4), torch.arange(12) % 3)
    data = DatasetDataModule(part, part, part, batch_size=4, mean=[0.5], std=[0.25])
    images, _ = next(iter(data.test_dataloader()))
    torch.testing.assert_close(images[0], (part[0][0] - 0.5) / 0.25)


def test_parts_of_a_split_are_disjoint_even_when_tiny():
    first, second = split(Pairs(3), 0.01, seed=0)
    assert sorted([*first.indices, *second.indices]) == [0, 1, 2]
    assert len(second) == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(28, 28), r"shape \(28, 28\); expected a tensor \(channels, height, width\)"),
        (np.zeros((3, 8, 8)), r"numpy\.ndarray.*ToTensor"),
    ],
)
def test_images_of_the_wrong_shape_are_named(image, message):
    with pytest.raises(DataError, match=message):
        DatasetDataModule([(image, 0), (image, 1)])


def test_tensors_of_the_wrong_shape_are_named():
    with pytest.raises(DataError, match=r"images have shape \(5, 8, 8\) and labels \(5,\)"):
        TensorImages(torch.zeros(5, 8, 8), torch.zeros(5))


def test_labels_that_are_no_class_are_named():
    data = DatasetDataModule(Pairs(20), num_classes=3, batch_size=20)
    with pytest.raises(DataError, match=r"label 3; expected 0 to 2"):
        list(data.train_dataloader())


@pytest.mark.parametrize(
    "option", [{"batch_size": 0}, {"validation_fraction": 1.0}, {"data_fraction": 0.0}]
)
def test_options_out_of_range_are_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        DigitsDataModule(**option)


def test_data_module_is_picklable_for_spawned_processes():
    data = pickle.loads(pickle.dumps(DigitsDataModule()))
    assert len(data.part("val")) == 359
