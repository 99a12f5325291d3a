"""The verbs a network asks its choices with, and two of the three readings of them.

A network is an ordinary ``nn.Module`` whose constructor receives ``choose`` first::

    class Block(nn.Module):
        def __init__(self, choose, channels):
            super().__init__()
            self.op = choose.layer("op", {
                "conv": lambda: nn.Conv2d(channels, channels, 3, padding=1),
                "skip": nn.Identity,
            })

*record* notes each decision on the meta device; *build* answers from an architecture; the
third reading, *mix*, is :mod:`nas_plugins.supernet`. Candidates are factories, so that what
is not chosen is never built. A choice asked while a factory runs exists only when that
candidate is chosen. The same label is the same decision, wherever it appears.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Union
from typing import Literal as OneOf

import torch
from ConfigSpace import ConfigurationSpace
from ConfigSpace.conditions import (
    AndConjunction,
    EqualsCondition,
    InCondition,
    OrConjunction,
)
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    Hyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import INPUT_SEPARATOR, Literal
from nas_plugins.errors import (
    ArchitectureError,
    CandidateError,
    NasPluginsError,
    UnsupportedSpaceError,
)

__all__ = ["Choose", "Factory", "Merge", "MergedInputs", "build", "record"]

Factory = Callable[[], nn.Module]
Block = Callable[[int], nn.Module]
Merge = OneOf["sum", "mean"]

_MAX_COMBINATIONS = 5_000


class Choose(ABC):
    """What a network's constructor asks. Every verb takes the decision's label first."""

    def layer(
        self,
        label: str,
        candidates: Mapping[str, Factory],
        *,
        only_in_mixture: Mapping[str, Factory] | None = None,
    ) -> nn.Module:
        """One of several modules.

        Args:
            label: Name of the decision.
            candidates: Choice to factory of the module it stands for.
            only_in_mixture: Further candidates that a supernet mixes but no architecture
                may have, such as DARTS's ``none``.

        Raises:
            UnsupportedSpaceError: No candidates, or names that cannot be used.
            CandidateError: A factory raised, or returned no module.
        """
        extra = dict(only_in_mixture or {})
        _check_names(label, [*candidates, *extra])
        return self._layer(label, dict(candidates), extra)

    def inputs(
        self,
        label: str,
        candidates: Mapping[str, Factory] | Sequence[str | int] | int,
        *,
        num_chosen: int | None = 1,
        required: Sequence[str | int] = (),
        merge: Merge = "sum",
    ) -> nn.Module:
        """Which of the earlier tensors, each through a module of its own, are merged.

        The module that comes back maps the list of *all* earlier tensors, in the order of
        ``candidates``, to the merged tensor. Concatenation followed by a 1x1 convolution is
        the sum of one convolution per input: give each candidate its convolution.

        Args:
            label: Name of the decision.
            candidates: Name of each earlier tensor to a factory of the module applied to
                it; or only the names, or only their number, for the identity.
            num_chosen: How many are chosen, as one decision over all combinations; or
                ``None`` for any subset, as one yes-or-no decision ``label/name`` each.
            required: With ``num_chosen=None``, names that are always connected.
            merge: ``sum`` or ``mean`` of the chosen. Of an empty subset: zeros like the
                first tensor.
        """
        if isinstance(candidates, int):
            candidates = range(candidates)
        if not isinstance(candidates, Mapping):
            candidates = {str(name): nn.Identity for name in candidates}
        _check_names(label, list(candidates))
        always = [str(name) for name in required]
        if merge not in ("sum", "mean"):
            raise UnsupportedSpaceError(f"merge of {label!r} is {merge!r}; expected sum or mean")
        if any(INPUT_SEPARATOR in name for name in candidates):
            raise UnsupportedSpaceError(f"input names of {label!r} may not hold '+'")
        if set(always) - set(candidates) or (always and num_chosen is not None):
            raise UnsupportedSpaceError(
                f"required={always} of {label!r} needs num_chosen=None and names among "
                f"{list(candidates)}"
            )
        if num_chosen is not None and not 1 <= num_chosen <= len(candidates):
            raise UnsupportedSpaceError(
                f"num_chosen of {label!r} is {num_chosen}; expected 1 to {len(candidates)}, "
                "or None for any subset"
            )
        return self._inputs(label, dict(candidates), num_chosen, always, merge)

    def repeat(
        self,
        label: str,
        block: Block,
        depth: tuple[int, int] | Sequence[int],
        *,
        head: Block | None = None,
    ) -> nn.Module:
        """As many blocks in sequence as chosen; what lies past the depth is inactive.

        Args:
            label: Name of the decision.
            block: Factory of the block at position 0, 1, ….
            depth: A pair ``(fewest, most)`` for every depth between, or a list of depths.
            head: Factory of what follows that many blocks, for blocks that change the
                shape. A supernet has a head for every depth and mixes behind the heads.
        """
        between = isinstance(depth, tuple) and len(depth) == 2
        depths = list(range(depth[0], depth[1] + 1)) if between else sorted(set(depth))
        if not depths or depths[0] < 0 or not all(isinstance(d, int) for d in depths):
            raise UnsupportedSpaceError(
                f"depth of {label!r} is {depth!r}; expected (fewest, most) or a list of "
                "depths, each an integer of at least 0"
            )
        return self._repeat(label, block, depths, head)

    def value(
        self,
        label: str,
        choices: Sequence[Choice] | None = None,
        *,
        low: float | None = None,
        high: float | None = None,
        log: bool = False,
    ) -> Any:
        """A number or other plain value: one of ``choices``, or within ``[low, high]``.

        A range is integral when both bounds are integers. A supernet cannot mix a value
        that shapes its modules: it is fixed there (``space.supernet(fixed=...)``).
        """
        if (choices is None) == (low is None or high is None):
            raise UnsupportedSpaceError(
                f"value {label!r} needs either choices=[...] or both low= and high="
            )
        if choices is not None:
            if not choices:
                raise UnsupportedSpaceError(f"value {label!r} has no choices")
            hyperparameter = _categorical(label, list(choices), {"verb": "value"})
        else:
            assert low is not None
            assert high is not None
            integral = isinstance(low, int) and isinstance(high, int)
            kind = UniformIntegerHyperparameter if integral else UniformFloatHyperparameter
            hyperparameter = kind(label, low, high, log=log, meta={"verb": "value"})
        return self._value(label, hyperparameter)

    @abstractmethod
    def _layer(
        self, label: str, candidates: dict[str, Factory], only_in_mixture: dict[str, Factory]
    ) -> nn.Module: ...

    @abstractmethod
    def _inputs(
        self,
        label: str,
        candidates: dict[str, Factory],
        num_chosen: int | None,
        required: list[str],
        merge: Merge,
    ) -> nn.Module: ...

    @abstractmethod
    def _repeat(
        self, label: str, block: Block, depths: list[int], head: Block | None
    ) -> nn.Module: ...

    @abstractmethod
    def _value(self, label: str, hyperparameter: Hyperparameter[Any, Any]) -> Choice: ...


class MergedInputs(nn.Module):
    """Sum or mean of chosen earlier tensors, each through its own edge.

    Args:
        edges: Name to the module applied to that tensor.
        positions: Where each edge's tensor stands in the list given to ``forward``.
        merge: ``sum`` or ``mean``.
    """

    def __init__(self, edges: Mapping[str, nn.Module], positions: Sequence[int], merge: Merge):
        super().__init__()
        self.edges = nn.ModuleDict(edges)
        self.positions = tuple(positions)
        self.merge = merge

    def forward(self, states: list[Tensor]) -> Tensor:
        if not self.positions:
            return torch.zeros_like(states[0])
        merged: Tensor | None = None
        for edge, position in zip(self.edges.values(), self.positions, strict=True):
            out = edge(states[position])
            merged = out if merged is None else merged + out
        assert merged is not None
        return merged / len(self.positions) if self.merge == "mean" else merged


# -- build ------------------------------------------------------------------------------


def build(
    network: Callable[..., nn.Module], architecture: Architecture, options: Mapping[str, Any]
) -> nn.Module:
    """The child of an architecture, every choice answered from it."""
    return network(Builder(architecture), **options)


class Builder(Choose):
    """Answers from an architecture and builds the chosen candidates alone."""

    def __init__(self, architecture: Mapping[str, Choice]) -> None:
        self._architecture = architecture

    def _answer(self, label: str) -> Choice:
        try:
            return self._architecture[label]
        except KeyError:
            raise ArchitectureError(
                f"the network asks for {label!r}, which the architecture has not. Either the "
                "architecture is another space's, or the network asks for it only after "
                "Python control flow on a value: use repeat or layer for that, so that "
                "recording sees every decision"
            ) from None

    def _layer(
        self, label: str, candidates: dict[str, Factory], only_in_mixture: dict[str, Factory]
    ) -> nn.Module:
        name = str(self._answer(label))
        return call_factory(label, name, _candidate(label, name, candidates))

    def _inputs(
        self,
        label: str,
        candidates: dict[str, Factory],
        num_chosen: int | None,
        required: list[str],
        merge: Merge,
    ) -> nn.Module:
        if num_chosen is None:
            chosen = [n for n in candidates if n in required or self._answer(f"{label}/{n}")]
        else:
            chosen = str(self._answer(label)).split(INPUT_SEPARATOR)
        edges = {n: call_factory(label, n, _candidate(label, n, candidates)) for n in chosen}
        return MergedInputs(edges, [list(candidates).index(n) for n in chosen], merge)

    def _repeat(self, label: str, block: Block, depths: list[int], head: Block | None) -> nn.Module:
        depth = self._answer(label)
        if depth not in depths:
            raise ArchitectureError(f"depth {depth!r} of {label!r} is not one of {depths}")
        blocks = nn.Sequential(*(call_block(label, block, i) for i in range(int(depth))))
        if head is not None:
            blocks.add_module("head", call_head(label, head, int(depth)))
        return blocks

    def _value(self, label: str, hyperparameter: Hyperparameter[Any, Any]) -> Choice:
        return self._answer(label)


def _candidate(label: str, name: str, candidates: Mapping[str, Factory]) -> Factory:
    if name not in candidates:
        raise ArchitectureError(f"choice {name!r} of {label!r} is not one of {list(candidates)}")
    return candidates[name]


# -- record -----------------------------------------------------------------------------

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
        self._note(_categorical(label, list(candidates), {"verb": "layer"}))
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
                self._note(_categorical(f"{label}/{name}", [False, True], meta))
                with self._inside(f"{label}/{name}", {True}):
                    call_factory(label, name, candidates[name])
            return MergedInputs({}, [], merge)
        combinations = _combinations(label, names, num_chosen)
        meta = {"verb": "inputs", "edges": names}
        self._note(_categorical(label, list(combinations), meta))
        for name in names:
            with self._inside(label, {c for c, used in combinations.items() if name in used}):
                call_factory(label, name, candidates[name])
        return MergedInputs({}, [], merge)

    def _repeat(self, label: str, block: Block, depths: list[int], head: Block | None) -> nn.Module:
        meta: dict[Hashable, Any] = {"verb": "repeat"}
        low, high = depths[0], depths[-1]
        if low == high:
            self._note(Constant(label, low, meta=meta))
        elif len(depths) == high - low + 1:
            self._note(UniformIntegerHyperparameter(label, low, high, meta=meta))
        else:
            self._note(_categorical(label, depths, meta))
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


def _categorical(
    label: str, choices: list[Any], meta: dict[Hashable, Any]
) -> Hyperparameter[Any, Any]:
    return CategoricalHyperparameter(label, choices, meta=meta)


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


# -- shared -----------------------------------------------------------------------------


def call_factory(label: str, name: str, factory: Factory) -> nn.Module:
    """The candidate's module; whatever goes wrong names the decision and the candidate."""
    if isinstance(factory, nn.Module) or not callable(factory):
        raise UnsupportedSpaceError(
            f"candidate {name!r} of {label!r} is a {type(factory).__name__}; expected a factory, "
            "so that what is not chosen is never built: write lambda: ..."
        )
    try:
        module = factory()
    except NasPluginsError:
        raise
    except Exception as error:
        raise CandidateError(
            f"candidate {name!r} of {label!r} failed to build: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise CandidateError(
            f"candidate {name!r} of {label!r} built a {type(module).__name__}; "
            "expected a torch.nn.Module"
        )
    return module


def call_block(label: str, block: Block, index: int) -> nn.Module:
    return call_factory(label, str(index), lambda: block(index))


def call_head(label: str, head: Block, depth: int) -> nn.Module:
    return call_factory(label, f"head of {depth}", lambda: head(depth))


_KEYS = nn.ModuleDict()


def _check_names(label: str, names: list[str]) -> None:
    if not isinstance(label, str) or not label:
        raise UnsupportedSpaceError(f"label is {label!r}; expected a non-empty string")
    if not names:
        raise UnsupportedSpaceError(f"{label!r} has no candidates; expected at least one")
    bad = [n for n in names if not isinstance(n, str) or "." in n or not n or hasattr(_KEYS, n)]
    if bad or len(set(names)) < len(names):
        raise UnsupportedSpaceError(
            f"candidate names of {label!r} are {names}; expected distinct non-empty strings "
            "without '.', as each becomes part of a state-dict key, and none an attribute of "
            "torch.nn.ModuleDict such as 'half' or 'type'"
        )
