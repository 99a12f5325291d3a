"""A network by its name, and weights from a file: what a saved child is rebuilt from.

Nothing read here is unpickled, and a name in a file is followed only to something that
can be a network of a space.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
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

    That is so for what ``__main__`` or a function's body defines, and for partials.
    """
    module = getattr(network, "__module__", None)
    name = getattr(network, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        return None
    return f"{module}:{name}"


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
