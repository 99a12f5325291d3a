"""Architecture search in an NNI experiment.

Two ways. ``nnictl`` runs an experiment whose tuner is any strategy of this package and whose
trials are processes that train children (:func:`write_config` writes its files)::

    nas-plugins nni-config --space nas_bench_201 my_search
    nnictl create --config my_search/config.yml

With ``--supernet gdas`` the first trial trains a supernet, and the next ones its best
(:class:`SupernetTuner`).

Or a strategy drives ``nni.nas.experiment.NasExperiment``, over a space of this package
(:class:`ArchitectureModelSpace`) or of NNI's own hub (:class:`ArchitectureStrategy`); a mutator
does so as a one-shot strategy (:class:`SupernetStrategy`).

With several trials at once NNI 3.0 shows wrong pairs of parameters and metric. Trials report
their architecture with their score, so :func:`report` shows the true ones.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas_plugins.errors import MissingExtraError

try:
    import nni as _nni  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "nni":
        raise
    raise MissingExtraError("nni", "nni") from _error

if TYPE_CHECKING:
    from nas_plugins.nni.assessor import LearningCurveAssessor
    from nas_plugins.nni.config import SupernetFirst, write_config
    from nas_plugins.nni.model_space import ArchitectureModelSpace
    from nas_plugins.nni.one_shot import SupernetStrategy
    from nas_plugins.nni.reporting import receive_architecture, report_score
    from nas_plugins.nni.results import report
    from nas_plugins.nni.search_space import architecture_of, from_nni, parameters_of, to_nni
    from nas_plugins.nni.strategy import ArchitectureStrategy
    from nas_plugins.nni.supernet_tuner import SupernetTuner
    from nas_plugins.nni.tuner import ArchitectureTuner

_EXPORTS = {
    "ArchitectureModelSpace": "model_space",
    "ArchitectureStrategy": "strategy",
    "ArchitectureTuner": "tuner",
    "LearningCurveAssessor": "assessor",
    "SupernetFirst": "config",
    "SupernetStrategy": "one_shot",
    "SupernetTuner": "supernet_tuner",
    "architecture_of": "search_space",
    "from_nni": "search_space",
    "parameters_of": "search_space",
    "receive_architecture": "reporting",
    "report": "results",
    "report_score": "reporting",
    "to_nni": "search_space",
    "write_config": "config",
}

__all__ = [
    "ArchitectureModelSpace",
    "ArchitectureStrategy",
    "ArchitectureTuner",
    "LearningCurveAssessor",
    "SupernetFirst",
    "SupernetStrategy",
    "SupernetTuner",
    "architecture_of",
    "from_nni",
    "parameters_of",
    "receive_architecture",
    "report",
    "report_score",
    "to_nni",
    "write_config",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
