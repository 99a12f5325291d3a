"""The mix reading: all candidates in one network, behind gates that a mutator drives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from ConfigSpace.hyperparameters import Hyperparameter
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.choices import (
    Block,
    Builder,
    Choose,
    Factory,
    Merge,
    call_block,
    call_factory,
    call_head,
    names_used,
)
from nas_plugins.decision import INPUT_SEPARATOR
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.fused import Sharing, weighted_sum

if TYPE_CHECKING:
    from nas_plugins.space import SearchSpace

__all__ = [
    "Execution",
    "Gate",
    "MixedInputs",
    "MixedLayer",
    "MixedRepeat",
    "MixedUnused",
    "Supernet",
]

Execution = Literal["fused", "low_memory", "naive"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


class Gate:
    """How the candidates of one decision are mixed at present; shared wherever it appears.

    A mutator writes a gate before a forward pass, mixed modules read it. The usual forms:

    ====================  ===============================  =============================
    mixture (DARTS)       ``mix(softmax(alpha))``          every candidate runs
    one path              ``select(3)``                    one runs, exactly as in a child
    sampled with gradient ``mix(one_hot, indices=(3,))``   one runs, scaled by its weight
    two paths (Proxyless) ``mix(weights, indices=(1, 4))`` two run
    path dropout          ``select(0, 2, 5)``              a subset runs, unscaled
    ====================  ===============================  =============================

    Args:
        label: The decision.
        choices: Names of the candidates, of the edges (``inputs``), or the depths (``repeat``).
        verb: ``layer``, ``inputs`` or ``repeat``.
        num_derivable: How many of the choices an architecture may take; those after are
            in the mixture only.

    Attributes:
        indices: The candidates that run, ascending.
        weights: Shape ``(len(choices),)``, one factor per candidate; ``None`` for 1 each.
    """

    def __init__(
        self,
        label: str,
        choices: Sequence[Choice],
        verb: str,
        num_derivable: int | None = None,
    ) -> None:
        self.label = label
        self.choices = tuple(choices)
        self.verb = verb
        self.num_derivable = len(self.choices) if num_derivable is None else num_derivable
        self.indices: tuple[int, ...] = tuple(range(len(self.choices)))
        self.weights: Tensor | None = None

    def mix(self, weights: Tensor, indices: Sequence[int] | None = None) -> None:
        """Scale candidates by ``weights``; run only ``indices`` where given.

        Args:
            weights: Shape ``(len(choices),)``; may require grad.
            indices: Candidates that run; default all.
        """
        if weights.shape != (len(self.choices),):
            raise UnsupportedSpaceError(
                f"weights of gate {self.label!r} have shape {tuple(weights.shape)}; expected "
                f"({len(self.choices)},), one for each of {list(self.choices)}"
            )
        self._run(range(len(self.choices)) if indices is None else indices)
        self.weights = weights

    def select(self, *indices: int) -> None:
        """Run these candidates, each with weight one."""
        self._run(indices)
        self.weights = None

    def _run(self, indices: Sequence[int]) -> None:
        if any(not 0 <= i < len(self.choices) for i in indices):
            raise UnsupportedSpaceError(
                f"gate {self.label!r} has candidates 0 to {len(self.choices) - 1}, "
                f"got {list(indices)}"
            )
        self.indices = tuple(sorted(indices))

    def sum(self, output: Callable[[int], Tensor]) -> Tensor | None:
        """Weighted sum of ``output(i)`` over the candidates that run; ``None`` of none."""
        total: Tensor | None = None
        for i in self.indices:
            out = output(i)
            if self.weights is not None:
                out = out * self.weights[i]
            total = out if total is None else total + out
        return total

    def __repr__(self) -> str:
        return f"Gate({self.label!r}, {list(self.choices)}, runs {list(self.indices)})"


class MixedLayer(nn.Module):
    """All candidates of a ``layer`` decision, summed as the gate says."""

    def __init__(self, gate: Gate, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.gate = gate
        self.candidates = nn.ModuleDict(candidates)
        self.sharing = Sharing()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        gate, candidates = self.gate, list(self.candidates.values())
        total = None
        mixes = gate.weights is not None or len(gate.indices) > 1
        if mixes and self.sharing.is_open and len(args) == 1 and not kwargs:
            total = weighted_sum(candidates, gate.weights, gate.indices, args[0], self.sharing)
        if total is None:
            total = gate.sum(lambda i: candidates[i](*args, **kwargs))
        if total is None:
            raise UnsupportedSpaceError(f"gate {gate.label!r} runs no candidate")
        return total

    def path(self, architecture: Architecture) -> Iterator[tuple[str, nn.Module]]:
        """The chosen candidate, with where it stands in the child."""
        yield "", self.candidates[str(architecture[self.gate.label])]


class MixedInputs(nn.Module):
    """All edges of an ``inputs`` decision, summed or averaged as the gate says."""

    def __init__(
        self,
        gate: Gate,
        edges: Mapping[str, nn.Module],
        num_chosen: int | None,
        required: Sequence[str],
        merge: Merge,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.edges = nn.ModuleDict(edges)
        self.num_chosen = num_chosen
        self.required = tuple(required)
        self.merge = merge

    def forward(self, states: list[Tensor]) -> Tensor:
        gate, edges = self.gate, list(self.edges.values())
        total = gate.sum(lambda i: edges[i](states[i]))
        if total is None:
            return torch.zeros_like(states[0])
        if self.merge == "mean":
            count = len(gate.indices) if gate.weights is None else gate.weights.sum()
            return total / count
        return total

    def chosen(self, architecture: Architecture) -> list[str]:
        """Names of the edges an architecture connects."""
        label = self.gate.label
        if self.num_chosen is None:
            return [n for n in self.edges if n in self.required or architecture[f"{label}/{n}"]]
        return str(architecture[label]).split(INPUT_SEPARATOR)

    def path(self, architecture: Architecture) -> Iterator[tuple[str, nn.Module]]:
        for name in self.chosen(architecture):
            yield f"edges.{name}.", self.edges[name]


class MixedUnused(nn.Module):
    """The edges of the tensors that some ``inputs`` decisions leave over, as their gates say.

    Args:
        labels: The decisions.
        gates: Of those that are not fixed.
        edges: Name of each tensor to the module applied to it.
        used: Names that a fixed decision uses.
        required: Names that are always left over.
    """

    def __init__(
        self,
        labels: Sequence[str],
        gates: Sequence[Gate],
        edges: Mapping[str, nn.Module],
        used: Collection[str],
        required: Sequence[str],
    ) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.gates = tuple(gates)
        self.edges = nn.ModuleDict(edges)
        self.used = frozenset(used)
        self.required = tuple(required)

    def forward(self, states: list[Tensor]) -> Tensor:
        total: Tensor | None = None
        for (name, edge), state in zip(self.edges.items(), states, strict=True):
            share = self._share(name)
            if share is None:
                continue
            out = edge(state) if isinstance(share, float) else share * edge(state)
            total = out if total is None else total + out
        return torch.zeros_like(states[0]) if total is None else total

    def _share(self, name: str) -> float | Tensor | None:
        """How far a tensor is left over: 1.0, a scalar tensor, or ``None`` for not at all."""
        share: float | Tensor = 1.0
        if name in self.required:
            return share
        if name in self.used:
            return None
        for gate in self.gates:
            if name not in gate.choices or (i := gate.choices.index(name)) not in gate.indices:
                continue
            if gate.weights is None:
                return None
            share = share * (1.0 - gate.weights[i])
        return share

    def path(self, architecture: Architecture) -> Iterator[tuple[str, nn.Module]]:
        used = names_used(self.labels, architecture)
        for name, edge in self.edges.items():
            if name in self.required or name not in used:
                yield f"edges.{name}.", edge


class MixedRepeat(nn.Module):
    """Blocks in sequence, the outputs at the candidate depths summed as the gate says.

    Args:
        gate: Over the depths.
        blocks: As many as the greatest depth.
        heads: Depth to what follows that many blocks; empty where nothing does.
    """

    def __init__(
        self, gate: Gate, blocks: Sequence[nn.Module], heads: Mapping[int, nn.Module]
    ) -> None:
        super().__init__()
        self.gate = gate
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleDict({str(depth): head for depth, head in heads.items()})

    def forward(self, x: Any) -> Tensor:
        depths = self.gate.choices
        reached = [x]
        for block in self.blocks[: max((int(depths[i]) for i in self.gate.indices), default=0)]:
            reached.append(block(reached[-1]))

        def output(i: int) -> Tensor:
            depth = int(depths[i])
            return self.heads[str(depth)](reached[depth]) if self.heads else reached[depth]

        total = self.gate.sum(output)
        if total is None:
            raise UnsupportedSpaceError(f"gate {self.gate.label!r} runs no depth")
        return total

    def path(self, architecture: Architecture) -> Iterator[tuple[str, nn.Module]]:
        depth = int(architecture[self.gate.label])
        for i in range(depth):
            yield f"{i}.", self.blocks[i]
        if self.heads:
            yield "head.", self.heads[str(depth)]


class Mixer(Choose):
    """Builds every candidate; decisions in ``fixed`` are answered as when building."""

    def __init__(self, fixed: Mapping[str, Choice]) -> None:
        self.gates: dict[str, Gate] = {}
        self._fixed = fixed
        self._builder = Builder(fixed)

    def _gate(self, label: str, choices: Sequence[Choice], verb: str, derivable: int) -> Gate:
        gate = self.gates.setdefault(label, Gate(label, choices, verb, derivable))
        if (gate.choices, gate.verb, gate.num_derivable) != (tuple(choices), verb, derivable):
            raise UnsupportedSpaceError(
                f"label {label!r} stands for two different mixtures: of {list(gate.choices)} and "
                f"of {list(choices)}. The same label is the same decision wherever it appears: "
                "rename one, or give both the same candidates"
            )
        return gate

    def _layer(
        self, label: str, candidates: dict[str, Factory], only_in_mixture: dict[str, Factory]
    ) -> nn.Module:
        if label in self._fixed:
            return self._builder._layer(label, candidates, only_in_mixture)
        factories = {**candidates, **only_in_mixture}
        gate = self._gate(label, list(factories), "layer", len(candidates))
        return MixedLayer(gate, {n: call_factory(label, n, f) for n, f in factories.items()})

    def _inputs(
        self,
        label: str,
        candidates: dict[str, Factory],
        num_chosen: int | None,
        required: list[str],
        merge: Merge,
    ) -> nn.Module:
        asked = [label] if num_chosen else [f"{label}/{n}" for n in candidates if n not in required]
        if asked and all(a in self._fixed for a in asked):
            return self._builder._inputs(label, candidates, num_chosen, required, merge)
        gate = self._gate(label, list(candidates), "inputs", len(candidates))
        edges = {n: call_factory(label, n, f) for n, f in candidates.items()}
        return MixedInputs(gate, edges, num_chosen, required, merge)

    def _unused(
        self, labels: list[str], candidates: dict[str, Factory], required: list[str]
    ) -> nn.Module:
        gates = [self.gates[label] for label in labels if label not in self._fixed]
        edges = {n: call_factory("unused", n, f) for n, f in candidates.items()}
        return MixedUnused(labels, gates, edges, names_used(labels, self._fixed), required)

    def _repeat(self, label: str, block: Block, depths: list[int], head: Block | None) -> nn.Module:
        if label in self._fixed:
            return self._builder._repeat(label, block, depths, head)
        gate = self._gate(label, depths, "repeat", len(depths))
        blocks = [call_block(label, block, i) for i in range(depths[-1])]
        heads = {} if head is None else {d: call_head(label, head, d) for d in depths}
        return MixedRepeat(gate, blocks, heads)

    def _value(self, label: str, hyperparameter: Hyperparameter[Any, Any]) -> Choice:
        if label not in self._fixed:
            raise UnsupportedSpaceError(
                f"value {label!r} shapes a module, and a supernet holds modules of one shape: "
                f"fix it with supernet(fixed={{{label!r}: ...}}), or ask for it as a layer "
                "with one candidate per value"
            )
        return self._fixed[label]


class Supernet(nn.Module):
    """All candidates of a space in one network; a path's weights are a child's weights.

    Freshly made it is the plain uniform mixture: each ``layer`` and ``repeat`` averages its
    candidates, each ``inputs`` takes all its edges. A path gives exactly what the child with
    the same weights gives.

    Args:
        space: The space; its network is built with every candidate.
        fixed: Decisions answered once and for all. Every ``value`` that shapes a module has
            to be among them.
        execution: How mixtures are computed in training, up to rounding the same:
            ``naive``, candidate by candidate; ``fused``, which takes a part of the time and
            memory where candidates are built like those of the cell spaces
            (:mod:`nas_plugins.fused`) and is ``naive`` elsewhere; ``low_memory``, where
            besides nothing within a candidate is kept for the backward pass. One candidate
            alone always runs as in the child. ``fused`` mixtures come out in channels-last
            order on a CPU (``reshape`` takes them, ``view`` may not), do not run under
            ``torch.func`` transforms, and are not for networks that checkpoint themselves.
            ``torch.compile`` makes one graph of a mixture whatever the execution, and takes
            new weights of gates without compiling again; each path is a graph of its own.
        options: Override the space's own options.

    Attributes:
        gates: Label to :class:`Gate`. An ``inputs`` decision over any subset has one gate,
            under its own label, for all its edges.

    Raises:
        UnsupportedSpaceError: A ``value`` is not fixed.
        ArchitectureError: ``fixed`` names an unknown label or an illegal choice.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        fixed: Mapping[str, Choice] | None = None,
        execution: Execution = "fused",
        **options: Any,
    ) -> None:
        super().__init__()
        if execution not in EXECUTIONS:
            raise ValueError(f"execution is {execution!r}; expected one of {list(EXECUTIONS)}")
        self.space = space
        self.execution = execution
        self.fixed = dict(fixed or {})
        for label, choice in self.fixed.items():
            if label not in space.decisions or not space.decisions[label].allows(choice):
                raise ArchitectureError(
                    f"fixed[{label!r}] = {choice!r} is no choice of space {space.name!r}"
                )
        assert space.network is not None
        self.options = {**space.options, **options}
        mixer = Mixer(self.fixed)
        self.network = space.network(mixer, **self.options)
        self.gates = mixer.gates
        self._sharing = Sharing(keep=execution == "fused")
        self._mixed = [  # a path is set before every step, and walking all modules takes a while
            m
            for m in self.network.modules()
            if isinstance(m, (MixedLayer, MixedInputs, MixedRepeat))
        ]
        for module in self._mixed:
            if isinstance(module, MixedLayer):
                module.sharing = self._sharing
        self.mix_uniformly()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.execution == "naive" or not self.training or torch.compiler.is_compiling():
            return self.network(*args, **kwargs)  # a compiler shares and fuses by itself
        with self._sharing:
            return self.network(*args, **kwargs)

    def mix_uniformly(self) -> None:
        """Every candidate runs: averaged in ``layer`` and ``repeat``, summed in ``inputs``."""
        for gate in self.gates.values():
            if gate.verb == "inputs":
                gate.select(*range(len(gate.choices)))
            else:
                gate.mix(
                    torch.full((len(gate.choices),), 1.0 / len(gate.choices), device=self._device)
                )

    def sample(self, rng: Any) -> Architecture:
        """A random architecture among those whose path this supernet has."""
        return self.space.sample(rng, given=self.fixed)

    def set_path(self, architecture: Mapping[str, Choice]) -> Architecture:
        """Make the forward pass that of one architecture; returns it, validated."""
        architecture = self._validate(architecture)
        for module in self._mixed:
            if isinstance(module, MixedInputs):
                if module.num_chosen is None:
                    reachable = any(
                        f"{module.gate.label}/{n}" in architecture for n in module.edges
                    )
                else:
                    reachable = module.gate.label in architecture
                if reachable:
                    names = list(module.edges)
                    module.gate.select(*(names.index(n) for n in module.chosen(architecture)))
            else:
                label = module.gate.label
                if label in architecture:
                    module.gate.select(module.gate.choices.index(architecture[label]))
        return architecture

    def path_state_dict(self, architecture: Mapping[str, Choice]) -> dict[str, Tensor]:
        """Weights and buffers of one path under the child's own keys; shared, not copied."""
        architecture = self._validate(architecture)
        return {key: t.detach() for key, t in _path_tensors(self.network, architecture)}

    @torch.no_grad()
    def load_path_state_dict(
        self, architecture: Mapping[str, Choice], state_dict: Mapping[str, Tensor]
    ) -> None:
        """Write a child's weights into its path; other paths that share them change too.

        Raises:
            ArchitectureError: Keys or shapes are not those of this path; nothing is changed.
        """
        own = self.path_state_dict(architecture)
        if own.keys() != state_dict.keys():
            wrong = sorted(own.keys() ^ state_dict.keys())
            raise ArchitectureError(
                f"state dict is not that of this architecture's path: {len(wrong)} keys are "
                f"missing or too many, such as {wrong[:3]}"
            )
        for key, tensor in own.items():
            if tensor.shape != state_dict[key].shape:
                raise ArchitectureError(
                    f"{key!r} has shape {tuple(state_dict[key].shape)}; expected "
                    f"{tuple(tensor.shape)}, as the supernet has it"
                )
        for key, tensor in own.items():
            tensor.copy_(state_dict[key])

    def child(self, architecture: Mapping[str, Choice], **options: Any) -> nn.Module:
        """The architecture's child with a copy of its path's weights."""
        architecture = self._validate(architecture)
        child = self.space.build(architecture, **{**self.options, **options}).to(self._device)
        child.load_state_dict(self.path_state_dict(architecture))
        return child

    def _apply(self, fn: Any, recurse: bool = True) -> Supernet:
        """Gates go where parameters and buffers go; they are neither, being state of a step."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for gate in self.gates.values():
            if gate.weights is not None:
                gate.weights = fn(gate.weights.detach())
        return self

    @property
    def _device(self) -> torch.device:
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def _validate(self, architecture: Mapping[str, Choice]) -> Architecture:
        valid = self.space.validate(architecture)
        for label, choice in self.fixed.items():
            if label in valid and valid[label] != choice:
                raise ArchitectureError(
                    f"architecture has {valid[label]!r} at {label!r}, which this supernet "
                    f"fixed to {choice!r}: it has no such path"
                )
        return valid


def _path_tensors(
    module: nn.Module, architecture: Architecture, prefix: str = ""
) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers along one path, each with its key in the child."""
    if isinstance(module, (MixedLayer, MixedInputs, MixedUnused, MixedRepeat)):
        for part, chosen in module.path(architecture):
            yield from _path_tensors(chosen, architecture, prefix + part)
        return
    persistent = {
        name: buffer
        for name, buffer in module._buffers.items()
        if name not in module._non_persistent_buffers_set
    }
    for name, tensor in (*module._parameters.items(), *persistent.items()):
        if tensor is not None:
            yield prefix + name, tensor
    for name, submodule in module._modules.items():  # named_children() hides shared modules
        if submodule is not None:
            yield from _path_tensors(submodule, architecture, f"{prefix}{name}.")
