"""Published image sets: digits, CIFAR-10 and -100, Fashion-MNIST, and a folder of images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_modules.data import (
    DataError,
    ImageDataModule,
    TensorImages,
    split,
    stratified_order,
)

__all__ = [
    "CIFAR100DataModule",
    "CIFAR10DataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
]


class DigitsDataModule(ImageDataModule):
    """Handwritten digits that come with scikit-learn: 1,797 grey images of 8x8 pixels.

    A fifth is for validation, a fifth for testing, both stratified by ``seed``. Small
    networks learn it in few epochs with a rate of 0.1, which is its ``training_options``.

    Args:
        batch_size: Images per batch.
        seed: Of the split.
        options: Of :class:`ImageDataModule`.
    """

    in_channels = 1
    num_classes = 10
    training_options = MappingProxyType({"learning_rate": 0.1})
    mean = (0.3053,)
    std = (0.3760,)

    def __init__(
        self, batch_size: int = 64, *, validation_fraction: float = 0.2, **options: Any
    ) -> None:
        super().__init__(batch_size, validation_fraction=validation_fraction, **options)

    def load(self) -> dict[str, Dataset[Any]]:
        images = TensorImages(*_digits())
        order = stratified_order(images.labels.numpy(), self.seed)
        test, val = len(order) // 5, round(len(order) * self.validation_fraction)
        parts = np.split(order, [test, test + val])
        return {
            name: TensorImages(images.images[part], images.labels[part])
            for name, part in zip(("test", "val", "train"), parts, strict=True)
        }


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return images, torch.as_tensor(digits.target)


class TorchvisionDataModule(ImageDataModule):
    """A set of torchvision's, held in memory.

    Args:
        directory: Where the published archive was unpacked, as torchvision lays it out.
        download: Whether torchvision may fetch it where it is absent.
        batch_size: Images per batch (DARTS: 96).
        options: Of :class:`ImageDataModule`.

    Raises:
        DataError: Nothing there.
    """

    torchvision_name: str

    def __init__(
        self,
        directory: str | Path,
        *,
        batch_size: int = 96,
        download: bool = False,
        crop_padding: int = 4,
        flip: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(batch_size, crop_padding=crop_padding, flip=flip, **options)
        self.directory = Path(directory)
        self.download = download

    def load(self) -> dict[str, Dataset[Any]]:
        train, val = split(self._read(train=True), self.validation_fraction, self.seed)
        return {"train": train, "val": val, "test": self._read(train=False)}

    def _read(self, *, train: bool) -> TensorImages:
        from torchvision import datasets

        try:
            # Published checksums are verified before anything is unpickled.
            raw = getattr(datasets, self.torchvision_name)(
                self.directory, train=train, download=self.download
            )
        except RuntimeError as error:
            raise DataError(
                f"{self.torchvision_name} is not in {self.directory.resolve()}, or is damaged "
                f"({error}). Unpack the published archive there, or pass download=True"
            ) from error
        images = torch.as_tensor(raw.data)
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
        return TensorImages(images, torch.as_tensor(raw.targets))


class CIFAR10DataModule(TorchvisionDataModule):
    """CIFAR-10: 50,000 and 10,000 colour images of 32x32 pixels (Krizhevsky 2009)."""

    torchvision_name = "CIFAR10"
    in_channels = 3
    num_classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)


class CIFAR100DataModule(TorchvisionDataModule):
    """CIFAR-100: as CIFAR-10, a hundred classes (Krizhevsky 2009)."""

    torchvision_name = "CIFAR100"
    in_channels = 3
    num_classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)


class FashionMNISTDataModule(TorchvisionDataModule):
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28x28 pixels (Xiao et al. 2017)."""

    torchvision_name = "FashionMNIST"
    in_channels = 1
    num_classes = 10
    mean = (0.2860,)
    std = (0.3530,)


class ImageFolderDataModule(ImageDataModule):
    """A folder with one folder of image files per class.

    With folders ``train`` and ``val`` (and ``test``) inside, those are the parts;
    otherwise validation and test images are split off, the test images a tenth.

    Args:
        directory: The folder.
        image_size: Side in pixels to which each image is scaled and centrally cropped.
        batch_size: Images per batch.
        mean, std: Per channel; default those of ImageNet.
        options: Of :class:`ImageDataModule`.

    Raises:
        DataError: No such folder, no images in it, or parts of differing classes.
    """

    in_channels = 3

    def __init__(
        self,
        directory: str | Path,
        *,
        image_size: int = 32,
        batch_size: int = 64,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
        flip: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(batch_size, flip=flip, **options)
        self.directory = Path(directory)
        self.image_size = image_size
        self.mean, self.std = mean, std
        inside = self.directory / "train"
        self.num_classes = len(self._read(inside if inside.is_dir() else self.directory).classes)

    def load(self) -> dict[str, Dataset[Any]]:
        named = [n for n in ("train", "val", "test") if (self.directory / n).is_dir()]
        if "train" not in named:
            rest, test = split(self._read(self.directory), 0.1, self.seed)
            train, val = split(rest, self.validation_fraction, self.seed)
            return {"train": train, "val": val, "test": test}
        parts: dict[str, Dataset[Any]] = {n: self._read(self.directory / n) for n in named}
        self._require_same_classes(parts)
        if "val" not in parts:
            parts["train"], parts["val"] = split(
                parts["train"], self.validation_fraction, self.seed
            )
        return parts

    def _require_same_classes(self, parts: dict[str, Any]) -> None:
        """Classes are numbered by the order of their folders, within each part anew."""
        expected = parts["train"].classes
        for name, part in parts.items():
            if part.classes != expected:
                raise DataError(
                    f"{self.directory / name} has the classes {part.classes}, and "
                    f"{self.directory / 'train'} has {expected}; expected the same folders in each"
                )

    def _read(self, directory: Path) -> Any:
        from torchvision import datasets, transforms

        transform = transforms.Compose(
            [
                transforms.Resize(self.image_size),
                transforms.CenterCrop(self.image_size),
                transforms.PILToTensor(),
            ]
        )
        try:
            return datasets.ImageFolder(str(directory), transform)
        except (FileNotFoundError, RuntimeError) as error:
            raise DataError(
                f"no images in {directory.resolve()}: {error}. Expected one folder per class "
                "with image files in it"
            ) from error
