"""One decision of a space, and its compilation from ConfigSpace's hyper-parameters.

ConfigSpace remains the definition; what is compiled here answers the same questions in
microseconds instead of milliseconds, and is held equal to ConfigSpace by tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace
from ConfigSpace.conditions import (
    AndConjunction,
    EqualsCondition,
    GreaterThanCondition,
    InCondition,
    LessThanCondition,
    NotEqualsCondition,
    OrConjunction,
)
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    Hyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.hyperparameters.hyperparameter import (
    FloatHyperparameter,
    IntegerHyperparameter,
)

from nas_plugins.architecture import Choice
from nas_plugins.errors import UnsupportedSpaceError

__all__ = ["Decision", "Literal", "compile_decisions"]

INPUT_SEPARATOR = "+"


@dataclass(frozen=True)
class Literal:
    """Decision ``label`` is active and its choice passes: the atom of a condition."""

    label: str
    values: frozenset[Choice] | None = None
    above: float = -math.inf
    below: float = math.inf

    def holds(self, choice: Choice) -> bool:
        if self.values is not None:
            return choice in self.values
        return self.above < choice < self.below  # type: ignore[operator]

    def __str__(self) -> str:
        if self.values is None:
            bounds = f"{self.above} < {{}} < {self.below}"
            return bounds.format(repr(self.label))
        values = sorted(self.values, key=repr)
        return (
            f"{self.label!r} is {values[0]!r}"
            if len(values) == 1
            else f"{self.label!r} is one of {values}"
        )


Condition = tuple[tuple[Literal, ...], ...]
"""Disjunction of conjunctions; the empty conjunction is always true."""

ALWAYS: Condition = ((),)


@dataclass(frozen=True)
class Decision:
    """One decision: its label, its choices, and when it is active.

    Attributes:
        label: Name, unique in the space.
        verb: How it was asked: ``layer``, ``inputs``, ``repeat`` or ``value``.
        choices: Discrete choices, or ``None`` for a numeric range.
        low, high: Inclusive bounds of a numeric range.
        integer, log: Whether a numeric range is integral, on a logarithmic scale.
        weights: Prior of the discrete choices, ``None`` when uniform.
        ordered: Whether neighbouring choices are alike.
        condition: When the decision is active.
        meta: Notes of whoever defined the decision (for ``inputs``: its edges).
    """

    label: str
    verb: str
    choices: tuple[Choice, ...] | None
    default: Choice
    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    log: bool = False
    weights: tuple[float, ...] | None = None
    ordered: bool = False
    condition: Condition = ALWAYS
    meta: Mapping[str, Any] = field(default_factory=dict)
    hyperparameter: Hyperparameter[Any, Any] | None = field(default=None, compare=False, repr=False)

    # -- membership ---------------------------------------------------------------------

    @property
    def num_choices(self) -> int | float:
        if self.choices is not None:
            return len(self.choices)
        return int(self.high) - int(self.low) + 1 if self.integer else math.inf

    @property
    def is_open(self) -> bool:
        """Whether choices are text that no list and no range describes; hosts pass it through."""
        return False

    @property
    def is_ordered(self) -> bool:
        """Whether neighbouring choices are alike: a range, ordered choices, or numbers."""
        return (
            self.choices is None
            or self.ordered
            or all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in self.choices)
        )

    @property
    def choices_in_order(self) -> tuple[Choice, ...]:
        """The discrete choices of an ordered decision, those that are alike beside each other."""
        choices = self.choices or ()
        return choices if self.ordered else tuple(sorted(choices))

    def is_active(self, chosen: Mapping[str, Choice]) -> bool:
        """Whether the choices taken at earlier decisions make this one exist."""
        if self.condition is ALWAYS:
            return True
        for clause in self.condition:
            for literal in clause:
                choice = chosen.get(literal.label)
                if choice is None or not literal.holds(choice):
                    break
            else:
                return True
        return False

    def allows(self, choice: Choice) -> bool:
        if self.choices is not None:
            return any(_same(choice, c) for c in self.choices)
        if isinstance(choice, (bool, str)) or (self.integer and choice != int(choice)):
            return False
        return self.low <= choice <= self.high

    def own(self, choice: Choice) -> Choice:
        """A legal choice in the decision's own type: 4 for the 4.0 that some JSON makes of it."""
        if self.choices is not None:
            return next(c for c in self.choices if _same(choice, c))
        return int(choice) if self.integer else float(choice)

    def all_choices(self, points: int | None = None) -> Iterator[Choice]:
        """Every choice, in order; ``points`` of a numeric ``value`` that has more."""
        if self.choices is not None:
            yield from self.choices
        elif points is None or self.verb != "value" or self.num_choices <= points:
            yield from range(int(self.low), int(self.high) + 1)
        else:
            scale = np.geomspace if self.log else np.linspace
            spaced = (
                min(max(float(v), self.low), self.high) for v in scale(self.low, self.high, points)
            )
            # Small whole numbers on a logarithmic scale may fall together.
            yield from dict.fromkeys(round(v) if self.integer else v for v in spaced)

    # -- moves --------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Choice:
        """Draw from the prior: uniform, log-uniform, weighted, or as ConfigSpace defines."""
        if self.choices is not None:
            if self.weights is None:
                return self.choices[rng.integers(len(self.choices))]
            return self.choices[rng.choice(len(self.choices), p=self.weights)]
        if self.hyperparameter is not None and not isinstance(
            self.hyperparameter, (UniformFloatHyperparameter, UniformIntegerHyperparameter)
        ):
            drawn = self.hyperparameter.sample_value(
                seed=np.random.RandomState(rng.integers(2**32))
            )
            return int(drawn) if self.integer else float(drawn)
        if self.integer and not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        margin = 0.5 if self.integer else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        if self.integer:
            return min(max(round(value), int(self.low)), int(self.high))
        return min(max(value, self.low), self.high)

    def mutate(self, choice: Choice, rng: np.random.Generator) -> Choice:
        """Another choice: uniform over the others; of ``inputs``, one input exchanged."""
        if self.choices is None:
            for _ in range(100):
                other = self.sample(rng)
                if other != choice:
                    break
            return other
        others = self.others(choice) if self.verb == "inputs" else self._all_others(choice)
        return others[rng.integers(len(others))]

    def others(self, choice: Choice) -> list[Choice]:
        """The choices next to one: all others, or the adjacent values of a numeric range."""
        if self.choices is None:
            steps = (int(choice) - 1, int(choice) + 1) if self.integer else ()
            return [step for step in steps if self.low <= step <= self.high]
        others = self._all_others(choice)
        if self.verb == "inputs" and isinstance(choice, str):
            mine = set(choice.split(INPUT_SEPARATOR))
            near = [c for c in others if len(mine - set(str(c).split(INPUT_SEPARATOR))) == 1]
            return near or others
        return others

    def _all_others(self, choice: Choice) -> list[Choice]:
        """Those that the prior does not rule out, if there are any."""
        choices = self.choices or ()
        weights = self.weights or (1.0,) * len(choices)
        others = [c for c, w in zip(choices, weights, strict=True) if c != choice and w > 0]
        return others or [c for c in choices if c != choice]

    def at(self, share: float) -> Choice:
        """The value of a numeric range that far from its low to its high end, on its own scale.

        Args:
            share: Cut to [0, 1].

        Raises:
            UnsupportedSpaceError: The decision has discrete choices.
        """
        if self.choices is not None:
            raise UnsupportedSpaceError(f"decision {self.label!r} is {self.describe()}, no range")
        share = min(max(share, 0.0), 1.0)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.exp(low + share * (high - low))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else value

    def encode(self, choice: Choice | None) -> np.ndarray:
        """See :meth:`nas_plugins.SearchSpace.encode`."""
        if self.choices is None:
            if choice is None:
                return np.zeros(2)
            low, high, at = self.low, self.high, float(choice)
            if self.log:
                low, high, at = math.log(low), math.log(high), math.log(at)
            return np.array([1.0, (at - low) / (high - low) if high > low else 0.0])
        if self.verb == "inputs" and "edges" in self.meta:
            chosen = () if choice is None else str(choice).split(INPUT_SEPARATOR)
            return np.array([float(edge in chosen) for edge in self.meta["edges"]])
        return np.array([float(choice is not None and c == choice) for c in self.choices])

    # -- words --------------------------------------------------------------------------

    def describe(self) -> str:
        if self.choices is not None:
            shown = ", ".join(repr(c) for c in self.choices[:12])
            more = ", …" if len(self.choices) > 12 else ""
            return f"one of {shown}{more}"
        kind = "an integer" if self.integer else "a number"
        low, high = (int(self.low), int(self.high)) if self.integer else (self.low, self.high)
        return f"{kind} in [{low}, {high}]" + (" on a log scale" if self.log else "")

    def describe_condition(self) -> str:
        if self.condition == ALWAYS:
            return "always"
        return " or ".join(" and ".join(str(literal) for literal in c) for c in self.condition)


def _same(choice: Choice, other: Choice) -> bool:
    """Equality that tells True from 1, as Python's does not."""
    return choice == other and isinstance(choice, bool) == isinstance(other, bool)


def compile_decisions(config_space: ConfigurationSpace) -> dict[str, Decision]:
    """Decisions of a ConfigurationSpace in an order in which parents come first.

    The order is a function of the space alone, so that a seed means the same in every
    process that reads it from JSON.
    """
    conditions: dict[str, list[Condition]] = {}
    for condition in config_space.conditions:
        conditions.setdefault(_child_name(condition), []).append(
            _disjunctive(condition, config_space)
        )
    decisions = {
        hyperparameter.name: _compile(
            hyperparameter, _all_of(conditions.get(hyperparameter.name, []))
        )
        for hyperparameter in config_space.values()
    }
    return {label: decisions[label] for label in _parents_first(decisions)}


def _compile(hp: Hyperparameter[Any, Any], condition: Condition) -> Decision:
    meta = dict(hp.meta or {})
    common: dict[str, Any] = {
        "label": hp.name,
        "verb": meta.get("verb", "value"),
        "condition": condition,
        "meta": meta,
        "hyperparameter": hp,
    }
    if isinstance(hp, Constant):
        return Decision(choices=(_scalar(hp.value),), default=_scalar(hp.value), **common)
    if isinstance(hp, OrdinalHyperparameter):
        sequence = tuple(_scalar(c) for c in hp.sequence)
        return Decision(choices=sequence, default=_scalar(hp.default_value), ordered=True, **common)
    if isinstance(hp, CategoricalHyperparameter):
        return Decision(
            choices=tuple(_scalar(c) for c in hp.choices),
            default=_scalar(hp.default_value),
            weights=None if hp.weights is None else tuple(float(p) for p in hp.probabilities),
            **common,
        )
    if isinstance(hp, (IntegerHyperparameter, FloatHyperparameter)):
        integer = isinstance(hp, IntegerHyperparameter)
        cast = int if integer else float
        return Decision(
            choices=None,
            default=cast(hp.default_value),
            low=cast(hp.lower),
            high=cast(hp.upper),
            integer=integer,
            log=bool(getattr(hp, "log", False)),
            **common,
        )
    raise UnsupportedSpaceError(
        f"decision {hp.name!r} is a {type(hp).__name__}; expected a categorical, ordinal, "
        "integer, float or constant hyper-parameter"
    )


def _scalar(value: Any) -> Choice:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (str, int, float, bool)):
        raise UnsupportedSpaceError(
            f"choice {value!r} is a {type(value).__name__}; only strings, numbers and booleans "
            "survive JSON and the hosts: name the choices and look the objects up by name"
        )
    return plain


def _child_name(condition: Any) -> str:
    """Label of the decision a condition, or a conjunction of conditions, is about."""
    while hasattr(condition, "components"):
        condition = condition.components[0]
    return str(condition.child.name)


def _disjunctive(condition: Any, config_space: ConfigurationSpace) -> Condition:
    if isinstance(condition, AndConjunction):
        return _all_of([_disjunctive(part, config_space) for part in condition.components])
    if isinstance(condition, OrConjunction):
        parts = [_disjunctive(part, config_space) for part in condition.components]
        return tuple(clause for part in parts for clause in part)
    parent = condition.parent
    if isinstance(condition, EqualsCondition):
        literal = Literal(parent.name, frozenset({_scalar(condition.value)}))
    elif isinstance(condition, InCondition):
        literal = Literal(parent.name, frozenset(_scalar(v) for v in condition.values))
    elif isinstance(condition, NotEqualsCondition) and hasattr(parent, "choices"):
        kept = {_scalar(c) for c in parent.choices} - {_scalar(condition.value)}
        literal = Literal(parent.name, frozenset(kept))
    elif isinstance(condition, (GreaterThanCondition, LessThanCondition)):
        above = isinstance(condition, GreaterThanCondition)
        if isinstance(parent, OrdinalHyperparameter):
            at = parent.sequence.index(condition.value)
            values = parent.sequence[at + 1 :] if above else parent.sequence[:at]
            literal = Literal(parent.name, frozenset(_scalar(v) for v in values))
        elif above:
            literal = Literal(parent.name, above=float(condition.value))
        else:
            literal = Literal(parent.name, below=float(condition.value))
    else:
        raise UnsupportedSpaceError(
            f"condition {condition} on {condition.child.name!r} is not supported; expected "
            "equals, in, greater-than or less-than, joined by and/or"
        )
    return ((literal,),)


def _all_of(conditions: list[Condition]) -> Condition:
    """Conjunction of disjunctions, multiplied out."""
    product: Condition = ALWAYS
    for condition in conditions:
        product = tuple(left + right for left in product for right in condition)
    return ALWAYS if product == ALWAYS else product


def _parents_first(decisions: Mapping[str, Decision]) -> list[str]:
    ordered: dict[str, None] = {}

    def visit(label: str) -> None:
        if label in ordered:
            return
        for clause in decisions[label].condition:
            for literal in clause:
                visit(literal.label)
        ordered[label] = None

    for label in decisions:
        visit(label)
    return list(ordered)
