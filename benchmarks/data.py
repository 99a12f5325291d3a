"""Real data of the benchmarks, at a path the caller gives; never part of the package."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from lightning_modules.data import DataError, ImageDataModule, TensorImages, split

__all__ = ["CIFAR10JpegDataModule", "data_directory"]


def data_directory() -> Path:
    """``$NAS_PLUGINS_DATA``, else ``../shared/data`` beside the repository."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return Path(os.environ.get("NAS_PLUGINS_DATA", default))


class CIFAR10JpegDataModule(ImageDataModule):
    """CIFAR-10 kept as JPEG bytes in one ``.npz``: smaller, and slightly lossy.

    Arrays ``{train,test}_{jpeg,offset,y}``: all files of a part in sequence, where each
    begins, its class. Classes alternate, so that any first part is balanced.

    Args:
        path: The file.
        batch_size: Images per batch.
        limit: Use that many training images, and a fifth as many test images.
        image_size: Side in pixels, by averaging; 32 as they are.
        options: Of :class:`ImageDataModule`.
    """

    in_channels = 3
    num_classes = 10
    training_options = MappingProxyType({"learning_rate": 0.1})
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 128,
        *,
        limit: int = 50_000,
        image_size: int = 32,
        **options: Any,
    ) -> None:
        super().__init__(batch_size, **{"crop_padding": image_size // 8, "flip": True, **options})
        self.path = Path(path)
        self.limit = limit
        self.image_size = image_size

    def load(self) -> dict[str, Dataset[Any]]:
        if not self.path.is_file():
            raise DataError(f"no file {self.path}; expected CIFAR-10 as JPEG bytes in an .npz")
        with np.load(self.path, allow_pickle=False) as archive:
            train = self._decode(archive, "train", self.limit)
            test = self._decode(archive, "test", self.limit // 5)
        kept, val = split(train, self.validation_fraction, self.seed)
        return {"train": kept, "val": val, "test": test}

    def _decode(self, archive: Any, part: str, limit: int) -> TensorImages:
        offsets, content = archive[f"{part}_offset"][: limit + 1], archive[f"{part}_jpeg"]
        images = [
            self._resized(Image.open(io.BytesIO(content[start:end].tobytes())))
            for start, end in zip(offsets, offsets[1:], strict=False)
        ]
        labels = torch.as_tensor(archive[f"{part}_y"][: len(images)].astype(np.int64))
        return TensorImages(torch.as_tensor(np.stack(images)).permute(0, 3, 1, 2), labels)

    def _resized(self, image: Image.Image) -> np.ndarray:
        if image.width == self.image_size:
            return np.asarray(image)
        size = (self.image_size, self.image_size)
        return np.asarray(image.resize(size, Image.Resampling.BOX))
