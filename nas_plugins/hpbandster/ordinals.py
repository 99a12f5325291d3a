"""Ordered choices as BOHB's model takes them: as whole numbers, their places in the order."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ConfigSpace import (
    AndConjunction,
    ConfigurationSpace,
    Constant,
    ForbiddenAndConjunction,
    Integer,
    OrConjunction,
)
from ConfigSpace.hyperparameters import Hyperparameter, OrdinalHyperparameter
from hpbandster.core.dispatcher import Job

from nas_plugins.errors import UnsupportedSpaceError

__all__ = ["Choices", "GeneratorOfPlaces", "with_places"]

Choices = Mapping[str, tuple[Any, ...]]
"""Ordered decision to its choices."""


def with_places(config_space: ConfigurationSpace) -> tuple[ConfigurationSpace, Choices]:
    """A space whose ordered decisions are whole numbers from 0, and their choices.

    Raises:
        UnsupportedSpaceError: A forbidden clause compares an ordered decision with another.
    """
    choices = {
        label: tuple(hyperparameter.sequence)
        for label, hyperparameter in config_space.items()
        if isinstance(hyperparameter, OrdinalHyperparameter)
    }
    if not choices:
        return config_space, choices
    seed = int(config_space.random.randint(2**31))
    placed = ConfigurationSpace(name=config_space.name, seed=seed)
    placed.add(_placed(h, choices.get(label)) for label, h in config_space.items())
    placed.add(_condition(condition, placed, choices) for condition in config_space.conditions)
    placed.add(_clause(clause, placed, choices) for clause in config_space.forbidden_clauses)
    return placed, choices


def _placed(
    hyperparameter: Hyperparameter[Any, Any], choices: tuple[Any, ...] | None
) -> Hyperparameter[Any, Any]:
    if choices is None:
        return copy.copy(hyperparameter)
    if len(choices) == 1:
        return Constant(hyperparameter.name, 0)
    place = choices.index(hyperparameter.default_value)
    return Integer(hyperparameter.name, (0, len(choices) - 1), default=place)


def _values(of: Any, label: str, choices: Choices) -> Any:
    """The value or values that a condition or clause names, as places."""
    values = of.values if hasattr(of, "values") else of.value
    if label not in choices:
        return values
    place = choices[label].index
    return [place(value) for value in values] if hasattr(of, "values") else place(values)


def _condition(of: Any, placed: ConfigurationSpace, choices: Choices) -> Any:
    if isinstance(of, (AndConjunction, OrConjunction)):
        return type(of)(*(_condition(part, placed, choices) for part in of.components))
    child, parent = placed[of.child.name], placed[of.parent.name]
    return type(of)(child, parent, _values(of, of.parent.name, choices))


def _clause(of: Any, placed: ConfigurationSpace, choices: Choices) -> Any:
    if isinstance(of, ForbiddenAndConjunction):
        return type(of)(*(_clause(part, placed, choices) for part in of.components))
    if hasattr(of, "left"):
        if {of.left.name, of.right.name} & choices.keys():
            raise UnsupportedSpaceError(
                f"BOHB has no model for {of}, which compares an ordered decision with another; "
                "name the forbidden values one by one, or use H2BO"
            )
        return type(of)(placed[of.left.name], placed[of.right.name])
    label = of.hyperparameter.name
    return type(of)(placed[label], _values(of, label, choices))


class GeneratorOfPlaces:
    """A configuration generator over places, which speaks of choices.

    Args:
        generator: HpBandSter's, over what :func:`with_places` gave.
        choices: From there.
    """

    def __init__(self, generator: Any, choices: Choices) -> None:
        self._generator = generator
        self._choices = choices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def get_config(self, budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
        config, info = self._generator.get_config(budget)
        chosen = {
            label: self._choices[label][int(value)] if label in self._choices else value
            for label, value in dict(config).items()
        }
        return chosen, info

    def new_result(self, job: Job, update_model: bool = True) -> None:
        told = copy.copy(job)
        places = {
            label: self._choices[label].index(value) if label in self._choices else value
            for label, value in job.kwargs["config"].items()
        }
        told.kwargs = {**job.kwargs, "config": places}
        self._generator.new_result(told, update_model=update_model)
