"""The search space: decisions, when each is active, and how to move among architectures.

A :class:`SearchSpace` holds a :class:`ConfigSpace.ConfigurationSpace`, the format that is
exchanged with hosts, and a compiled form of it that samples and mutates in microseconds.
"""

from __future__ import annotations

import json
import math
from bisect import bisect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ConfigSpace import ConfigurationSpace

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.counting import count_assignments
from nas_plugins.decision import Decision, compile_decisions
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError

if TYPE_CHECKING:
    from torch import nn

    from nas_plugins.supernet import Execution, Supernet

__all__ = ["SearchSpace", "joined_canonical", "require_space"]

_MAX_REJECTIONS = 10_000
_MAX_CHANGES = 1_000


class SearchSpace:
    """Every architecture that may be chosen, with what is needed to build it.

    Args:
        config_space: Decisions with their conditions and forbidden clauses.
        network: Callable ``network(choose, **options) -> nn.Module`` that asks for the
            decisions; ``None`` for a space without a network (a table, plain
            hyper-parameters).
        options: Keyword arguments ``network`` is called with; JSON-able.
        canonical: Maps an architecture to a hashable that is equal for architectures
            which are the same network (isomorphic cells); default: the architecture.
        name: Shown in messages and on pictures.

    Example:
        >>> from ConfigSpace import ConfigurationSpace
        >>> space = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "depth": (1, 3)}))
        >>> space.size
        6
    """

    def __init__(
        self,
        config_space: ConfigurationSpace,
        *,
        network: Callable[..., nn.Module] | None = None,
        options: Mapping[str, Any] | None = None,
        canonical: Callable[[Architecture], Hashable] | None = None,
        name: str = "space",
    ) -> None:
        self.config_space = config_space
        self.network = network
        self.options: dict[str, Any] = dict(options or {})
        self.name = name
        self._canonical = canonical
        self._decisions = compile_decisions(config_space)
        self._clauses = list(config_space.forbidden_clauses)
        self._order = {label: i for i, label in enumerate(self._decisions)}
        self._conditional_on = {
            literal.label
            for decision in self._decisions.values()
            for clause in decision.condition
            for literal in clause
        }

    # -- definition ---------------------------------------------------------------------

    @classmethod
    def from_network(
        cls,
        network: Callable[..., nn.Module],
        *,
        canonical: Callable[[Architecture], Hashable] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> SearchSpace:
        """Record the decisions ``network(choose, **options)`` asks for, allocating nothing.

        Raises:
            UnsupportedSpaceError: One label has two candidate sets, or no candidate; or nothing
                was asked.
            CandidateError: A candidate's factory raised.
        """
        from nas_plugins.recording import record

        recorded = record(network, options)
        if not len(recorded):
            raise UnsupportedSpaceError(
                f"{getattr(network, '__name__', network)!r} asked for no choice; expected a class "
                "or function whose first argument, choose, it asks: choose.layer(label, ...)"
            )
        return cls(
            recorded,
            network=network,
            options=options,
            canonical=canonical,
            name=name or str(getattr(network, "__name__", "space")),
        )

    def join(self, other: SearchSpace | ConfigurationSpace) -> SearchSpace:
        """This space and the decisions of another in one, say hyper-parameters of training.

        The labels of the two must differ; network and options stay this space's own.
        """
        addition = other.config_space if isinstance(other, SearchSpace) else other
        merged = ConfigurationSpace()
        shared = set(self.config_space) & set(addition)
        if shared:
            raise UnsupportedSpaceError(
                f"cannot join {self.name!r} with another space: both have {sorted(shared)}; "
                "rename the labels of one"
            )
        for part in (self.config_space, addition):
            merged.add(list(part.values()))
            merged.add(list(part.conditions))
            merged.add(list(part.forbidden_clauses))
        canonical = None
        if self._canonical is not None:
            canonical = partial(joined_canonical, self._canonical, frozenset(self.decisions))
        return SearchSpace(
            merged,
            network=self.network,
            options=self.options,
            canonical=canonical,
            name=self.name,
        )

    def to_json(self) -> str:
        """The decisions as ConfigSpace JSON; network and options are not part of it."""
        return json.dumps(self.config_space.to_serialized_dict())

    @classmethod
    def from_json(cls, text: str | Path, **keywords: Any) -> SearchSpace:
        """Read what :meth:`to_json` wrote; ``keywords`` go to the constructor.

        Raises:
            UnsupportedSpaceError: Not what :meth:`to_json` wrote.
        """
        if isinstance(text, Path):
            text = text.read_text(encoding="utf-8")
        try:
            content = json.loads(text)
            content["hyperparameters"]  # without them ConfigSpace reads an empty space
            config_space = ConfigurationSpace.from_serialized_dict(content)
        except (ValueError, KeyError, TypeError) as error:
            raise UnsupportedSpaceError(
                f"not a space's JSON ({type(error).__name__}: {error}); expected what to_json wrote"
            ) from error
        return cls(config_space, **keywords)

    # -- questions ----------------------------------------------------------------------

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Label to decision; a decision comes after those it depends on."""
        return self._decisions

    @cached_property
    def num_assignments(self) -> int | float:
        """Number of architectures were there no forbidden clauses: exact, or ``math.inf``."""
        return count_assignments(self._decisions)

    @property
    def size(self) -> int | float:
        """Number of architectures: exact, or ``math.inf`` with a real-valued decision.

        Raises:
            UnsupportedSpaceError: Forbidden clauses in a space too large to enumerate.
        """
        total = self.num_assignments
        if not self.config_space.forbidden_clauses or total == math.inf:
            return total
        if total > 1_000_000:
            raise UnsupportedSpaceError(
                f"size of {self.name!r} is not known: it has forbidden clauses and up to "
                f"{total} architectures, more than can be enumerated"
            )
        return sum(1 for _ in self.enumerate())

    def __contains__(self, architecture: object) -> bool:
        if not isinstance(architecture, Architecture):
            return False
        try:
            self.validate(architecture)
        except ArchitectureError:
            return False
        return True

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self._decisions)} decisions)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return self.config_space == other.config_space and self.options == other.options

    __hash__ = None  # type: ignore[assignment]

    def validate(self, architecture: Mapping[str, Choice]) -> Architecture:
        """Return the architecture if it belongs to the space, choices in the space's own types.

        Raises:
            ArchitectureError: Names the first decision that is unknown, missing, inactive,
                or holds no legal choice.
        """
        if not isinstance(architecture, Architecture):
            architecture = Architecture(architecture)
        unknown = [label for label in architecture if label not in self._decisions]
        if unknown:
            raise ArchitectureError(
                f"architecture has label {unknown[0]!r}, which space {self.name!r} has not; "
                f"its labels are {_some(self._decisions)}. Was it found in another space?"
            )
        seen: dict[str, Choice] = {}
        for label, decision in self._decisions.items():
            active = decision.is_active(seen)
            if active and label not in architecture:
                raise ArchitectureError(
                    f"architecture lacks a choice at {label!r} of space {self.name!r}; "
                    f"expected {decision.describe()}"
                )
            if not active and label in architecture:
                raise ArchitectureError(
                    f"architecture has choice {architecture[label]!r} at {label!r}, which is "
                    f"inactive: it exists only when {decision.describe_condition()}; remove it"
                )
            if active:
                if not decision.allows(architecture[label]):
                    raise ArchitectureError(
                        f"architecture has choice {architecture[label]!r} at {label!r} of space "
                        f"{self.name!r}; expected {decision.describe()}"
                    )
                seen[label] = decision.own(architecture[label])
        if self.is_forbidden(seen):
            raise ArchitectureError(
                f"architecture {dict(architecture)} is forbidden by a clause of space "
                f"{self.name!r}: {self.config_space.forbidden_clauses}"
            )
        foreign = any(
            type(choice) is not type(seen[label]) for label, choice in architecture.items()
        )
        return Architecture(seen) if foreign else architecture

    def canonical(self, architecture: Architecture) -> Hashable:
        """A hashable that is equal for architectures that are the same network."""
        return architecture if self._canonical is None else self._canonical(architecture)

    # -- moves --------------------------------------------------------------------------

    def default(self) -> Architecture:
        """The architecture of every decision's default choice."""
        return self._accept(lambda: self._complete({}, lambda decision: decision.default))

    def sample(
        self, rng: np.random.Generator, given: Mapping[str, Choice] | None = None
    ) -> Architecture:
        """Draw every active decision independently from its prior (uniform unless weighted).

        Args:
            rng: Source of randomness.
            given: Choices that are not drawn.
        """
        known = given or {}
        return self._accept(lambda: self._complete(known, lambda d: d.sample(rng)))

    def mutable(self, architecture: Mapping[str, Choice]) -> list[str]:
        """Labels of the decisions that have another choice, in the space's order."""
        labels = [label for label in architecture if self._decisions[label].num_choices > 1]
        # The architecture's own order may differ between hosts, the space's does not.
        return sorted(labels, key=self._order.__getitem__)

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
        *,
        times: int = 1,
        odds: Callable[[tuple[str, ...]], Sequence[float]] | None = None,
    ) -> Architecture:
        """Change one decision to another legal choice.

        Decisions that become active are drawn from their prior, those that become inactive
        are dropped. Of ``inputs`` one input is exchanged for another.

        Args:
            architecture: Left as it is.
            rng: Source of randomness.
            times: How many such changes follow each other; a decision may change back. Where
                forbidden clauses leave no single change, a fresh draw takes its place.
            odds: Gives the probability with which each of some decisions is the one that
                changes, from their labels; default: all are equally likely.

        Raises:
            UnsupportedSpaceError: No decision of the architecture has a second choice.
        """
        mutable, limits = self._mutable_with(architecture, odds)
        if not mutable:
            raise UnsupportedSpaceError(
                f"nothing to mutate in space {self.name!r}: every decision of the architecture "
                "has a single choice"
            )
        chosen = dict(architecture)

        def proposal() -> dict[str, Choice]:
            if limits is None:
                label = mutable[rng.integers(len(mutable))]
            else:
                label = mutable[bisect(limits, rng.random() * limits[-1], hi=len(limits) - 1)]
            decision = self._decisions[label]
            changed = {**chosen, label: decision.mutate(chosen[label], rng)}
            if label not in self._conditional_on:
                return changed
            return self._complete(changed, lambda d: d.sample(rng))

        for _ in range(times):
            before = chosen
            changed = self._legal(proposal, _MAX_CHANGES)
            chosen = dict(self.sample(rng)) if changed is None else changed
            if chosen.keys() != before.keys():
                mutable, limits = self._mutable_with(chosen, odds)
        return Architecture(chosen)

    def exchange(self, architecture: Architecture, label: str, choice: Choice) -> Architecture:
        """The same with another choice at one of its decisions.

        Decisions that become active take their default, those that become inactive are dropped.

        Raises:
            ArchitectureError: What comes out is not of the space.
        """
        decision = self._decisions.get(label)
        if (
            decision is None
            or label not in architecture
            or label in self._conditional_on
            or self.config_space.forbidden_clauses
            or not decision.allows(choice)
        ):
            return self.complete({**architecture, label: choice})
        return Architecture({**architecture, label: decision.own(choice)})

    def crossover(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Uniform crossover: each active decision from either parent that has it."""

        def pick(decision: Decision) -> Choice:
            donors = [p[decision.label] for p in (first, second) if decision.label in p]
            return donors[rng.integers(len(donors))] if donors else decision.sample(rng)

        return self._accept(lambda: self._complete({}, pick))

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Every architecture one changed decision away.

        Decisions that become active take their default; a real-valued decision has no
        finite neighbourhood and is left as it is.
        """
        for label in architecture:
            for other in self._decisions[label].others(architecture[label]):
                changed = self._complete({**architecture, label: other}, lambda d: d.default)
                if not self.is_forbidden(changed):
                    yield Architecture(changed)

    def enumerate(self, points: int | None = None) -> Iterator[Architecture]:
        """Every architecture, the last decision changing fastest.

        Args:
            points: How many evenly spaced values stand for a numeric ``value`` that has
                more; default: all of them.

        Raises:
            UnsupportedSpaceError: A decision is real-valued and ``points`` is not given.
        """
        order = list(self._decisions.values())
        for decision in order:
            if decision.num_choices == math.inf and points is None:
                raise UnsupportedSpaceError(
                    f"space {self.name!r} cannot be enumerated: {decision.label!r} is "
                    f"real-valued ({decision.describe()}); give points="
                )

        def extend(position: int, chosen: dict[str, Choice]) -> Iterator[dict[str, Choice]]:
            if position == len(order):
                yield chosen
                return
            decision = order[position]
            if not decision.is_active(chosen):
                yield from extend(position + 1, chosen)
                return
            for choice in decision.all_choices(points):
                longer = {**chosen, decision.label: choice}
                if not self.is_forbidden(longer):
                    yield from extend(position + 1, longer)

        for chosen in extend(0, {}):
            yield Architecture(chosen)

    def is_forbidden(self, chosen: Mapping[str, Choice]) -> bool:
        """Whether a clause forbids these choices; of decisions that miss it says nothing."""
        choices = dict(chosen)
        return any(c.is_forbidden_value(choices) for c in self._clauses)

    def encode(self, architecture: Architecture) -> np.ndarray:
        """Vector of fixed length for a predictor, float64, shape ``(encoding_size,)``.

        Categorical decisions are one-hot, numeric ones scaled to [0, 1] (by the logarithm
        if log-scaled) and preceded by 1; an inactive decision is all zeros.
        """
        parts = [
            decision.encode(architecture.get(label)) for label, decision in self._decisions.items()
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def without_inactive(self, choices: Mapping[str, Any]) -> Architecture:
        """Drop choices at inactive decisions; whatever else is wrong is named.

        ConfigSpace 1.2's sampler can give a value to a decision whose parent is inactive
        (under conditions joined by and/or), and so can the optimizers that use it.

        Raises:
            ArchitectureError: What is left is not of the space.
        """
        given = Architecture(choices)
        active: dict[str, Choice] = {}
        for label, decision in self._decisions.items():
            if label in given and decision.is_active(active):
                active[label] = given[label]
        unknown = {k: v for k, v in given.items() if k not in self._decisions}
        return self.validate(Architecture({**active, **unknown}))

    def complete(self, choices: Mapping[str, Any]) -> Architecture:
        """Architecture from choices that may miss, or have too many, decisions.

        Inactive and unknown labels are dropped, missing ones take their default: how an
        architecture of a space that has grown since is read.

        Raises:
            ArchitectureError: A choice that is used is not legal.
        """
        known = Architecture({k: v for k, v in choices.items() if k in self._decisions})
        return self.validate(Architecture(self._complete(dict(known), lambda d: d.default)))

    def recall(self, architecture: Mapping[str, Any]) -> Architecture:
        """Read an architecture that was found before this space has grown.

        Decisions that the space has gained since take their default, so the default has to
        mean what the network did before. An architecture of today is returned as it is.

        Raises:
            ArchitectureError: It has a label or a choice that the space has not, so that it
                is no earlier form of this one.
        """
        try:
            return self.validate(architecture)
        except ArchitectureError:
            if not architecture or any(label not in self._decisions for label in architecture):
                raise
            return self.complete(architecture)

    # -- readings -----------------------------------------------------------------------

    def build(self, architecture: Mapping[str, Choice], **options: Any) -> nn.Module:
        """The child network of an architecture: a plain module, no trace of the search.

        Args:
            architecture: A member of this space.
            options: Override the space's own options, say ``channels=36``.
        """
        from nas_plugins.choices import build

        return build(self._need_network(), self.validate(architecture), {**self.options, **options})

    def supernet(
        self,
        fixed: Mapping[str, Choice] | None = None,
        *,
        execution: Execution = "fused",
        **options: Any,
    ) -> Supernet:
        """All candidates in one network whose paths share their weights.

        Args:
            fixed: Decisions answered once and for all instead of being mixed. Every
                ``value`` that shapes a module has to be among them.
            execution: How mixtures are computed; see :class:`~nas_plugins.supernet.Supernet`.
            options: Override the space's own options.
        """
        from nas_plugins.supernet import Supernet

        self._need_network()
        return Supernet(self, fixed=fixed, execution=execution, **options)

    # -- private ------------------------------------------------------------------------

    def _need_network(self) -> Callable[..., nn.Module]:
        if self.network is None:
            raise UnsupportedSpaceError(
                f"space {self.name!r} has no network, so nothing can be built from it; define "
                "it with SearchSpace.from_network, or pass network= to SearchSpace"
            )
        return self.network

    def _complete(
        self, known: Mapping[str, Choice], pick: Callable[[Decision], Choice]
    ) -> dict[str, Choice]:
        """Choices of all active decisions: those that are known, else picked."""
        chosen: dict[str, Choice] = {}
        for label, decision in self._decisions.items():
            if decision.is_active(chosen):
                chosen[label] = known[label] if label in known else pick(decision)
        return chosen

    def _mutable_with(
        self,
        chosen: Mapping[str, Choice],
        odds: Callable[[tuple[str, ...]], Sequence[float]] | None,
    ) -> tuple[list[str], list[float] | None]:
        """Labels that can be mutated, and the running sum of their odds if these differ."""
        labels = self.mutable(chosen)
        return labels, None if odds is None else list(accumulate(odds(tuple(labels))))

    def _accept(self, propose: Callable[[], dict[str, Choice]]) -> Architecture:
        chosen = self._legal(propose, _MAX_REJECTIONS)
        if chosen is None:
            raise UnsupportedSpaceError(
                f"no legal architecture in {_MAX_REJECTIONS} proposals: the forbidden clauses of "
                f"space {self.name!r} leave (almost) nothing: "
                f"{self.config_space.forbidden_clauses}"
            )
        return Architecture(chosen)

    def _legal(
        self, propose: Callable[[], dict[str, Choice]], attempts: int
    ) -> dict[str, Choice] | None:
        """The first proposal that no clause forbids."""
        for _ in range(attempts):
            chosen = propose()
            if not self.is_forbidden(chosen):
                return chosen
        return None


def require_space(space: object) -> SearchSpace:
    """The same, if it is a space.

    Raises:
        UnsupportedSpaceError: It is something else, such as a network or a name; the message
            says how to make a space of it.
    """
    if isinstance(space, SearchSpace):
        return space
    kind = f"the class {space.__name__}" if isinstance(space, type) else repr(space)
    makes = "nas_plugins.spaces.load" if isinstance(space, str) else "SearchSpace.from_network"
    raise UnsupportedSpaceError(f"expected a SearchSpace, got {kind}; make it one: {makes}(...)")


def joined_canonical(
    own: Callable[[Architecture], Hashable], ours: frozenset[str], architecture: Architecture
) -> Hashable:
    """Canonical form of the part that has these labels, and the plain rest.

    A function of its module, so that a space that is made with it can be pickled.
    """
    part = Architecture({k: v for k, v in architecture.items() if k in ours})
    return own(part), frozenset((k, v) for k, v in architecture.items() if k not in ours)


def _some(labels: Mapping[str, Any], limit: int = 8) -> str:
    shown = [repr(label) for label in list(labels)[:limit]]
    return ", ".join(shown) + (f", … ({len(labels)} in all)" if len(labels) > limit else "")
