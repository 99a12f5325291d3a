"""Lightning callbacks, loaded on first use: each host's needs that host's package alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "ArchitecturePicture": "picture",
    "ArchitectureSearch": "architecture_search",
    "CurvatureAlarm": "alarms",
    "EntropyAlarm": "alarms",
    "LearningCurveStopping": "learning_curve",
    "NNIReportCallback": "nni",
    "OptunaMultiObjectivePruningCallback": "optuna",
    "OptunaPruningCallback": "optuna",
    "SkipAlarm": "alarms",
}

__all__ = [
    "ArchitecturePicture",
    "ArchitectureSearch",
    "CurvatureAlarm",
    "EntropyAlarm",
    "LearningCurveStopping",
    "NNIReportCallback",
    "OptunaMultiObjectivePruningCallback",
    "OptunaPruningCallback",
    "SkipAlarm",
]

if TYPE_CHECKING:
    from lightning_modules.callbacks.alarms import CurvatureAlarm, EntropyAlarm, SkipAlarm
    from lightning_modules.callbacks.architecture_search import ArchitectureSearch
    from lightning_modules.callbacks.learning_curve import LearningCurveStopping
    from lightning_modules.callbacks.nni import NNIReportCallback
    from lightning_modules.callbacks.optuna import (
        OptunaMultiObjectivePruningCallback,
        OptunaPruningCallback,
    )
    from lightning_modules.callbacks.picture import ArchitecturePicture


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
