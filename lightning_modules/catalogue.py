"""Data modules by name, for commands and hosts that start in another process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_modules import published
from lightning_modules.data import DataError, ImageDataModule
from nas_plugins.registry import module_of

__all__ = ["DATA", "check_data", "data_module"]

DATA: dict[str, type[ImageDataModule]] = {
    "digits": published.DigitsDataModule,
    "cifar10": published.CIFAR10DataModule,
    "cifar100": published.CIFAR100DataModule,
    "fashion_mnist": published.FashionMNISTDataModule,
    "folder": published.ImageFolderDataModule,
}
"""Name to data module; all but ``digits`` read a directory of the user's."""


def data_module(
    name: str, *, directory: str | Path | None = None, **options: Any
) -> ImageDataModule:
    """The data module of a name.

    Args:
        name: A key of :data:`DATA`, or ``package.module:callable`` or ``file.py:callable`` of
            the user's own.
        directory: Where its images lie; not for ``digits``.
        options: Of the data module, such as ``batch_size`` and ``seed``.

    Raises:
        DataError: No such name, or no directory where one is needed.
    """
    check_data(name)
    if ":" in name:
        return _own(name)(**({} if directory is None else {"directory": directory}), **options)
    if name == "digits":
        return DATA[name](**options)
    if directory is None:
        raise DataError(
            f"data {name!r} is read from a directory, and none was given: name the one that "
            "holds its images"
        )
    return DATA[name](directory, **options)  # type: ignore[arg-type]


def check_data(name: str) -> None:
    """Whether there are data of a name; nothing is read.

    Raises:
        DataError: No such name.
    """
    if ":" in name:
        _own(name)
    elif name not in DATA:
        raise DataError(
            f"unknown data {name!r}; expected one of {sorted(DATA)}, 'package.module:callable' or "
            "'path/to/file.py:callable'"
        )


def _own(name: str) -> Callable[..., ImageDataModule]:
    source, _, attribute = name.rpartition(":")
    try:
        return getattr(module_of(source), attribute)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise DataError(f"data {name!r} cannot be loaded: {error}") from error
