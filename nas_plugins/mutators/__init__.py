"""Mutators: how a supernet's gates are driven, one published method a file.

Mutators are registered by name, which is how the command line, configs and the contract
suites find them. :func:`create` makes one from its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_plugins.errors import NasPluginsError
from nas_plugins.registry import Registry

if TYPE_CHECKING:
    from nas_plugins.mutators.base import Batch, Evaluate, Loss, Mutator, Reward
    from nas_plugins.mutators.darts import DARTS
    from nas_plugins.mutators.enas import ENAS
    from nas_plugins.mutators.gdas import GDAS
    from nas_plugins.mutators.one_shot import OneShot
    from nas_plugins.mutators.pc_darts import PCDARTS
    from nas_plugins.mutators.prior import prior_of
    from nas_plugins.mutators.proxyless import ProxylessNAS
    from nas_plugins.mutators.uniform import Uniform
    from nas_plugins.supernet import Supernet

__all__ = [
    "DARTS",
    "ENAS",
    "GDAS",
    "PCDARTS",
    "REGISTRY",
    "Batch",
    "Evaluate",
    "Loss",
    "Mutator",
    "MutatorNameError",
    "OneShot",
    "ProxylessNAS",
    "Reward",
    "Uniform",
    "check",
    "create",
    "mutator_class",
    "prior_of",
]

REGISTRY = {
    "darts": "darts:DARTS",
    "enas": "enas:ENAS",
    "gdas": "gdas:GDAS",
    "one_shot": "one_shot:OneShot",
    "pc_darts": "pc_darts:PCDARTS",
    "proxyless": "proxyless:ProxylessNAS",
    "uniform": "uniform:Uniform",
}
"""Name to ``module:class``, the module relative to this package."""

_EXPORTS = {
    **{target.split(":")[1]: target.split(":")[0] for target in REGISTRY.values()},
    "Batch": "base",
    "Evaluate": "base",
    "Loss": "base",
    "Mutator": "base",
    "Reward": "base",
    "prior_of": "prior",
}


class MutatorNameError(NasPluginsError, ValueError):
    """No mutator has this name, or it does not take these options."""


_registry = Registry("mutator", __name__, REGISTRY, MutatorNameError)


def mutator_class(name: str) -> type[Mutator]:
    """The class registered under a name, or at ``package.module:Class`` of the user's own."""
    return _registry.find(name)


def check(name: str, options: Mapping[str, Any]) -> type[Mutator]:
    """The class a name stands for, which takes these options.

    Raises:
        MutatorNameError: Unknown name or option; the message lists the known ones.
    """
    return _registry.check(name, options)


def create(name: str, supernet: Supernet, *, seed: int = 0, **options: Any) -> Mutator:
    """Make a mutator from its name.

    Raises:
        MutatorNameError: Unknown name or option; the message lists the known ones.
        UnsupportedSpaceError: The method does not apply to this supernet.
    """
    return _registry.create(name, supernet, seed, options)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
