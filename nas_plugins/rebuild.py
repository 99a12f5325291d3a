"""A network by its name, and weights from a file: what a saved child is rebuilt from.

Nothing read here is unpickled, and a name in a file is followed only to something that
can be a network of a space.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_plugins.errors import NasPluginsError

__all__ = ["CheckpointError", "read_tensors", "reference", "resolve"]


class CheckpointError(NasPluginsError, RuntimeError):
    """A saved child cannot be read, or not rebuilt from what the file holds."""


def reference(network: Callable[..., nn.Module]) -> str | None:
    """``module:qualname`` of a network, ``None`` where another process cannot import it.

    That is so for what ``__main__``, a function's body or a file off the import path
    defines, and for partials.
    """
    module = getattr(network, "__module__", None)
    name = getattr(network, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        return None
    return f"{module}:{name}" if _is_on_the_import_path(module) else None


def _is_on_the_import_path(module: str) -> bool:
    """Whether importing this name afresh would lead to the file that is loaded under it."""
    file = getattr(sys.modules.get(module), "__file__", None)
    parent = module.rpartition(".")[0]
    if file is None or (parent and parent not in sys.modules):
        return False
    # importlib.util.find_spec would answer from what is loaded.
    path = sys.modules[parent].__path__ if parent else None
    found = (finder.find_spec(module, path) for finder in sys.meta_path)
    spec = next((spec for spec in found if spec is not None), None)
    origin = None if spec is None else spec.origin
    return origin is not None and Path(origin).resolve() == Path(file).resolve()


def resolve(name: str) -> Callable[..., nn.Module]:
    """The network that :func:`reference` named.

    Raises:
        CheckpointError: It cannot be imported, or is no network: neither a subclass of
            ``nn.Module`` nor a function whose first argument is ``choose``. The latter
            keeps a file from calling whatever it likes.
    """
    cure = "give the network itself: network=..."
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"network {name!r} cannot be imported ({error}); install what defines it, or {cure}"
        ) from error
    is_module = inspect.isclass(found) and issubclass(found, nn.Module)
    if not is_module and not (inspect.isfunction(found) and _first_parameter(found) == "choose"):
        raise CheckpointError(
            f"{name!r} is neither a subclass of torch.nn.Module nor a function of choose; {cure}"
        )
    return found


def _first_parameter(function: Callable[..., Any]) -> str:
    return next(iter(inspect.signature(function).parameters), "")


def read_tensors(path: str | Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """What ``torch.save`` wrote: tensors and plain values, nothing that runs code.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Cut short or damaged, or it holds more than tensors.
    """
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        # Without torch's own words, which advise to load such a file after all.
        raise CheckpointError(
            f"{path} is damaged, or holds objects other than tensors and plain values, which "
            "are not loaded because they could run code"
        ) from error
    except Exception as error:  # damaged bytes fail in the reader wherever they lead it
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({_reason(error)}): it is cut short or "
            "damaged, or of another format. Delete it and train again, or take an earlier "
            "checkpoint"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a dict")
    return content


def _reason(error: Exception) -> str:
    text = str(error)
    return type(error).__name__ + ("" if "weights_only" in text else f": {text}")
