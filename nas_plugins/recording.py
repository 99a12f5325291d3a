"""The record reading: a constructor run on the meta device, its decisions noted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Union

import torch
from ConfigSpace import ConfigurationSpace
from ConfigSpace.conditions import (
    AndConjunction,
    EqualsCondition,
    InCondition,
    OrConjunction,
)
from ConfigSpace.hyperparameters import (
    Constant,
    Hyperparameter,
    UniformIntegerHyperparameter,
)
from torch import nn

from nas_plugins.architecture import Choice
from nas_plugins.choices import (
    Block,
    Choose,
    Factory,
    Merge,
    MergedInputs,
    call_block,
    call_factory,
    call_head,
    categorical,
)
from nas_plugins.decision import INPUT_SEPARATOR, Literal
from nas_plugins.errors import UnsupportedSpaceError

__all__ = ["Recorder", "record"]

_MAX_COMBINATIONS = 5_000

Scope = tuple[Literal, ...]


def record(network: Callable[..., nn.Module], options: Mapping[str, Any]) -> ConfigurationSpace:
    """Run the constructor on the meta device and note what it asks, allocating nothing."""
    recorder = Recorder()
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network(recorder, **options)
    return recorder.config_space()


@dataclass
class _Entry:
    hyperparameter: Hyperparameter[Any, Any]
    scopes: list[Scope] = field(default_factory=list)


class Recorder(Choose):
    """Notes each decision and the scopes (conjunctions of choices) it was asked in."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._scope: Scope = ()

    def config_space(self) -> ConfigurationSpace:
        space = ConfigurationSpace()
        space.add([entry.hyperparameter for entry in self._entries.values()])
        for label, entry in self._entries.items():
            clauses = self._condition(entry.scopes)
            if () in clauses:
                continue
            parts = []
            for clause in clauses:
                atoms = [_config_condition(space, label, literal) for literal in clause]
                parts.append(atoms[0] if len(atoms) == 1 else AndConjunction(*atoms))
            space.add(parts[0] if len(parts) == 1 else OrConjunction(*parts))
        return space

    def _layer(
        self, label: str, candidates: dict[str, Factory], only_in_mixture: dict[str, Factory]
    ) -> nn.Module:
        self._note(categorical(label, list(candidates), {"verb": "layer"}))
        for name, factory in candidates.items():
            with self._inside(label, {name}):
                module = call_factory(label, name, factory)
        for name, factory in only_in_mixture.items():
            call_factory(label, name, factory)
        return module

    def _inputs(
        self,
        label: str,
        candidates: dict[str, Factory],
        num_chosen: int | None,
        required: list[str],
        merge: Merge,
    ) -> nn.Module:
        names = list(candidates)
        if num_chosen is None:
            for name in names:
                if name in required:
                    call_factory(label, name, candidates[name])
                    continue
                meta: dict[Hashable, Any] = {"verb": "inputs", "of": label, "edge": name}
                self._note(categorical(f"{label}/{name}", [False, True], meta))
                with self._inside(f"{label}/{name}", {True}):
                    call_factory(label, name, candidates[name])
            return MergedInputs({}, [], merge)
        combinations = _combinations(label, names, num_chosen)
        meta = {"verb": "inputs", "edges": names}
        self._note(categorical(label, list(combinations), meta))
        for name in names:
            with self._inside(label, {c for c, used in combinations.items() if name in used}):
                call_factory(label, name, candidates[name])
        return MergedInputs({}, [], merge)

    def _unused(
        self, labels: list[str], candidates: dict[str, Factory], required: list[str]
    ) -> nn.Module:
        for label in labels:
            entry = self._entries.get(label)
            scopes = [] if entry is None else entry.scopes
            here = any(set(scope) <= set(self._scope) for scope in scopes)
            if entry is None or not here or "edges" not in (entry.hyperparameter.meta or {}):
                raise UnsupportedSpaceError(
                    f"unused() is asked for what {label!r} leaves over; expected a decision of "
                    "inputs(num_chosen=...) that was asked before and is active here"
                )
        for name, factory in candidates.items():
            call_factory("unused", name, factory)
        return MergedInputs({}, [], "sum")

    def _repeat(self, label: str, block: Block, depths: list[int], head: Block | None) -> nn.Module:
        meta: dict[Hashable, Any] = {"verb": "repeat"}
        low, high = depths[0], depths[-1]
        if low == high:
            self._note(Constant(label, low, meta=meta))
        elif len(depths) == high - low + 1:
            self._note(UniformIntegerHyperparameter(label, low, high, meta=meta))
        else:
            self._note(categorical(label, depths, meta))
        for i in range(high):
            with self._inside(label, {d for d in depths if d > i}):
                call_block(label, block, i)
        if head is not None:
            for d in depths:
                with self._inside(label, {d}):
                    call_head(label, head, d)
        return nn.Sequential()

    def _value(self, label: str, hyperparameter: Hyperparameter[Any, Any]) -> Choice:
        self._note(hyperparameter)
        default = hyperparameter.default_value
        return default.item() if hasattr(default, "item") else default

    def _note(self, hyperparameter: Hyperparameter[Any, Any]) -> None:
        label = hyperparameter.name
        entry = self._entries.setdefault(label, _Entry(hyperparameter))
        if (
            entry.hyperparameter != hyperparameter
            or entry.hyperparameter.meta != hyperparameter.meta
        ):
            raise UnsupportedSpaceError(
                f"label {label!r} stands for two different decisions: {entry.hyperparameter} "
                f"and {hyperparameter}. The same label is the same decision wherever it "
                "appears: rename one, or give both the same candidates"
            )
        if any(literal.label == label for literal in self._scope):
            raise UnsupportedSpaceError(f"decision {label!r} is asked inside its own candidate")
        if self._scope not in entry.scopes:
            entry.scopes.append(self._scope)

    @contextmanager
    def _inside(self, label: str, choices: set[Any]) -> Iterator[None]:
        outer = self._scope
        if len(choices) < self._num_choices(label):
            self._scope = (*outer, Literal(label, frozenset(choices)))
        # else: every choice leads here, so the scope is the decision's own
        try:
            yield
        finally:
            self._scope = outer

    def _num_choices(self, label: str) -> int:
        hyperparameter = self._entries[label].hyperparameter
        return int(hyperparameter.size)

    def _condition(self, scopes: list[Scope]) -> list[Scope]:
        """Shortest equivalent of a disjunction of scopes that this code can see."""
        scopes = _without_implied(scopes)
        if scopes == [()]:
            return scopes
        clauses: list[Scope] = []
        alternatives: dict[str, frozenset[Choice]] = {}
        for clause in self._shortened(scopes):
            if len(clause) == 1:
                (literal,) = clause
                assert literal.values is not None
                known = alternatives.get(literal.label, frozenset())
                alternatives[literal.label] = known | literal.values
            else:
                clauses.append(clause)
        for label, values in alternatives.items():
            if len(values) < self._num_choices(label):
                clauses.append((Literal(label, values),))
            else:  # every choice of an active parent: the parent's own condition
                clauses.extend(self._condition(self._entries[label].scopes))
        return _without_implied(clauses)

    def _shortened(self, scopes: list[Scope]) -> Iterator[Scope]:
        """Without what the innermost decision's own condition already says."""
        outer: dict[Literal, list[Scope]] = {}
        for scope in scopes:
            outer.setdefault(scope[-1], []).append(scope[:-1])
        for last, rests in outer.items():
            if set(_without_implied(self._entries[last.label].scopes)) <= set(rests):
                yield (last,)
                continue
            for rest in rests:
                yield (*(next(self._shortened([rest])) if rest else ()), last)


def _without_implied(scopes: list[Scope]) -> list[Scope]:
    """Only those conjunctions of a disjunction that say something others do not."""

    def implies(scope: Scope, other: Scope) -> bool:
        return all(
            any(mine.label == its.label and mine.values <= its.values for mine in scope)  # type: ignore[operator]
            for its in other
        )

    kept: list[Scope] = []
    for scope in scopes:
        if not any(implies(scope, other) for other in kept):
            kept = [other for other in kept if not implies(other, scope)] + [scope]
    return kept


def _combinations(label: str, names: list[str], num_chosen: int) -> dict[str, tuple[str, ...]]:
    combinations = list(
        itertools.islice(itertools.combinations(names, num_chosen), _MAX_COMBINATIONS + 1)
    )
    if len(combinations) > _MAX_COMBINATIONS:
        raise UnsupportedSpaceError(
            f"{label!r} has more than {_MAX_COMBINATIONS} combinations of {num_chosen} out of "
            f"{len(names)} inputs: use num_chosen=None, one yes-or-no decision per input"
        )
    return {INPUT_SEPARATOR.join(used): used for used in combinations}


def _config_condition(
    space: ConfigurationSpace, label: str, literal: Literal
) -> Union[EqualsCondition, InCondition]:
    child, parent = space[label], space[literal.label]
    assert literal.values is not None
    values = sorted(literal.values, key=lambda v: (str(type(v)), v))
    if len(values) == 1:
        return EqualsCondition(child, parent, values[0])
    return InCondition(child, parent, values)
