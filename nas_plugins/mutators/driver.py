"""Between decisions and gates: which candidates a choice runs, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Choice
from nas_plugins.decision import INPUT_SEPARATOR
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.supernet import Gate, MixedInputs, MixedLayer, Supernet

__all__ = ["Driver", "drivers", "edge_operations"]


class Driver(nn.Module):
    """One gate and the decisions that drive it.

    A gate over layers or depths has one decision, whose choices are the gate's own. A gate
    over a fixed number of inputs has one decision too, whose choices are combinations of
    edges; over any subset of inputs it has a yes-or-no decision for each edge. In all cases
    the gate's weights are a constant plus the sum over decisions of ``factors @ incidence``.

    Args:
        gate: The gate.
        choices: Of each of its decisions; those in the mixture only come last.
        incidence: Of each of its decisions, shape ``(choices, candidates of the gate)``: 1
            where a choice has that candidate run.
        always: Shape ``(candidates of the gate,)``, 1 for those that run whatever is decided.
        may_be_empty: Whether it is an architecture's right to run none.
    """

    always: Tensor

    def __init__(
        self,
        gate: Gate,
        choices: Mapping[str, Sequence[Choice]],
        incidence: Mapping[str, Tensor],
        always: Tensor,
        *,
        may_be_empty: bool = False,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.choices = {label: tuple(of) for label, of in choices.items()}
        self.may_be_empty = may_be_empty
        self._runs = {label: incidence[label].bool().tolist() for label in self.choices}
        self._always = always.bool().tolist()
        self.register_buffer("always", always, persistent=False)
        for position, label in enumerate(self.choices):
            self.register_buffer(f"incidence{position}", incidence[label], persistent=False)

    def num_derivable(self, label: str) -> int:
        """How many of a decision's choices an architecture may take; those come first."""
        inputs = self.gate.verb == "inputs"
        return len(self.choices[label]) if inputs else self.gate.num_derivable

    def mix(
        self, factors: Mapping[str, Tensor], running: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Weigh the candidates.

        Args:
            factors: Decision to a factor for each of its choices, shape ``(choices,)``.
            running: Decision to those of its choices whose candidates run; default all.
        """
        weights = self.always
        for position, label in enumerate(self.choices):
            incidence = getattr(self, f"incidence{position}")
            # Not a matrix product, which autocast would round to half precision.
            weights = weights + (factors[label][:, None] * incidence).sum(0)
        self.gate.mix(weights, None if running is None else self._candidates(running))

    def select(self, running: Mapping[str, Sequence[int]]) -> None:
        """Run the candidates of these choices, each with weight one."""
        self.gate.select(*self._candidates(running))

    def _candidates(self, running: Mapping[str, Sequence[int]]) -> list[int]:
        rows = [self._runs[label][i] for label in self.choices for i in running[label]]
        return [e for e, runs in enumerate(zip(self._always, *rows, strict=True)) if any(runs)]

    @property
    def optional(self) -> list[int]:
        """The candidates that some choice runs."""
        rows = [row for of in self._runs.values() for row in of]
        return [e for e, runs in enumerate(zip(*rows, strict=True)) if any(runs)]

    @property
    def required(self) -> list[int]:
        """The candidates that run whatever is decided."""
        return [e for e, runs in enumerate(self._always) if runs]


def drivers(supernet: Supernet, *, mixture_only: bool = True) -> list[Driver]:
    """One driver a gate, in the supernet's order; what is fixed is left out.

    Args:
        supernet: Whose gates.
        mixture_only: Whether candidates that no architecture may have are driven as well.

    Raises:
        UnsupportedSpaceError: The supernet has no gate.
    """
    inputs = {m.gate.label: m for m in supernet.network.modules() if isinstance(m, MixedInputs)}
    found = []
    for label, gate in supernet.gates.items():
        if gate.verb == "inputs":
            found.append(_of_inputs(supernet, inputs[label]))
            continue
        choices = gate.choices if mixture_only else gate.choices[: gate.num_derivable]
        incidence = torch.eye(len(choices), len(gate.choices))
        found.append(
            Driver(gate, {label: choices}, {label: incidence}, torch.zeros(len(gate.choices)))
        )
    if not found:
        raise UnsupportedSpaceError(
            f"the supernet of space {supernet.space.name!r} has no gate: there is nothing to "
            "search; fix fewer decisions"
        )
    return found


def _of_inputs(supernet: Supernet, module: MixedInputs) -> Driver:
    gate, decisions = module.gate, supernet.space.decisions
    edges = [str(edge) for edge in gate.choices]
    if module.num_chosen is not None:
        combinations = decisions[gate.label].choices or ()
        rows = [[float(e in str(c).split(INPUT_SEPARATOR)) for e in edges] for c in combinations]
        return Driver(
            gate,
            {gate.label: combinations},
            {gate.label: torch.tensor(rows)},
            torch.zeros(len(edges)),
        )
    always = torch.zeros(len(edges))
    choices: dict[str, Sequence[Choice]] = {}
    incidence = {}
    for position, edge in enumerate(edges):
        label = f"{gate.label}/{edge}"
        if edge in module.required or label in supernet.fixed:
            always[position] = float(supernet.fixed.get(label, True))
            continue
        choices[label] = decisions[label].choices or ()
        incidence[label] = torch.zeros(len(choices[label]), len(edges))
        incidence[label][choices[label].index(True), position] = 1.0
    return Driver(gate, choices, incidence, always, may_be_empty=True)


def edge_operations(supernet: Supernet) -> dict[str, dict[str, str]]:
    """Of each decision over a fixed number of inputs, edge to the label of its operation.

    Only those decisions appear whose every edge is itself a choice of operation.
    """
    found: dict[str, dict[str, str]] = {}
    for module in supernet.network.modules():
        if isinstance(module, MixedInputs) and module.num_chosen is not None:
            operations = {
                name: edge.gate.label
                for name, edge in module.edges.items()
                if isinstance(edge, MixedLayer)
            }
            if len(operations) == len(module.edges):
                found[module.gate.label] = operations
    return found
