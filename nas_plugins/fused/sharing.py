"""What the mixed layers of a supernet compute once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Sharing", "autocast_dtype"]

T = TypeVar("T")


class Sharing:
    """Functions of a tensor, each computed once during one forward pass of a supernet.

    Open between ``with`` and its end, outside of which nothing is remembered.

    Args:
        keep: Whether what wide convolutions give is kept for the backward pass.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self.keep = keep
        self.is_open = False
        self._known: dict[Hashable, tuple[Tensor, object]] = {}

    def __enter__(self) -> Sharing:
        self.is_open = True
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_open = False
        self._known.clear()

    def of(self, x: Tensor, name: Hashable, compute: Callable[[Tensor], T]) -> T:
        """``compute(x)``, or what it was when it was last computed under this name."""
        if not self.is_open:
            return compute(x)
        version = 0 if x.is_inference() else x._version
        key = id(x), version, torch.is_grad_enabled(), autocast_dtype(x), name
        if key not in self._known:
            self._known[key] = x, compute(x)  # with x, which lives, so that its id stays its own
        value: T = self._known[key][1]  # type: ignore[assignment]
        return value


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What convolutions of a tensor are cast to at present; ``None`` without autocast."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)
