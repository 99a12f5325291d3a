"""Images for children: stratified splits, normalisation, augmentation, loaders."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from lightning_modules.augmentation import Augmentation
from nas_plugins.errors import NasPluginsError

__all__ = ["DataError", "DatasetDataModule", "ImageDataModule", "TensorImages"]


class DataError(NasPluginsError, ValueError):
    """Images or labels are not there, or not as the network or the module expects them."""


class TensorImages(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory; a batch is one indexing operation.

    Args:
        images: ``(samples, channels, height, width)``, uint8 or float.
        labels: ``(samples,)`` class numbers.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dim() != 4 or labels.dim() != 1 or len(images) != len(labels):
            raise DataError(
                f"images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; "
                "expected (samples, channels, height, width) and (samples,)"
            )
        self.images = images
        self.labels = labels.long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


_LOOKED_AT = 16
"""Images of each part that tell it from another of as many."""


class ImageDataModule(pl.LightningDataModule, ABC):
    """Training, validation and test images of one classification task.

    A subclass gives its data in :meth:`load` and its facts as class attributes. Batches
    are normalised by the loaders and, in training, augmented after the transfer to the
    device, by draws that depend on seed, epoch and batch alone: workers, threads and
    resumed trainings see the same images.

    Args:
        batch_size: Images per batch and process.
        seed: Of the split, the subset and, unless :meth:`prepared_for` says otherwise, the
            order and the augmentation.
        validation_fraction: Share of the training images held out for validation,
            stratified; the same for every training seed, so that scores are comparable.
        data_fraction: Share of what remains that is trained on, stratified; a smaller
            share is contained in a larger one.
        num_workers: Processes that load; 0 loads in the training process.
        crop_padding: Pixels of zeros around an image before it is cropped back at random.
        flip: Whether to mirror half of the training images.
        cutout: Side of the square set to the mean, as a share of the image's side, in
            [0, 1); 0 for none (DARTS: 0.5, 16 of 32 pixels).

    Attributes:
        in_channels, num_classes: Of the data.
        training_options: Options of ``ChildClassifier`` that suit the data better than its
            defaults.
        mean, std: Per channel, of images in [0, 1]; empty where a dataset normalises itself.

    Raises:
        DataError: The images are not as expected.
        ValueError: An option is out of its range.
    """

    in_channels: int
    num_classes: int
    training_options: Mapping[str, Any] = MappingProxyType({})
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __init__(
        self,
        batch_size: int = 64,
        *,
        seed: int = 0,
        validation_fraction: float = 0.1,
        data_fraction: float = 1.0,
        num_workers: int = 0,
        crop_padding: int = 0,
        flip: bool = False,
        cutout: float = 0.0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction is {validation_fraction}; expected in (0, 1)")
        if not 0 < data_fraction <= 1:
            raise ValueError(f"data_fraction is {data_fraction}; expected in (0, 1]")
        self.batch_size = batch_size
        self.seed = seed
        self.training_seed = seed
        self.validation_fraction = validation_fraction
        self.data_fraction = data_fraction
        self.num_workers = num_workers
        self.augmentation = Augmentation(crop_padding=crop_padding, flip=flip, cutout=cutout)
        self._parts: dict[str, Dataset[Any]] | None = None
        self._digests: dict[str, str | None] | None = None
        self._stream: tuple[tuple[int, ...], torch.Generator] | None = None

    @abstractmethod
    def load(self) -> dict[str, Dataset[Any]]:
        """Datasets of (image, label) named ``train``, ``val`` and, if there is one, ``test``."""

    def prepared_for(
        self,
        *,
        seed: int | None = None,
        batch_size: int | None = None,
        data_fraction: float | None = None,
    ) -> ImageDataModule:
        """A copy for one training that shares the images; this one stays as it is.

        Args:
            seed: Of the order and the augmentation, not of the split.
            batch_size: In place of this module's own.
            data_fraction: In place of this module's own.
        """
        self.setup()  # once for all copies
        other = copy.copy(self)
        other.trainer = None
        other._stream = None
        if seed is not None:
            other.training_seed = seed
        if batch_size is not None:
            other.batch_size = batch_size
        if data_fraction is not None:
            other.data_fraction = data_fraction
        return other

    def describe(self) -> dict[str, Any]:
        """What shapes the batches, JSON-able: equal for data modules that give the same.

        Of the images themselves a few are looked at, unless the dataset draws them anew.
        """
        return {
            "data": type(self).__name__,
            "sizes": {name: len(part) for name, part in self._loaded().items()},  # type: ignore[arg-type]
            "images": self._glanced(),
            "image_shape": self.image_shape,
            "normalisation": [self.mean, self.std],
            "batch_size": self.batch_size,
            "seed": self.seed,
            "validation_fraction": self.validation_fraction,
            "data_fraction": self.data_fraction,
            "augmentation": asdict(self.augmentation),
        }

    def _glanced(self) -> dict[str, str | None]:
        """Digest of some images of each part; ``None`` where a second look gives others."""
        if self._digests is None:
            looks = [{name: self._look(p) for name, p in self._loaded().items()} for _ in range(2)]
            first, second = looks
            self._digests = {n: seen if second[n] == seen else None for n, seen in first.items()}
        return self._digests

    def _look(self, part: Dataset[Any]) -> str:
        size, digest = len(part), hashlib.sha256()  # type: ignore[arg-type]
        some = [part[i * size // _LOOKED_AT] for i in range(_LOOKED_AT) if size]
        for tensor in Collate(self.num_classes, self.mean, self.std)(some) if some else ():
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    # -- loaders ------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        self._loaded()

    def _loaded(self) -> dict[str, Dataset[Any]]:
        if self._parts is None:
            missing = [n for n in ("in_channels", "num_classes") if not hasattr(self, n)]
            if missing:
                raise DataError(
                    f"{type(self).__name__} has no {missing[0]}; expected the attributes "
                    "in_channels and num_classes of its images"
                )
            self._parts = self.load()
        return self._parts

    def part(self, name: str) -> Dataset[Any]:
        """The dataset ``train``, ``val`` or ``test``, before ``data_fraction``."""
        parts = self._loaded()
        if name not in parts:
            raise DataError(f"{type(self).__name__} has no {name} data; it has {list(parts)}")
        return parts[name]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of a batch's images."""
        images, _ = Collate(self.num_classes, self.mean, self.std)([self.part("val")[0]])
        channels, height, width = images.shape[1:]
        return channels, height, width

    def train_dataloader(self) -> DataLoader[Any]:
        return self._training_loader(self.part("train"))

    def _training_loader(self, part: Dataset[Any]) -> DataLoader[Any]:
        """Of a share of a part, as ``data_fraction`` says, in the order of seed and epoch."""
        if self.data_fraction < 1:
            balanced = stratified_order(labels_of(part), self.seed + 1)
            size = max(1, round(len(balanced) * self.data_fraction))
            part = Subset(part, balanced[:size].tolist())
        rank, world = 0, 1
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
        # Also alone: its order is a function of seed and epoch, which Lightning tells it.
        order: DistributedSampler[Any] = DistributedSampler(
            part, world, rank, seed=self.training_seed
        )
        # A single image has no batch statistics: where all is 1x1, batch norm refuses it.
        single = len(order) > 1 and len(order) % self.batch_size == 1
        return self._loader(part, sampler=order, drop_last=single)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.part("val"))

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.part("test"))

    def _loader(self, part: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(
            part,
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=Collate(self.num_classes, self.mean, self.std),
            # Its own generator: making an iterator draws a number, else from the global one.
            generator=torch.Generator().manual_seed(self.training_seed),
            **options,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        trainer = self.trainer
        if trainer is None or not trainer.training or not self.augmentation:
            return batch
        images, labels = batch
        key = (self.training_seed, trainer.current_epoch, trainer.global_rank)
        if self._stream is None or self._stream[0] != key:
            seed = int(np.random.SeedSequence(key).generate_state(1)[0])
            self._stream = key, torch.Generator().manual_seed(seed)
        return self.augmentation(images, self._stream[1], self._black(images)), labels

    def _black(self, images: Tensor) -> Tensor:
        """What a black pixel is after normalisation, shape ``(channels, 1, 1)``."""
        if not self.mean:
            return images.new_zeros(1, 1, 1)
        return -(images.new_tensor(self.mean) / images.new_tensor(self.std))[:, None, None]

    # -- agreement with a network -------------------------------------------------------

    def check(self, network: nn.Module) -> None:
        """Raise unless the network takes these images and tells these classes apart.

        Raises:
            DataError: Names what the data has and what the network expects.
        """
        images, _ = Collate(self.num_classes, self.mean, self.std)([self.part("val")[0]])
        shape = tuple(images.shape[1:])
        if shape[0] != self.in_channels:
            raise DataError(
                f"{type(self).__name__} gives images of shape {shape}; expected "
                f"{self.in_channels} channels first: (channels, height, width)"
            )
        device = next(network.parameters(), images).device
        training = network.training
        try:
            with torch.no_grad():
                output = network.eval()(images.to(device))
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"the network cannot take the images of {type(self).__name__}, of shape {shape} "
                f"(channels, height, width); it expects {_expected(network)}: {error}. Give the "
                "space the data's in_channels, or take other data"
            ) from error
        finally:
            network.train(training)
        logits = output[0] if isinstance(output, tuple) else output
        if logits.shape != (1, self.num_classes):
            raise DataError(
                f"the network gives an output of shape {tuple(logits.shape)} for one image; "
                f"{type(self).__name__} has {self.num_classes} classes, so expected "
                f"(1, {self.num_classes}): give the space num_classes={self.num_classes}"
            )


class DatasetDataModule(ImageDataModule):
    """Any datasets of (image, label) pairs, images as tensors ``(channels, height, width)``.

    Args:
        train: To train on.
        val: To validate on; ``None`` splits it off ``train``.
        test: To test on.
        num_classes: Default: one more than the greatest label of ``train``.
        mean, std: Per channel; default: images are taken as they come (uint8 over 255).
        options: Of :class:`ImageDataModule`.
    """

    def __init__(
        self,
        train: Dataset[Any],
        val: Dataset[Any] | None = None,
        test: Dataset[Any] | None = None,
        *,
        num_classes: int | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.train, self.val, self.test = train, val, test
        self.mean, self.std = tuple(mean), tuple(std)
        first = train[0][0]
        if not isinstance(first, Tensor) or first.dim() != 3:
            got = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first)
            raise DataError(
                f"the first training image is {got}; expected a tensor (channels, height, width): "
                "put torchvision.transforms.ToTensor() into the dataset's transform"
            )
        self.in_channels = first.shape[0]
        self.num_classes = num_classes or int(labels_of(train).max()) + 1

    def load(self) -> dict[str, Dataset[Any]]:
        parts = {"train": self.train, "val": self.val, "test": self.test}
        if self.val is None:
            parts["train"], parts["val"] = split(self.train, self.validation_fraction, self.seed)
        return {name: part for name, part in parts.items() if part is not None}


class Collate:
    """Stacks a batch; makes float32 images of mean zero and unit variance.

    Raises:
        DataError: A label is no class: a GPU would only say that an assertion failed.
    """

    def __init__(self, num_classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.num_classes = num_classes
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, batch: Any) -> tuple[Tensor, Tensor]:
        if not (isinstance(batch, tuple) and isinstance(batch[0], Tensor)):
            images = torch.stack([image for image, _ in batch])
            batch = images, torch.tensor([_class_number(label) for _, label in batch])
        images, labels = batch
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong):
            raise DataError(
                f"an image has label {int(wrong[0])}; expected 0 to {self.num_classes - 1}, as "
                f"the data module has {self.num_classes} classes"
            )
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if len(self.mean):
            images = (images - self.mean[:, None, None]) / self.std[:, None, None]
        return images, labels


# -- splits -----------------------------------------------------------------------------


def labels_of(part: Dataset[Any]) -> np.ndarray:
    """Labels that a dataset returns; its images are loaded only where no list tells them.

    Raises:
        DataError: A label is no number.
    """
    if isinstance(part, Subset):
        return labels_of(part.dataset)[np.asarray(part.indices)]
    size = len(part)  # type: ignore[arg-type]
    if getattr(part, "target_transform", None) is None:
        for name in ("labels", "targets"):
            kept = np.asarray(getattr(part, name, None))
            if kept.shape == (size,) and np.issubdtype(kept.dtype, np.integer):
                return kept
    return np.array([_class_number(part[i][1]) for i in range(size)])


def _class_number(label: Any) -> int:
    try:
        return int(label)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"an image has label {label!r}; expected the number of its class: give the dataset a "
            "target_transform that makes one"
        ) from error


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Permutation of the samples of which every stretch is (nearly) stratified.

    The k-th of the n samples of a class, in random order, stands at ``(k + u) / n`` of the
    whole, with one random u in [0, 1) per class.
    """
    rng = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


def split(part: Dataset[Any], fraction: float, seed: int) -> tuple[Subset[Any], Subset[Any]]:
    """Two disjoint stratified parts, the second with ``fraction`` of the samples."""
    order = stratified_order(labels_of(part), seed)
    held_out = min(max(1, round(len(order) * fraction)), len(order) - 1)
    return Subset(part, order[held_out:].tolist()), Subset(part, order[:held_out].tolist())


def _expected(network: nn.Module) -> str:
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            return f"{module.in_channels} channels"
        if isinstance(module, nn.Linear):
            return f"{module.in_features} features"
    return "something else"
