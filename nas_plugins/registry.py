"""Classes found by name: registered ones, or a user's own as ``package.module:Class``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["Registry"]


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
