"""Neural architecture search inside the tuner you already run.

Names are loaded on first use, so ``import nas_plugins`` imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Architecture": "architecture",
    "ArchitectureError": "errors",
    "Budget": "budget",
    "CandidateError": "errors",
    "Choose": "choices",
    "Gate": "supernet",
    "MissingExtraError": "errors",
    "NasPluginsError": "errors",
    "ScoreError": "errors",
    "SearchSpace": "space",
    "Supernet": "supernet",
    "UnsupportedSpaceError": "errors",
}

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Budget",
    "CandidateError",
    "Choose",
    "Gate",
    "MissingExtraError",
    "NasPluginsError",
    "ScoreError",
    "SearchSpace",
    "Supernet",
    "UnsupportedSpaceError",
    "__version__",
]

if TYPE_CHECKING:
    from nas_plugins.architecture import Architecture
    from nas_plugins.budget import Budget
    from nas_plugins.choices import Choose
    from nas_plugins.errors import (
        ArchitectureError,
        CandidateError,
        MissingExtraError,
        NasPluginsError,
        ScoreError,
        UnsupportedSpaceError,
    )
    from nas_plugins.space import SearchSpace
    from nas_plugins.supernet import Gate, Supernet


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
