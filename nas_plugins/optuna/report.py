"""A study as the page of :func:`nas_plugins.drawing.write_report`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_plugins.architecture import Architecture
from nas_plugins.drawing import Objective, Result, write_report
from nas_plugins.errors import ArchitectureError
from nas_plugins.estimators.worth import COUNTED, MEASURED
from nas_plugins.optuna.parameters import architecture_of
from nas_plugins.space import SearchSpace

__all__ = ["KNOWN_COSTS", "results_of", "write_study_report"]

KNOWN_COSTS = (*COUNTED, MEASURED)
"""User attributes that are costs wherever this package, or a user, sets them."""


def write_study_report(
    study: Study,
    space: SearchSpace,
    path: str | Path,
    *,
    objectives: Sequence[str] | None = None,
    cost: Callable[[Architecture], Mapping[str, float]] | None = None,
    costs: Sequence[str] = KNOWN_COSTS,
    **options: Any,
) -> Path:
    """Write the page of a study.

    Args:
        study: With any number of objectives.
        space: Where its architectures are from; trials of other spaces are left out.
        path: Of the page.
        objectives: Their names, with units; default: the study's metric names.
        cost: What an architecture costs, as for :func:`results_of`.
        costs: User attributes of trials that are costs, as for :func:`results_of`.
        options: ``title``, ``num_drawn`` and ``space_arguments`` of
            :func:`nas_plugins.drawing.write_report`.

    Returns:
        The path.

    Raises:
        ValueError: Another number of objectives than the study has.
        ArchitectureError: The study has trials, and none is of the space.
    """
    names = objectives or study.metric_names or _numbered(len(study.directions))
    if len(names) != len(study.directions):
        raise ValueError(
            f"objectives are {list(names)}; expected {len(study.directions)}, as many as study "
            f"{study.study_name!r} has"
        )
    named = [
        Objective(name, direction is StudyDirection.MAXIMIZE)
        for name, direction in zip(names, study.directions, strict=True)
    ]
    options.setdefault("title", study.study_name)
    results = results_of(study, space, cost=cost, costs=costs)
    finished = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    if finished and not results:
        raise ArchitectureError(
            f"none of the {finished} trials of study {study.study_name!r} is of space "
            f"{space.name!r}; give the space that it searched"
        )
    return write_report(space, results, path, objectives=named, **options)


def results_of(
    study: Study,
    space: SearchSpace,
    *,
    cost: Callable[[Architecture], Mapping[str, float]] | None = None,
    costs: Sequence[str] = KNOWN_COSTS,
) -> list[Result]:
    """The finished trials of a study that hold an architecture of the space.

    Args:
        study: Any study.
        space: Where the architectures are from.
        cost: Further costs of an architecture, such as
            ``lambda a: cost_of(space, a, (3, 32, 32)).to_dict()``.
        costs: Names of the trials' user attributes, numbers, that are costs: lower is better.
    """
    results = []
    counted: dict[Architecture, Mapping[str, float]] = {}
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        try:
            architecture = architecture_of(trial, space)
        except ArchitectureError:
            continue
        if cost is not None and architecture not in counted:
            counted[architecture] = cost(architecture)
        spent = {**_numbers(trial, costs), **counted.get(architecture, {})}
        is_complete = trial.state is TrialState.COMPLETE
        scores = tuple(trial.values) if is_complete else None
        results.append(Result(trial.number, architecture, scores, spent, _note(trial)))
    return results


def _numbers(trial: FrozenTrial, names: Sequence[str]) -> dict[str, float]:
    return {
        name: value
        for name, value in sorted(trial.user_attrs.items())  # databases keep no order
        if name in names and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _note(trial: FrozenTrial) -> str:
    if trial.state is not TrialState.COMPLETE:
        return trial.state.name.lower()
    return "" if all(map(math.isfinite, trial.values)) else "no finite score"


def _numbered(count: int) -> list[str]:
    return ["score"] if count == 1 else [f"objective {i}" for i in range(count)]
