"""Errors of this package: each says what was expected, what came, where, and what to do.

Every error derives from :class:`NasPluginsError` and from the builtin a caller would
have expected, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "ArchitectureError",
    "CandidateError",
    "MissingExtraError",
    "NasPluginsError",
    "ScoreError",
    "UnsupportedSpaceError",
]


class NasPluginsError(Exception):
    """Base class of every error raised on purpose by this package."""


class ArchitectureError(NasPluginsError, ValueError):
    """An architecture does not belong to the space it was given to."""


class UnsupportedSpaceError(NasPluginsError, ValueError):
    """A space cannot be defined, translated or read the way that was asked for."""


class CandidateError(NasPluginsError, RuntimeError):
    """The factory of a candidate raised; the original error is the cause."""


class ScoreError(NasPluginsError, ValueError):
    """A score is not a finite number."""


class MissingExtraError(NasPluginsError, ImportError):
    """An optional dependency is absent; the message holds its install line."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"{module!r} is not installed, which this part of nas-plugins needs: "
            f"pip install 'nas-plugins[{extra}]'",
            name=module,
        )
