"""Bayesian optimisation over any space, its Gaussian processes BoTorch's.

Strategies like those of :mod:`nas_plugins.strategies`, in a room of their own because they need
PyTorch and BoTorch: ``pip install 'nas-plugins[bayesian]'``.
"""

from __future__ import annotations

from nas_plugins.errors import MissingExtraError

try:
    import botorch as _botorch  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "botorch":
        raise
    raise MissingExtraError("botorch", "bayesian") from _error

from nas_plugins.bayesian.fabolas import Fabolas
from nas_plugins.bayesian.gaussian_process import GaussianProcess
from nas_plugins.bayesian.multi_task import MultiTask, write_task
from nas_plugins.bayesian.proportional import ProportionalImprovement

__all__ = ["Fabolas", "GaussianProcess", "MultiTask", "ProportionalImprovement", "write_task"]
