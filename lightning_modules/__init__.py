"""Lightning's side: children of a search, their data, and their training.

Names are loaded on first use, so ``import lightning_modules`` imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "CIFAR100DataModule": "published",
    "CIFAR10DataModule": "published",
    "ChildClassifier": "child",
    "ChildResult": "training",
    "DataError": "data",
    "DatasetDataModule": "data",
    "DigitsDataModule": "published",
    "FashionMNISTDataModule": "published",
    "HyperTraining": "hyper_training",
    "ImageDataModule": "data",
    "ImageFolderDataModule": "published",
    "NearestChild": "inheritance",
    "ResumableLoader": "resumable",
    "SearchDataModule": "search_data",
    "SupernetClassifier": "supernet",
    "train_child": "training",
    "train_supernet": "supernet_training",
}

__all__ = [
    "CIFAR100DataModule",
    "CIFAR10DataModule",
    "ChildClassifier",
    "ChildResult",
    "DataError",
    "DatasetDataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "HyperTraining",
    "ImageDataModule",
    "ImageFolderDataModule",
    "NearestChild",
    "ResumableLoader",
    "SearchDataModule",
    "SupernetClassifier",
    "train_child",
    "train_supernet",
]

if TYPE_CHECKING:
    from lightning_modules.child import ChildClassifier
    from lightning_modules.data import DataError, DatasetDataModule, ImageDataModule
    from lightning_modules.hyper_training import HyperTraining
    from lightning_modules.inheritance import NearestChild
    from lightning_modules.published import (
        CIFAR10DataModule,
        CIFAR100DataModule,
        DigitsDataModule,
        FashionMNISTDataModule,
        ImageFolderDataModule,
    )
    from lightning_modules.resumable import ResumableLoader
    from lightning_modules.search_data import SearchDataModule
    from lightning_modules.supernet import SupernetClassifier
    from lightning_modules.supernet_training import train_supernet
    from lightning_modules.training import ChildResult, train_child


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
