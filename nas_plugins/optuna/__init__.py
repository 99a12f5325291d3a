"""Architecture search in an Optuna study.

Two ways, which combine. :func:`suggest` reads an architecture off a trial, so that *any*
Optuna sampler drives any space. :class:`ArchitectureSampler` lets any strategy of this
package be the study's sampler; each registered strategy has a ready name of its own, such
as ``RegularizedEvolutionSampler``::

    import optuna
    from nas_plugins import spaces
    from nas_plugins.optuna import RegularizedEvolutionSampler, suggest

    space = spaces.load("nas_bench_201")
    study = optuna.create_study(
        direction="maximize", sampler=RegularizedEvolutionSampler(space, seed=0)
    )
    study.optimize(lambda trial: score(space.build(suggest(trial, space))), n_trials=100)

The architecture of a trial *is* its parameters, label to choice, so nothing else is stored:
:func:`architecture_of` reads it back from any finished trial.
"""

from __future__ import annotations

import importlib
from typing import Any

from nas_plugins.errors import MissingExtraError

try:
    import optuna as _optuna  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "optuna":
        raise
    raise MissingExtraError("optuna", "optuna") from _error

from nas_plugins.optuna.growth import grown_study
from nas_plugins.optuna.parameters import architecture_of, distributions, space_of, suggest
from nas_plugins.optuna.promotion import PromotePruned
from nas_plugins.optuna.pruning import MultiObjectivePruner, intermediate_values
from nas_plugins.optuna.sampler import ArchitectureSampler, ready_sampler
from nas_plugins.strategies import BAYESIAN, REGISTRY


def _ready_name(target: str) -> str:
    """``regularized_evolution:RegularizedEvolution`` -> ``RegularizedEvolutionSampler``.

    ``RandomSearch`` is no second ``RandomSampler``, and ``SupernetPrior`` drops its last word.
    """
    name = target.rpartition(":")[2]
    for ending, instead in {"Search": "Architecture", "Prior": ""}.items():
        if name.endswith(ending):
            name = name.removesuffix(ending) + instead
    return name + "Sampler"


_READY = {_ready_name(target): name for name, target in {**REGISTRY, **BAYESIAN}.items()}

__all__ = [
    "ArchitectureSampler",
    "LearningCurvePruner",
    "MultiObjectivePruner",
    "PromotePruned",
    "architecture_of",
    "distributions",
    "grown_study",
    "intermediate_values",
    "space_of",
    "suggest",
    *_READY,
]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "LearningCurvePruner":  # which brings SciPy
        return importlib.import_module("nas_plugins.optuna.learning_curve").LearningCurvePruner
    if name not in _READY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Kept in the module, because a study is pickled with its sampler's class by name.
    globals()[name] = ready_sampler(name, _READY[name])
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
