"""Published search spaces, one file each, found by name.

:func:`load` also takes ``package.module:callable`` or ``path/to/file.py:callable``, where
the callable returns a :class:`~nas_plugins.SearchSpace` or is a network that takes ``choose``,
so that commands and hosts which start in another process reach a space of the user's own.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from nas_plugins.errors import NasPluginsError
from nas_plugins.registry import module_of
from nas_plugins.space import SearchSpace

__all__ = ["REGISTRY", "SpaceNameError", "load"]

REGISTRY = {
    "amoebanet": "amoebanet:amoebanet",
    "chain": "chain:chain",
    "darts": "darts:darts",
    "enas_macro": "enas_macro:enas_macro",
    "enas_micro": "enas_micro:enas_micro",
    "hierarchical": "hierarchical:hierarchical",
    "jasqnet": "jasqnet:jasqnet",
    "joint": "joint:joint",
    "mnasnet": "mnasnet:mnasnet",
    "multi_branch": "multi_branch:multi_branch",
    "nas_bench_201": "nas_bench_201:nas_bench_201",
    "nas_cnn": "nas_cnn:nas_cnn",
    "nasnet": "nasnet:nasnet",
    "one_shot_cells": "one_shot_cells:one_shot_cells",
    "pnas": "pnas:pnas",
    "proxylessnas": "proxylessnas:proxylessnas",
}
"""Name to ``module:function``, the module relative to this package."""


class SpaceNameError(NasPluginsError, ValueError):
    """No space has this name, or it does not take these options."""


def load(name: str, **options: Any) -> SearchSpace:
    """Make a space from its name.

    Args:
        name: A registered name, ``package.module:callable``, or ``file.py:callable``.
        options: Passed to the callable.

    Raises:
        SpaceNameError: Nothing there, not a space, or an unknown option.
    """
    function = _resolve(name)
    if next(iter(inspect.signature(function).parameters), "") == "choose":
        function = partial(SearchSpace.from_network, function)
    known = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = [] if open_ended else sorted(set(options) - set(known))
    if unknown:
        raise SpaceNameError(
            f"space {name!r} has no option {unknown[0]!r}; its options are {list(known)}"
        )
    try:
        space = function(**options)
    except TypeError as error:
        raise SpaceNameError(f"space {name!r} does not take options {options}: {error}") from error
    if not isinstance(space, SearchSpace):
        raise SpaceNameError(f"{name!r} returned a {type(space).__name__}; expected a SearchSpace")
    return space


def _resolve(name: str) -> Callable[..., Any]:
    target = REGISTRY.get(name)
    if target is None and ":" not in name:
        raise SpaceNameError(
            f"unknown space {name!r}; expected one of {sorted(REGISTRY)}, "
            "'package.module:callable' or 'path/to/file.py:callable'"
        )
    source, _, attribute = (target or name).rpartition(":")
    try:
        if target is not None:
            module = importlib.import_module(f".{source}", __name__)
        else:
            module = module_of(source)
        function = getattr(module, attribute)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise SpaceNameError(f"space {name!r} cannot be loaded: {error}") from error
    if not callable(function):
        raise SpaceNameError(f"{name!r} is a {type(function).__name__}; expected a callable")
    return function
