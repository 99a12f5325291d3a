"""The global random generators, as values that a checkpoint holds without pickling code."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import distributed

__all__ = ["capture", "restore"]


def capture() -> list[dict[str, Any]]:
    """State of Python's, numpy's and torch's generators, one entry per process.

    All processes of a distributed training call it together.
    """
    _, keys, position, has_gauss, cached = np.random.get_state()
    own = {
        "python": random.getstate(),
        "numpy": ([int(key) for key in keys], int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _uses_cuda() else None,
    }
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, own)
    return everyone


def restore(states: list[dict[str, Any]]) -> None:
    """Set this process's generators to what :func:`capture` saw.

    Nothing happens when there are more or fewer processes than there were: their streams
    have no counterpart.
    """
    rank, world = 0, 1
    if distributed.is_available() and distributed.is_initialized():
        rank, world = distributed.get_rank(), distributed.get_world_size()
    if len(states) != world:
        return
    state = states[rank]
    random.setstate(state["python"])
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and _uses_cuda():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
