"""Where a study is kept, from what the command line says."""

from __future__ import annotations

from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from nas_plugins.cli import OptionError

__all__ = ["opened"]


def opened(storage: str) -> BaseStorage:
    """The storage of a URL, or of a journal's file.

    Raises:
        OptionError: It cannot be opened.
    """
    try:
        if "://" not in storage:
            return JournalStorage(JournalFileBackend(storage))
        return get_storage(storage)
    except Exception as error:  # of the database's driver, whichever that is
        raise OptionError(
            f"storage {storage!r} cannot be opened ({type(error).__name__}: {error}); expected "
            "the file of a journal, or a URL such as sqlite:///study.db whose driver is installed"
        ) from error
