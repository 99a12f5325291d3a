"""What is found by name: registered classes, or a user's own as ``package.module:Class``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Registry", "absolute", "module_of"]


class Registry:
    """Names of one kind of thing, imported when they are asked for.

    Args:
        kind: What they are, for messages.
        package: Package the targets' modules are relative to.
        targets: Name to ``module:Class``; a module that begins with a dot is one of the package
            above.
        error: Raised for what cannot be found or made.
    """

    def __init__(
        self, kind: str, package: str, targets: Mapping[str, str], error: type[Exception]
    ) -> None:
        self._kind, self._package = kind, package
        self._targets, self._error = targets, error

    def find(self, name: str) -> Any:
        """The class of a name."""
        target = self._targets.get(name)
        if target is None and ":" not in name:
            raise self._error(
                f"unknown {self._kind} {name!r}; expected one of {sorted(self._targets)}, or "
                "'package.module:Class' for a class of your own"
            )
        module, _, attribute = (target or name).partition(":")
        source = f".{module}" if target else module
        try:
            return getattr(importlib.import_module(source, self._package), attribute)
        except (ImportError, AttributeError) as error:
            raise self._error(f"{self._kind} {name!r} cannot be loaded: {error}") from error

    def check(self, name: str, options: Mapping[str, Any]) -> Any:
        """The class of a name, which takes these options beside its subject and a seed."""
        cls = self.find(name)
        _, *known = (p for p in inspect.signature(cls).parameters if p != "seed")
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise self._error(
                f"{self._kind} {name!r} has no option {unknown[0]!r}; its options are {known}"
            )
        return cls

    def create(self, name: str, subject: Any, seed: int, options: Mapping[str, Any]) -> Any:
        """An instance of the class of a name, for what it is about (a space, a supernet)."""
        make = self.check(name, options)
        try:
            return make(subject, seed=seed, **options)
        except TypeError as error:
            raise self._error(
                f"{self._kind} {name!r} does not take options {dict(options)}: {error}"
            ) from error


def module_of(source: str) -> ModuleType:
    """The module ``package.module``, or that of ``path/to/file.py``.

    A file is loaded once, since its classes are pickled by the module's name.

    Raises:
        ImportError: No such module, or it cannot be imported.
        FileNotFoundError: No such file.
    """
    if not source.endswith(".py"):
        return importlib.import_module(source)
    path = Path(source).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    # Another file of this name may be loaded; the longer name is this file's alone.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    for name in (path.stem, f"{path.stem}_{digest}"):
        loaded = sys.modules.get(name)
        if loaded is None:
            break
        if Path(getattr(loaded, "__file__", None) or "").resolve() == path:
            return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half a module
        raise
    return module


def absolute(name: str) -> str:
    """``path/to/file.py:attribute`` as a process in another directory can use it; others as is."""
    source, separator, attribute = name.rpartition(":")
    if separator and source.endswith(".py"):
        return f"{Path(source).resolve()}:{attribute}"
    return name
