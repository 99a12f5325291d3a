"""NNI's mutables as a space, and an architecture as NNI's sample.

``model_space.simplify()`` gives what NNI tunes: label to mutable, all always active.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    Hyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from nni.mutable import Categorical, CategoricalMultiple, LabeledMutable, Numerical
from nni.mutable.annotation import Constraint
from nni.mutable.utils import label as nni_label

from nas_plugins.architecture import Choice
from nas_plugins.decision import INPUT_SEPARATOR, Decision
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.space import SearchSpace

__all__ = ["Translation", "mutable_of"]

_MAX_COMBINATIONS = 10_000


def mutable_of(decision: Decision) -> LabeledMutable:
    """NNI's mutable of a decision, without its condition: NNI has none."""
    label = nni_label(decision.label.split("/"))  # NNI's own labels may not contain a slash
    if decision.choices is not None:
        default: Any = {"default": decision.default}
        return Categorical(list(decision.choices), label=label, weights=decision.weights, **default)
    return Numerical(
        decision.low,
        decision.high,
        quantize=1 if decision.integer else None,
        log_distributed=decision.log,
        default=decision.default,
        label=label,
    )


@dataclass
class Translation:
    """Mutables and the space that stands for them.

    A ``CategoricalMultiple`` that picks k of its values becomes one decision over the
    combinations; one that picks any number becomes a yes-or-no decision per value.

    Args:
        mutables: Label to mutable, as ``model_space.simplify()`` gives them.
        space: Decisions of the same labels.

    Example:
        >>> translation = Translation.of({"op": Categorical(["conv", "pool"], label="op")})
        >>> translation.sample({"op": "pool"})
        {'op': 'pool'}
    """

    mutables: Mapping[str, LabeledMutable]
    space: SearchSpace

    @classmethod
    def of(cls, mutables: Mapping[str, LabeledMutable]) -> Translation:
        """Translate mutables; constraints add no decision, NNI checks them itself.

        Raises:
            UnsupportedSpaceError: A mutable has no equivalent; its label is named.
        """
        space = ConfigurationSpace()
        tuned = {str(k): m for k, m in mutables.items() if not isinstance(m, Constraint)}
        for label, mutable in tuned.items():
            for hyperparameter in _hyperparameters(label, mutable):
                space.add(hyperparameter)
        return cls(tuned, SearchSpace(space, name="nni"))

    def sample(self, architecture: Mapping[str, Choice]) -> dict[str, Any]:
        """What NNI freezes a model space with."""
        return {label: self._value(label, m, architecture) for label, m in self.mutables.items()}

    def _value(
        self, label: str, mutable: LabeledMutable, architecture: Mapping[str, Choice]
    ) -> Any:
        if isinstance(mutable, Categorical):
            return _values(mutable)[architecture[label]]
        if isinstance(mutable, CategoricalMultiple):
            values = _values(mutable)
            if mutable.n_chosen is None:
                return [v for name, v in values.items() if architecture[f"{label}/{name}"]]
            names = _combinations(label, mutable)[str(architecture[label])]
            return [values[name] for name in names]
        return architecture[label]


def _hyperparameters(label: str, mutable: Any) -> Sequence[Hyperparameter[Any, Any]]:
    if isinstance(mutable, Categorical):
        return [_categorical(label, list(_values(mutable)), weights=mutable.weights)]
    if isinstance(mutable, CategoricalMultiple) and mutable.n_chosen is None:
        return [_categorical(f"{label}/{name}", [False, True]) for name in _values(mutable)]
    if isinstance(mutable, CategoricalMultiple):
        meta = {"verb": "inputs", "edges": list(_values(mutable))}
        return [_categorical(label, list(_combinations(label, mutable)), meta=meta)]
    if isinstance(mutable, Numerical):
        return [_numerical(label, mutable)]
    raise UnsupportedSpaceError(
        f"{label!r} is a {type(mutable).__name__}; expected a Categorical, CategoricalMultiple or "
        "Numerical of NNI"
    )


def _categorical(label: str, choices: list[Any], **options: Any) -> Hyperparameter[Any, Any]:
    if len(choices) == 1:
        return Constant(label, choices[0])
    return CategoricalHyperparameter(label, choices, **options)


def _values(mutable: Any) -> dict[Any, Any]:
    """Choice to value: the value itself if it is a scalar, else its place in the list."""
    values = list(mutable.values)
    single = isinstance(mutable, Categorical)
    if single and all(isinstance(v, (str, int, float, bool)) for v in values):
        return {v: v for v in values}
    names = [str(v) for v in values]
    plain = len(set(names)) == len(names) and not any(INPUT_SEPARATOR in n for n in names)
    if not plain or not all(isinstance(v, (str, int, float, bool)) for v in values):
        names = [str(i) for i in range(len(values))]
    return dict(zip(names, values, strict=True))


def _combinations(label: str, mutable: Any) -> dict[str, tuple[str, ...]]:
    names = list(_values(mutable))
    if math.comb(len(names), mutable.n_chosen) > _MAX_COMBINATIONS:
        raise UnsupportedSpaceError(
            f"{label!r} picks {mutable.n_chosen} of {len(names)}, more than {_MAX_COMBINATIONS} "
            "combinations; expected fewer candidates, or n_chosen=None"
        )
    combinations = itertools.combinations(names, mutable.n_chosen)
    return {INPUT_SEPARATOR.join(chosen): chosen for chosen in combinations}


def _numerical(label: str, mutable: Any) -> Hyperparameter[Any, Any]:
    low, high, step = mutable.low, mutable.high, mutable.quantize
    if mutable.mu is not None or not (math.isfinite(low) and math.isfinite(high)):
        raise UnsupportedSpaceError(
            f"{label!r} is {mutable}; expected a bounded range, as a normal distribution has none"
        )
    log = bool(mutable.log_distributed)
    if step is None:
        return UniformFloatHyperparameter(label, float(low), float(high), log=log)
    if step == 1 and low == int(low) and high == int(high):
        return UniformIntegerHyperparameter(label, int(low), int(high), log=log)
    raise UnsupportedSpaceError(
        f"{label!r} takes steps of {step} from {low} to {high}; expected steps of 1 between "
        "integers: use nni.choice over the values"
    )
