"""The verbs a network asks its choices with, and the reading that builds a child.

A network is an ordinary ``nn.Module`` whose constructor receives ``choose`` first::

    class Block(nn.Module):
        def __init__(self, choose, channels):
            super().__init__()
            self.op = choose.layer("op", {
                "conv": lambda: nn.Conv2d(channels, channels, 3, padding=1),
                "skip": nn.Identity,
            })

*Build*, here, answers from an architecture; *record* (:mod:`nas_plugins.recording`) notes each
decision on the meta device; *mix* (:mod:`nas_plugins.supernet`) keeps all candidates. Candidates
are factories, so that what is not chosen is never built. A choice asked while a factory runs
exists only when that candidate is chosen. The same label is the same decision, wherever it
appears.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any
from typing import Literal as OneOf

import torch
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Hyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import INPUT_SEPARATOR
from nas_plugins.errors import (
    ArchitectureError,
    CandidateError,
    NasPluginsError,
    UnsupportedSpaceError,
)

__all__ = ["Choose", "Factory", "Merge", "MergedInputs", "build"]

Factory = Callable[[], nn.Module]
Block = Callable[[int], nn.Module]
Merge = OneOf["sum", "mean"]


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

    def unused(
        self,
        labels: Sequence[str],
        candidates: Mapping[str, Factory],
        *,
        required: Sequence[str] = (),
    ) -> nn.Module:
        """Those of the earlier tensors that no ``inputs`` decision chose, summed.

        No decision of its own: what several others leave over, such as a cell's loose ends.
        The module that comes back maps the list of all earlier tensors, in the order of
        ``candidates``, to the sum of the unused ones, each through a module of its own. A
        concatenation followed by a 1x1 convolution is that: see :meth:`inputs`.

        In a mixture, a tensor counts by the product over the decisions of one minus the
        weight with which they read it.

        Args:
            labels: ``inputs`` decisions of a fixed number, asked before and active here,
                whose inputs have the candidates' names.
            candidates: Name of each tensor to a factory of the module applied to it.
            required: Names that count as unused even where they are chosen.

        Raises:
            UnsupportedSpaceError: A label is no such decision.
        """
        _check_names("unused", list(candidates))
        unknown = set(required) - set(candidates)
        if unknown:
            raise UnsupportedSpaceError(
                f"required={list(required)} of what {list(labels)} leave unused; expected names "
                f"among {list(candidates)}"
            )
        return self._unused(list(labels), dict(candidates), list(required))

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
        given: list[Any] = list(depth) if isinstance(depth, (tuple, list, range)) else [depth]
        whole = all(isinstance(d, int) and d >= 0 for d in given)
        between = whole and isinstance(depth, tuple) and len(depth) == 2
        depths = list(range(given[0], given[1] + 1)) if between else given
        if not whole or not depths or not isinstance(depth, (tuple, list, range)):
            raise UnsupportedSpaceError(
                f"depth of {label!r} is {depth!r}; expected (fewest, most) or a list of "
                "depths, each an integer of at least 0"
            )
        return self._repeat(label, block, sorted(set(depths)), head)

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
        in_range = low is not None and high is not None
        if (choices is None) != in_range or (choices is not None and (low, high) != (None, None)):
            raise UnsupportedSpaceError(
                f"value {label!r} needs either choices=[...] or both low= and high="
            )
        if choices is not None:
            if not choices:
                raise UnsupportedSpaceError(f"value {label!r} has no choices")
            hyperparameter = categorical(label, list(choices), {"verb": "value"})
        else:
            assert low is not None
            assert high is not None
            if not low < high or (log and low <= 0):
                raise UnsupportedSpaceError(
                    f"value {label!r} has range [{low}, {high}]; expected low < high"
                    + (", both above 0 on a log scale" if log else "")
                )
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
    def _unused(
        self, labels: list[str], candidates: dict[str, Factory], required: list[str]
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

    def _unused(
        self, labels: list[str], candidates: dict[str, Factory], required: list[str]
    ) -> nn.Module:
        used = names_used(labels, self._architecture)
        left = [name for name in candidates if name in required or name not in used]
        edges = {name: call_factory("unused", name, candidates[name]) for name in left}
        return MergedInputs(edges, [list(candidates).index(name) for name in left], "sum")

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


# -- shared -----------------------------------------------------------------------------


def names_used(labels: Sequence[str], architecture: Mapping[str, Choice]) -> set[str]:
    """Names that those ``inputs`` decisions choose which are answered."""
    answers = [str(architecture[label]) for label in labels if label in architecture]
    return {name for answer in answers for name in answer.split(INPUT_SEPARATOR)}


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


def categorical(
    label: str, choices: list[Any], meta: dict[Hashable, Any]
) -> Hyperparameter[Any, Any]:
    return CategoricalHyperparameter(label, choices, meta=meta)
