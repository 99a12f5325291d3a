"""Translation between decisions of a space and parameters of a trial, both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Union

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    Hyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from optuna import TrialPruned
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import Decision
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.optuna.history import NUMBER
from nas_plugins.space import SearchSpace, require_space

__all__ = [
    "GROWN_FROM",
    "architecture_of",
    "distributions",
    "is_expressible",
    "space_of",
    "suggest",
]

_MAX_STEPS = 1000

GROWN_FROM = "nas_plugins:grown_from"
"""System attribute of a trial that was taken over: its number in the study before."""

_OWN = {NUMBER, GROWN_FROM}


def suggest(trial: BaseTrial, space: SearchSpace) -> Architecture:
    """Take every active decision of a space from a trial, define-by-run.

    The parameters carry the decisions' labels and are suggested in the order of
    ``space.decisions``; inactive ones are not suggested. Any sampler will do. The order of an
    ordinal decision and the weights of a prior are not known to Optuna.

    Args:
        trial: Of any kind; a ``FixedTrial`` or a finished trial replays its parameters.
        space: Where the architecture comes from.

    Raises:
        TrialPruned: The sampler's choices are forbidden by a clause of the space. Samplers
            of this package never propose such.
        ArchitectureError: A parameter fixed by ``enqueue_trial`` is not in the space.
        UnsupportedSpaceError: Earlier trials of the study had other choices at a decision;
            Optuna allows no change. :func:`nas_plugins.optuna.grown_study` is the cure.
    """
    chosen: dict[str, Choice] = {}
    for label, decision in require_space(space).decisions.items():
        if decision.is_active(chosen):
            chosen[label] = (
                _carried(trial, decision) if decision.is_open else _suggest(trial, decision)
            )
    architecture = Architecture(chosen)
    try:
        return space.validate(architecture)
    except ArchitectureError as error:
        if all(space.decisions[label].allows(choice) for label, choice in chosen.items()):
            raise TrialPruned(str(error)) from error
        raise


def architecture_of(trial: FrozenTrial | Trial, space: SearchSpace) -> Architecture:
    """The architecture a trial holds in its parameters; others than the space's are ignored.

    Of a completed trial that this package sampled, or that has no other parameters, decisions
    that the space has gained since take their default.

    Raises:
        ArchitectureError: The parameters are not those of an architecture of this space.
    """
    choices = {
        name: _on_the_grid(space.decisions[name], value)
        for name, value in trial.params.items()
        if name in space.decisions
    }
    for label, decision in space.decisions.items():
        if decision.is_open and label in trial.user_attrs:
            choices[label] = trial.user_attrs[label]
    if not choices and space.decisions:
        raise ArchitectureError(
            f"trial {trial.number} has parameters {sorted(trial.params)}, none of which is a "
            f"decision of space {space.name!r}: was it made with another space?"
        )
    try:
        return space.validate(choices)
    except ArchitectureError:
        # A trial that stopped half way lacks choices that nobody took.
        if not (isinstance(trial, FrozenTrial) and trial.state is TrialState.COMPLETE):
            raise
        if not (_OWN & trial.system_attrs.keys() or trial.params.keys() <= space.decisions.keys()):
            raise
        return space.complete(choices)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Every decision of a space, active or not, as Optuna's distributions; no open ones."""
    return {
        label: _distribution(decision)
        for label, decision in space.decisions.items()
        if not decision.is_open
    }


def space_of(distributions: Mapping[str, BaseDistribution], *, name: str = "study") -> SearchSpace:
    """A space without conditions whose decisions are Optuna's distributions.

    A distribution with a ``step`` becomes an ordinal decision over its values.

    Raises:
        UnsupportedSpaceError: Choices are not distinct strings, numbers or booleans, or a
            step leaves more than 1,000 values.
    """
    hyperparameters = []
    for label, distribution in distributions.items():
        if not is_expressible(distribution):
            raise UnsupportedSpaceError(
                f"parameter {label!r} has {distribution}; expected choices that are distinct "
                f"strings, finite numbers or booleans, or at most {_MAX_STEPS} steps"
            )
        hyperparameters.append(_hyperparameter(label, distribution))
    config_space = ConfigurationSpace()
    config_space.add(hyperparameters)
    return SearchSpace(config_space, name=name)


def is_expressible(distribution: BaseDistribution) -> bool:
    """Whether :func:`space_of` can translate a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        return len(set(choices)) == len(choices) and all(
            isinstance(c, (str, bool, int)) or (isinstance(c, float) and math.isfinite(c))
            for c in choices
        )
    return _step_of(distribution) is None or _num_steps(distribution) <= _MAX_STEPS


def _on_the_grid(decision: Decision, value: Choice) -> Choice:
    """The choice that a number stands for which differs from it by rounding."""
    if not decision.ordered or not isinstance(value, float) or decision.allows(value):
        return value
    near = [c for c in decision.choices or () if isinstance(c, float) and math.isclose(c, value)]
    return near[0] if near else value


def _carried(trial: BaseTrial, decision: Decision) -> Choice:
    """An open choice, which no distribution describes: a user attribute that the sampler set."""
    if decision.label not in trial.user_attrs:
        raise UnsupportedSpaceError(
            f"the trial has no user attribute {decision.label!r}: only an ArchitectureSampler "
            "of this space can choose what is open-ended"
        )
    return trial.user_attrs[decision.label]


def _suggest(trial: BaseTrial, decision: Decision) -> Choice:
    if decision.choices is not None:
        try:
            return trial.suggest_categorical(decision.label, decision.choices)  # type: ignore[return-value]
        except ValueError as error:
            if "does not support dynamic value space" not in str(error):
                raise
            raise UnsupportedSpaceError(
                f"the study, by an earlier trial or its sampler, has other choices at "
                f"{decision.label!r} than {list(decision.choices)}, and Optuna lets them not be "
                "changed. Make the sampler for this space; where trials have them, go on in "
                "grown_study(study, space, study_name=...), which holds those trials"
            ) from error
    if decision.integer:
        low, high = int(decision.low), int(decision.high)
        return trial.suggest_int(decision.label, low, high, log=decision.log)
    return trial.suggest_float(decision.label, decision.low, decision.high, log=decision.log)


def _distribution(decision: Decision) -> BaseDistribution:
    if decision.choices is not None:
        return CategoricalDistribution(decision.choices)
    if decision.integer:
        return IntDistribution(int(decision.low), int(decision.high), log=decision.log)
    return FloatDistribution(decision.low, decision.high, log=decision.log)


_Numeric = Union[FloatDistribution, IntDistribution]


def _hyperparameter(name: str, distribution: BaseDistribution) -> Hyperparameter[Any, Any]:
    if isinstance(distribution, CategoricalDistribution):
        if distribution.single():
            return Constant(name, distribution.choices[0])
        return CategoricalHyperparameter(name, distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high, step = distribution.low, distribution.high, _step_of(distribution)
    if distribution.single():
        return Constant(name, low)
    if step is not None:
        values = [min(low + k * step, high) for k in range(_num_steps(distribution))]
        return OrdinalHyperparameter(name, values)
    kind = (
        UniformIntegerHyperparameter
        if isinstance(distribution, IntDistribution)
        else UniformFloatHyperparameter
    )
    return kind(name, low, high, log=distribution.log)


def _step_of(distribution: BaseDistribution) -> float | None:
    """Distance of the values, ``None`` for all numbers or all integers of a range."""
    if isinstance(distribution, IntDistribution) and distribution.step == 1:
        return None
    return getattr(distribution, "step", None)


def _num_steps(distribution: Any) -> int:
    return round((distribution.high - distribution.low) / distribution.step) + 1
