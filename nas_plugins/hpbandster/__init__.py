"""HpBandSter: our strategies under its brackets, its own optimisers on our spaces.

:func:`run` does everything on one machine. Its parts serve a script of one's own:
:class:`ArchitectureOptimizer` (the master), :class:`ArchitectureWorker` (one per process),
:class:`ArchitectureConfigGenerator` (a strategy, as HpBandSter asks for configurations) and
:func:`mended`, which makes HpBandSter's own optimisers run beside today's numpy.

HpBandSter is not maintained; what it needs to run today is in
:mod:`nas_plugins.hpbandster.compat`, each cure with its reason.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas_plugins.errors import MissingExtraError

try:
    import hpbandster as _hpbandster  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError("hpbandster", "hpbandster") from error

if TYPE_CHECKING:
    from nas_plugins.hpbandster.compat import mended
    from nas_plugins.hpbandster.generator import ArchitectureConfigGenerator
    from nas_plugins.hpbandster.optimizer import ArchitectureOptimizer
    from nas_plugins.hpbandster.runner import WorkerDiedError, run
    from nas_plugins.hpbandster.worker import ArchitectureWorker

_EXPORTS = {
    "ArchitectureConfigGenerator": "generator",
    "ArchitectureOptimizer": "optimizer",
    "ArchitectureWorker": "worker",
    "WorkerDiedError": "runner",
    "mended": "compat",
    "run": "runner",
}

__all__ = [
    "ArchitectureConfigGenerator",
    "ArchitectureOptimizer",
    "ArchitectureWorker",
    "WorkerDiedError",
    "mended",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
