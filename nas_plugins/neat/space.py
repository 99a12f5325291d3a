"""The space of NEAT genomes: one decision that is open-ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from ConfigSpace import ConfigurationSpace, Constant

from nas_plugins.architecture import Choice
from nas_plugins.decision import Decision
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.neat.genome import Gene, Genome
from nas_plugins.neat.variation import Mutation, minimal
from nas_plugins.space import SearchSpace

__all__ = ["GENOME", "GenomeDecision", "GenomeSpace"]

GENOME = "genome"
"""Label of the only decision; its choice is the genome's JSON."""


@dataclass(frozen=True)
class GenomeDecision(Decision):
    """Which network: any genome of these inputs and outputs, as JSON text."""

    inputs: int = 1
    outputs: int = 1
    mutation: Mutation = Mutation()

    @property
    def is_open(self) -> bool:
        return True

    def allows(self, choice: Choice) -> bool:
        try:
            genome = Genome.from_json(choice)
        except ArchitectureError:
            return False
        if genome.is_recurrent and not self.mutation.recurrent:
            return False
        return (genome.inputs, genome.outputs) == (self.inputs, self.outputs)

    def own(self, choice: Choice) -> Choice:
        return choice

    def all_choices(self, points: int | None = None) -> Iterator[Choice]:
        raise UnsupportedSpaceError(f"{self.label!r} cannot be enumerated: it is open-ended")

    def sample(self, rng: np.random.Generator) -> Choice:
        """A minimal network of random weights."""
        return minimal(self.inputs, self.outputs, rng, self.mutation.fresh).to_json()

    def mutate(self, choice: Choice, rng: np.random.Generator) -> Choice:
        """NEAT's mutation; what is new arises a generation after what was last."""
        genome = Genome.from_json(choice)
        generation = 1 + max((gene.birth for gene in genome.genes), default=0)
        mutant = genome
        while mutant == genome:
            mutant = self.mutation(genome, generation, rng)
        return mutant.to_json()

    def encode(self, choice: Choice | None) -> np.ndarray:
        """How large the network is: hidden nodes and enabled connections."""
        genome = Genome.from_json(choice)
        hidden = len(genome.nodes) - genome.inputs - 1 - genome.outputs
        return np.array([hidden, sum(gene.enabled for gene in genome.genes)], dtype=float)

    def describe(self) -> str:
        cycles = "" if self.mutation.recurrent else ", without cycles"
        return f"the JSON of a genome: {self.inputs} inputs, {self.outputs} outputs{cycles}"


class GenomeSpace(SearchSpace):
    """Every network of some inputs, a bias and some outputs.

    The topology is what is searched, so there is no list of decisions. There is one, whose
    choice is the whole genome, and which is open-ended: hosts carry it as text. In
    ConfigSpace's form, which has no such thing, it is a constant, the minimal network.

    Args:
        inputs: Their number, without the bias.
        outputs: Their number.
        recurrent: Whether connections may close a cycle.
    """

    def __init__(self, *, inputs: int, outputs: int, recurrent: bool = False) -> None:
        if inputs < 1 or outputs < 1:
            raise UnsupportedSpaceError(
                f"a genome of {inputs} inputs and {outputs} outputs; expected 1 of each at least"
            )
        default = Genome.of(
            inputs,
            outputs,
            [Gene(0, i, inputs + 1 + j, 0.0) for i in range(inputs + 1) for j in range(outputs)],
        ).to_json()
        super().__init__(
            ConfigurationSpace({GENOME: Constant(GENOME, default)}),
            options={"inputs": inputs, "outputs": outputs, "recurrent": recurrent},
            name="neat",
        )
        self._decisions = {
            GENOME: GenomeDecision(
                label=GENOME,
                verb="value",
                choices=None,
                default=default,
                inputs=inputs,
                outputs=outputs,
                mutation=Mutation(recurrent=recurrent),
            )
        }

    @property
    def decision(self) -> GenomeDecision:
        return self._decisions[GENOME]  # type: ignore[return-value]

    def genome(self, architecture: Mapping[str, Choice]) -> Genome:
        """The genome an architecture of this space is."""
        return Genome.from_json(self.validate(architecture)[GENOME])
