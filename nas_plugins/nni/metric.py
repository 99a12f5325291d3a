"""The final metric of a trial: a score together with the architecture that earned it.

NNI 3.0 hands parameters to the wrong trial when several run at once, and then shows, exports
and resumes from the wrong pairs. The metric travels with the trial that measured it, so what
stands in the metric is believed, and NNI's own column of parameters is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nas_plugins.architecture import Choice
from nas_plugins.errors import ScoreError

__all__ = [
    "SUPERNET",
    "architecture_in",
    "decoded",
    "failure_in",
    "failure_metric",
    "final_metric",
    "is_of_supernet",
    "score_in",
]

SCORE, ARCHITECTURE, ERROR = "default", "architecture", "error"
SUPERNET = "_supernet"
"""Key of what a trial reports that trained the supernet, and of the parameters it was given."""


def final_metric(
    architecture: Mapping[str, Choice], score: float, metrics: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What to report as final result: NNI shows ``default`` and keeps the rest.

    Raises:
        ScoreError: The score is NaN or infinite, which is no result to rank by.
    """
    if not math.isfinite(score):
        raise ScoreError(
            f"score of architecture {dict(architecture)} is {score}; expected a finite number"
        )
    finite = {k: float(v) for k, v in (metrics or {}).items() if math.isfinite(v)}
    return {**finite, SCORE: float(score), ARCHITECTURE: dict(architecture)}


def failure_metric(architecture: Mapping[str, Choice], reason: str) -> dict[str, Any]:
    """What a trial reports that could not earn a score."""
    return {ARCHITECTURE: dict(architecture), ERROR: reason}


def is_of_supernet(value: Any) -> bool:
    """Whether parameters ask for the supernet, or a final metric is of its training."""
    return isinstance(value, Mapping) and SUPERNET in value


def decoded(value: Any) -> Any:
    """A metric as its trial reported it: NNI's own export has it as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # no metric at all, and named where it is told


def score_in(value: Any) -> float | None:
    """The finite number a final metric holds, ``None`` if there is none."""
    number = value.get(SCORE) if isinstance(value, Mapping) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return None
    return float(number) if math.isfinite(number) else None


def architecture_in(value: Any) -> Mapping[str, Choice] | None:
    """The architecture a final metric holds, ``None`` if the trial did not report it."""
    architecture = value.get(ARCHITECTURE) if isinstance(value, Mapping) else None
    return architecture if isinstance(architecture, Mapping) else None


def failure_in(value: Any) -> str:
    """Why a final metric holds no score."""
    if isinstance(value, Mapping) and ERROR in value:
        return str(value[ERROR])
    return f"its final metric is {value!r}; expected a finite number, or one under {SCORE!r}"
