"""A study goes on after its space has grown."""

from __future__ import annotations

import copy
import logging
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_plugins.errors import ArchitectureError
from nas_plugins.optuna.parameters import GROWN_FROM, architecture_of, distributions
from nas_plugins.space import SearchSpace

__all__ = ["grown_study"]

_log = logging.getLogger(__name__)


def grown_study(
    study: Study, space: SearchSpace, *, study_name: str, storage: Any = None, **options: Any
) -> Study:
    """A study over a space that has grown, with the trials of the study before.

    Optuna keeps the choices of a categorical parameter for as long as a study lives, so a
    decision that gained an operation needs another study. This one has the earlier trials
    with their values, times and numbers of proposals, told to strategies and to Optuna's own
    samplers as if they had been made here. Decisions that the space has gained stand at their
    default, which has to mean what the network did before. The earlier study stays as it is.

    Called again, it opens the study it made and adds only what is not there yet, so a script
    may do both at each start. With several workers call it once, before they begin.

    Trials that are unfinished, or hold a choice that the space no longer has, are left out.

    Args:
        study: The study so far.
        space: What is searched now.
        study_name: Of the new study.
        storage: Where it goes; default: where the study is.
        options: ``sampler`` and ``pruner`` of :func:`optuna.create_study`.

    Returns:
        The new study, of the same directions.

    Example:
        >>> from ConfigSpace import ConfigurationSpace
        >>> from nas_plugins.optuna import suggest
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> study = optuna.create_study()
        >>> before = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"]}))
        >>> study.optimize(lambda trial: len(suggest(trial, before)["op"]), n_trials=3)
        >>> now = SearchSpace(ConfigurationSpace({"op": ["conv", "pool", "skip"]}))
        >>> grown = grown_study(study, now, study_name="with skip")
        >>> grown.optimize(lambda trial: len(suggest(trial, now)["op"]), n_trials=2)
        >>> len(grown.trials)
        5
    """
    grown = optuna.create_study(
        study_name=study_name,
        storage=study._storage if storage is None else storage,
        directions=study.directions,
        load_if_exists=True,
        **options,
    )
    there = {trial.system_attrs.get(GROWN_FROM) for trial in grown.get_trials(deepcopy=False)}
    num_left_out = 0
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished() or trial.number in there:
            continue
        try:
            grown.add_trial(_widened(trial, space))
        except ArchitectureError as error:
            num_left_out += 1
            _log.info("trial %s is not of space %r: %s", trial.number, space.name, error)
    if num_left_out:
        _log.warning("%s trials are left out, which are not of %r", num_left_out, space.name)
    return grown


def _widened(trial: FrozenTrial, space: SearchSpace) -> FrozenTrial:
    """A copy whose parameters have the space's distributions of today.

    Raises:
        ArchitectureError: It has a choice that the space has not.
    """
    known = distributions(space)
    if trial.state is TrialState.COMPLETE:
        choices = dict(architecture_of(trial, space))
    else:  # may have stopped before it was asked everything
        choices = {name: value for name, value in trial.params.items() if name in known}
        for label, choice in choices.items():
            if not space.decisions[label].allows(choice):
                raise ArchitectureError(f"choice {choice!r} at {label!r} is not in the space")
    others = {name: d for name, d in trial.distributions.items() if name not in known}
    widened = copy.deepcopy(trial)
    widened.params = {**choices, **{name: trial.params[name] for name in others}}
    widened.distributions = {**{label: known[label] for label in choices}, **others}
    key, number = GROWN_FROM, trial.number
    # Kept under a name of its own: the trial gets a new number in the new study.
    widened.system_attrs = {**trial.system_attrs, key: number}
    return widened
