"""A space as NNI's search-space JSON and back; a trial's parameters as an architecture.

NNI knows one kind of condition: what lies inside an alternative of a nested ``choice``. So a
decision that exists for exactly one choice of exactly one discrete parent is nested there,
and every other one (several parents, several choices, the depth of a ``repeat``, a shared
label) is written once at the top, where NNI takes it for always active. So is one whose
parent is nested itself, since NNI 3.0's own tuners raise a KeyError at the third level
(``ParameterSpec.is_activated_in``). Reading drops what the space calls inactive, so a label
is one dimension for NNI, wherever it is shared.

The JSON carries the ConfigurationSpace itself under ``"_configspace"`` in its first entry,
which NNI does not look at. That holds what NNI's own notation cannot say (conditions,
weights, order, defaults, forbidden clauses), so the way back is exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import ALWAYS, Decision
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.nni.metric import SUPERNET
from nas_plugins.space import SearchSpace

__all__ = ["architecture_of", "from_nni", "parameters_of", "read_choices", "to_nni"]

CONFIG_SPACE = "_configspace"
KEY = "nni_key"
"""Note in a decision's ``meta``: its key in NNI's JSON, where :func:`to_nni` would choose another
one, or another place."""

_RESERVED = ("_name", "_type", "_value", "_index", CONFIG_SPACE, SUPERNET)
_LARGEST = 2**53  # NNI's manager is JavaScript, which rounds integers beyond


@dataclass(frozen=True)
class _Place:
    """Where a decision stands in the JSON: under ``key``, inside ``branch`` of ``parent``."""

    key: str
    parent: str | None = None
    branch: Choice | None = None


def to_nni(space: SearchSpace) -> dict[str, Any]:
    """NNI's search-space JSON of a space.

    Raises:
        UnsupportedSpaceError: NNI's JSON cannot carry a decision, which is named.

    Example:
        >>> from ConfigSpace import ConfigurationSpace
        >>> to_nni(SearchSpace(ConfigurationSpace({"depth": (1, 4)})))["depth"]["_value"]
        [1, 5]
    """
    specs = _specs(space)
    first = next(iter(specs.values()))
    first[CONFIG_SPACE] = json.loads(space.to_json())
    return specs


def from_nni(search_space: Mapping[str, Any], *, name: str = "nni") -> SearchSpace:
    """The space of a search-space JSON, be it :func:`to_nni`'s or a user's own.

    In a user's own, a key that occurs once becomes the label; one that occurs in several
    places is told apart by its path, ``"layer/conv/kernel"``.

    Raises:
        UnsupportedSpaceError: An entry is malformed, has no bounded equivalent (``normal``),
            or was changed by hand after :func:`to_nni` wrote it.
    """
    if not isinstance(search_space, Mapping) or not search_space:
        raise UnsupportedSpaceError(
            f"search space is {search_space!r}; expected a JSON object of at least one entry "
            'such as {"lr": {"_type": "loguniform", "_value": [0.001, 0.1]}}'
        )
    embedded = [s for s in search_space.values() if isinstance(s, Mapping) and CONFIG_SPACE in s]
    if embedded:
        space = SearchSpace.from_json(json.dumps(embedded[0][CONFIG_SPACE]), name=name)
        _check_unedited(space, search_space)
        return space
    from nas_plugins.nni.own_space import config_space_of

    return SearchSpace(config_space_of(search_space), name=name)


def parameters_of(space: SearchSpace, architecture: Mapping[str, Choice]) -> dict[str, Any]:
    """What NNI hands to a trial; inactive decisions are absent."""
    places = _places(space)
    nested = {place.parent for place in places.values()}
    inside: dict[str | None, dict[str, Any]] = {None: {}}
    for label in space.decisions:  # parents come first
        if label not in architecture:
            continue
        choice, place = architecture[label], places[label]
        home = inside[place.parent]
        if label in nested:
            home[place.key] = inside[label] = {"_name": choice}
        else:
            home[place.key] = choice
    return inside[None]


def architecture_of(space: SearchSpace, parameters: Mapping[str, Any]) -> Architecture:
    """Read the parameters of a trial, whichever tuner chose them.

    Inactive decisions are dropped; ``8.0`` is read as 8 where the decision is integral, and
    a number that rounding put just outside its range is put back.

    Raises:
        ArchitectureError: A key or value is not the space's, or one is missing.
    """
    if not isinstance(parameters, Mapping):
        raise ArchitectureError(
            f"parameters are {parameters!r}; expected a JSON object of label to choice"
        )
    labels = {place: label for label, place in _places(space).items()}
    return read_choices(space, dict(_flatten(space, labels, parameters, None, None)))


def read_choices(space: SearchSpace, given: Mapping[str, Any]) -> Architecture:
    """The architecture among choices of all labels, active or not, with numbers as NNI has them."""
    chosen: dict[str, Any] = {}
    for label, decision in space.decisions.items():
        if label in given and decision.is_active(chosen):
            chosen[label] = _coerce(decision, given[label])
    return space.validate(chosen)


# -- writing ----------------------------------------------------------------------------


def _specs(space: SearchSpace) -> dict[str, Any]:
    if not space.decisions:
        raise UnsupportedSpaceError(f"space {space.name!r} has no decision for NNI to tune")
    places = _places(space)
    children: dict[tuple[str | None, Choice | None], list[str]] = {}
    for label, place in places.items():
        _check_carried(space.decisions[label], place.key)
        children.setdefault((place.parent, place.branch), []).append(label)
    parents = {place.parent for place in places.values()}

    def specs(parent: str | None, branch: Choice | None) -> dict[str, Any]:
        return {
            places[label].key: spec(space.decisions[label])
            for label in children.get((parent, branch), [])
        }

    def spec(decision: Decision) -> dict[str, Any]:
        if decision.label not in parents:
            return _spec(decision)
        assert decision.choices is not None
        branches = [{"_name": c, **specs(decision.label, c)} for c in decision.choices]
        return {"_type": "choice", "_value": branches}

    return specs(None, None)


def _places(space: SearchSpace) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for label, decision in space.decisions.items():  # parents come first
        place = _place(space, decision)
        third = place.parent is not None and places[place.parent].parent is not None
        places[label] = _Place(place.key) if third and KEY not in decision.meta else place
    return places


def _place(space: SearchSpace, decision: Decision) -> _Place:
    key = str(decision.meta.get(KEY, decision.label))
    condition = decision.condition
    if condition != ALWAYS and len(condition) == 1 and len(condition[0]) == 1:
        (literal,) = condition[0]
        if literal.values is not None and len(literal.values) == 1:
            choices = space.decisions[literal.label].choices
            branch = next((c for c in choices or () if literal.holds(c)), None)
            if branch is not None:
                return _Place(key, literal.label, branch)
    return _Place(key)


def _spec(decision: Decision) -> dict[str, Any]:
    if decision.choices is not None:
        return {"_type": "choice", "_value": list(decision.choices)}
    low, high = decision.low, decision.high
    if decision.integer and not decision.log:
        return {"_type": "randint", "_value": [low, high + 1]}  # its upper bound is exclusive
    if decision.integer:
        return {"_type": "qloguniform", "_value": [low, high, 1]}
    return {"_type": "loguniform" if decision.log else "uniform", "_value": [low, high]}


def _check_carried(decision: Decision, key: str) -> None:
    """Refuse what NNI's own readers of JSON would change on the way."""
    if key in _RESERVED:
        raise UnsupportedSpaceError(
            f"decision {decision.label!r} has a label that NNI's search-space JSON reserves; "
            "rename it"
        )
    values = decision.choices if decision.choices is not None else (decision.low, decision.high)
    for text in (key, *values):
        # json_tricks strips comments after '#' and '//', and loses count of escaped quotes.
        if isinstance(text, str) and ('"' in text or "\\" in text):
            raise UnsupportedSpaceError(
                f"decision {decision.label!r} has {text!r}, whose quote or backslash NNI's "
                "reader of JSON does not survive; rename it"
            )
        if isinstance(text, int) and abs(text) > _LARGEST:
            raise UnsupportedSpaceError(
                f"decision {decision.label!r} has {text}, which NNI's manager rounds; expected "
                "integers up to 2**53"
            )


# -- reading ----------------------------------------------------------------------------


def _check_unedited(space: SearchSpace, search_space: Mapping[str, Any]) -> None:
    expected = _specs(space)
    for key in {**expected, **search_space}:
        found = search_space.get(key)
        if isinstance(found, Mapping):
            found = {k: v for k, v in found.items() if k != CONFIG_SPACE}
        if found != expected.get(key):
            raise UnsupportedSpaceError(
                f"entry {key!r} of the search space is {found}, but the space it was generated "
                f"from has {expected.get(key)}: generate the file again, or delete its "
                f"{CONFIG_SPACE!r} entry to take it as it stands, with NNI's conditions only"
            )


def _flatten(
    space: SearchSpace,
    labels: Mapping[_Place, str],
    parameters: Mapping[str, Any],
    parent: str | None,
    branch: Choice | None,
) -> Iterator[tuple[str, Any]]:
    for key, value in parameters.items():
        if key == "_name" and parent is not None:
            continue
        label = labels.get(_Place(key, parent, branch))
        if label is None:
            inside = "" if parent is None else f" inside {branch!r} of {parent!r}"
            raise ArchitectureError(
                f"parameters have {key!r}{inside}, which space {space.name!r} has not; its "
                f"labels are {list(space.decisions)[:8]}. Are they of another space?"
            )
        if not isinstance(value, Mapping):
            yield label, value
            continue
        if "_name" not in value:
            raise ArchitectureError(f"parameter {key!r} is {value!r}, which lacks '_name'")
        yield label, value["_name"]
        yield from _flatten(space, labels, value, label, value["_name"])


def _coerce(decision: Decision, value: Any) -> Any:
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        return value
    if decision.choices is not None:
        numbers = [c for c in decision.choices if not isinstance(c, (bool, str))]
        return next((c for c in numbers if math.isclose(c, value, rel_tol=1e-9)), value)
    if decision.integer:
        return int(value) if math.isfinite(value) and value == int(value) else value
    inside = min(max(float(value), decision.low), decision.high)
    return inside if math.isclose(inside, value, rel_tol=1e-9, abs_tol=1e-12) else value
