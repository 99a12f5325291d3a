"""Leave the process as it was: random generators, warning filters, loggers."""

from __future__ import annotations

import logging
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["isolated", "seed_everything", "seeded"]

_lock = threading.RLock()
_inside = 0
_restore = ExitStack()


@contextmanager
def isolated(*, quiet: bool) -> Iterator[None]:
    """Restore the global generators on leaving, and hush Lightning meanwhile.

    Trainings in several threads share what is global: the first to come saves it, the last
    to leave restores it. CUDA's generators are restored where CUDA was in use before.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _restore.callback(_restore_generators, _generators())
            if quiet:
                _hush(_restore)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore.close()


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators; no environment variable."""
    with _lock:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed, and let no other thread seed until what is inside has drawn its numbers."""
    with _lock:
        seed_everything(seed)
        yield


def _generators() -> tuple[Any, ...]:
    initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if initialized else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _restore_generators(states: tuple[Any, ...]) -> None:
    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)


def _hush(stack: ExitStack) -> None:
    stack.enter_context(warnings.catch_warnings())
    # A child is small and its data in memory: advice about workers and intervals is noise.
    # The deprecation is of Lightning's own use of torch.
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning"):
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.WARNING)
