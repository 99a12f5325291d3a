"""Reads a search-space JSON that a user wrote for NNI as a ConfigurationSpace."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ConfigSpace import ConfigurationSpace
from ConfigSpace.conditions import EqualsCondition
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    Hyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

from nas_plugins.errors import UnsupportedSpaceError

__all__ = ["config_space_of"]

_MAX_STEPS = 1_000


def config_space_of(search_space: Mapping[str, Any]) -> ConfigurationSpace:
    """Decisions of a user's JSON; see :func:`nas_plugins.nni.search_space.from_nni`."""
    return _Reader(search_space).space


class _Reader:
    def __init__(self, search_space: Mapping[str, Any]) -> None:
        self.space = ConfigurationSpace()
        self._occurrences = Counter(_keys(search_space))
        self._read(search_space, (), None, None)

    def _read(
        self,
        specs: Mapping[str, Any],
        path: tuple[str, ...],
        parent: Hyperparameter[Any, Any] | None,
        branch: Any,
    ) -> None:
        for key, spec in specs.items():
            if key == "_name":
                continue
            label = key if self._occurrences[key] == 1 else "/".join((*path, key))
            as_written = label == key and len(path) <= 2  # to_nni nests once
            meta = None if as_written else {"nni_key": key}
            values = _checked_values(label, spec)
            alternatives = _alternatives(label, spec, values)
            try:
                names = None if alternatives is None else [a["_name"] for a in alternatives]
                decision = _hyperparameter(label, spec["_type"], names or values, meta)
                self.space.add(decision)
                if parent is not None:
                    self.space.add(EqualsCondition(decision, parent, branch))
            except (ValueError, TypeError) as error:  # ConfigSpace's own objections
                if isinstance(error, UnsupportedSpaceError):
                    raise
                raise UnsupportedSpaceError(f"entry {label!r} is {spec}: {error}") from error
            for alternative in alternatives or ():
                name = alternative["_name"]
                self._read(alternative, (*path, key, str(name)), decision, name)


def _keys(specs: Any) -> Iterator[str]:
    if isinstance(specs, Mapping):
        for key, spec in specs.items():
            if key != "_name":
                yield key
                values = spec.get("_value") if isinstance(spec, Mapping) else None
                for value in values if isinstance(values, list) else ():
                    yield from _keys(value)


def _checked_values(label: str, spec: Any) -> list[Any]:
    if not isinstance(spec, Mapping) or not {"_type", "_value"} <= set(spec):
        raise UnsupportedSpaceError(
            f"entry {label!r} is {spec!r}; expected an object with '_type' and '_value'"
        )
    if not isinstance(spec["_type"], str):
        raise UnsupportedSpaceError(f"'_type' of {label!r} is {spec['_type']!r}; expected a string")
    values = spec["_value"]
    if not isinstance(values, list) or not values:
        raise UnsupportedSpaceError(f"'_value' of {label!r} is {values!r}; expected a list")
    return values


def _alternatives(
    label: str, spec: Mapping[str, Any], values: Sequence[Any]
) -> Sequence[Mapping[str, Any]] | None:
    """The branches of a nested choice, ``None`` for any other entry."""
    if spec["_type"] != "choice" or not any(isinstance(v, Mapping) for v in values):
        return None
    if not all(isinstance(v, Mapping) and "_name" in v for v in values):
        raise UnsupportedSpaceError(
            f"choice {label!r} has {values}; expected every alternative, or none, to be an "
            "object with '_name'"
        )
    return values


def _hyperparameter(
    label: str, kind: str, values: Sequence[Any], meta: dict[Any, Any] | None
) -> Hyperparameter[Any, Any]:
    if kind == "choice":
        bad = [v for v in values if not isinstance(v, (str, int, float, bool))]
        if bad:
            raise UnsupportedSpaceError(
                f"choice {label!r} has {bad[0]!r}; expected strings, numbers and booleans: name "
                "the choices, and look the objects up by name in the trial"
            )
        if len(values) == 1:
            return Constant(label, values[0], meta=meta)
        return CategoricalHyperparameter(label, values, meta=meta)
    numbers = 3 if kind.startswith("q") else 2
    if len(values) != numbers or not all(
        isinstance(v, (int, float)) and math.isfinite(v) for v in values
    ):
        raise UnsupportedSpaceError(
            f"entry {label!r} of type {kind!r} has {list(values)}; expected {numbers} numbers"
        )
    low, high = values[:2]
    if kind == "randint":  # NNI rounds both bounds up and excludes the upper one
        return _integer(label, math.ceil(low), math.ceil(high) - 1, False, meta)
    if kind in ("uniform", "loguniform"):
        log = kind == "loguniform"
        return UniformFloatHyperparameter(label, float(low), float(high), log=log, meta=meta)
    if kind in ("quniform", "qloguniform"):
        return _quantized(label, kind == "qloguniform", low, high, values[2], meta)
    raise UnsupportedSpaceError(
        f"entry {label!r} has type {kind!r}; expected choice, randint, uniform, quniform, "
        "loguniform or qloguniform (a normal distribution has no bounds: give a range instead)"
    )


def _integer(
    label: str, low: int, high: int, log: bool, meta: dict[Any, Any] | None
) -> Hyperparameter[Any, Any]:
    if low == high:
        return Constant(label, low, meta=meta)
    return UniformIntegerHyperparameter(label, low, high, log=log, meta=meta)


def _quantized(
    label: str, log: bool, low: float, high: float, step: float, meta: dict[Any, Any] | None
) -> Hyperparameter[Any, Any]:
    """``clip(round(x / step) * step, low, high)``, as NNI defines it."""
    if step <= 0 or low > high:
        raise UnsupportedSpaceError(
            f"entry {label!r} takes steps of {step} from {low} to {high}; expected a positive "
            "step, and the lower bound first"
        )
    if step == 1 and low == int(low) and high == int(high):
        return _integer(label, int(low), int(high), log, meta)
    if log or high - low > _MAX_STEPS * step:
        raise UnsupportedSpaceError(
            f"entry {label!r} takes steps of {step} from {low} to {high}"
            f"{' on a log scale' if log else ''}; expected steps of 1, or at most {_MAX_STEPS} "
            "steps on a linear scale: use (log)uniform, or list the values as a choice"
        )
    first, last = round(low / step), round(high / step)
    values = sorted({min(max(i * step, low), high) for i in range(first, last + 1)})
    if len(values) == 1:
        return Constant(label, values[0], meta=meta)
    return OrdinalHyperparameter(label, values, meta=meta)
