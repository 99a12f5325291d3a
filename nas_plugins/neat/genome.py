"""The NEAT genome, a list of connection genes with historical markings."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from nas_plugins.errors import ArchitectureError

__all__ = ["Gene", "Genome", "Innovation", "hidden_node", "leads"]

Innovation = tuple[int, int, int]
"""Which connection, and when it first appeared: generation, source, target."""

_FIRST_HIDDEN = 1 << 48


class Gene(NamedTuple):
    """One connection.

    Its historical marking is made of what it is: the same connection that arises twice in a
    generation has the same marking in both genomes, one that arises again later has another,
    and no counter has to be kept in step between workers.

    Attributes:
        birth: Generation in which the connection arose.
        source, target: Nodes it leads from and to.
        weight: Of the connection.
        enabled: Whether the network has it.
    """

    birth: int
    source: int
    target: int
    weight: float
    enabled: bool = True

    @property
    def innovation(self) -> Innovation:
        return self[:3]


@dataclass(frozen=True)
class Genome:
    """A network: nodes are the inputs, a bias, the outputs, and what the genes connect.

    Args:
        inputs: Their number; nodes ``0 … inputs - 1``. The bias is node ``inputs``.
        outputs: Their number; the nodes after the bias.
        genes: In the order of their innovations; no two connect the same nodes.
    """

    inputs: int
    outputs: int
    genes: tuple[Gene, ...]

    @classmethod
    def of(cls, inputs: int, outputs: int, genes: Iterable[Gene]) -> Genome:
        """A genome of genes in any order."""
        return cls(inputs, outputs, tuple(sorted(genes)))

    @property
    def sensors(self) -> range:
        """The inputs and the bias."""
        return range(self.inputs + 1)

    @cached_property
    def nodes(self) -> tuple[int, ...]:
        """Inputs, bias, outputs, then hidden nodes."""
        fixed = range(self.inputs + 1 + self.outputs)
        ends = {node for gene in self.genes for node in (gene.source, gene.target)}
        return (*fixed, *sorted(ends - set(fixed)))

    @cached_property
    def by_innovation(self) -> dict[Innovation, Gene]:
        return {gene[:3]: gene for gene in self.genes}

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether the genes, enabled or not, close a cycle."""
        left = {gene[1:3] for gene in self.genes}
        while left:  # what has nothing before it is on no cycle
            targets = {target for _, target in left}
            kept = {edge for edge in left if edge[0] in targets}
            if kept == left:
                return True
            left = kept
        return False

    def to_json(self) -> str:
        return json.dumps([self.inputs, self.outputs, self.genes], separators=(",", ":"))

    @staticmethod
    @lru_cache(maxsize=4096)
    def from_json(text: str) -> Genome:
        """Read what :meth:`to_json` wrote.

        Raises:
            ArchitectureError: Not a genome.
        """
        try:
            inputs, outputs, genes = json.loads(text)
            genome = Genome(inputs, outputs, tuple(Gene(*gene) for gene in genes))
            _check(genome)
        except (TypeError, ValueError) as error:
            raise ArchitectureError(
                f"{text[:80]!r} is no genome: {error}; expected the JSON that to_json writes, "
                "[inputs, outputs, [[birth, source, target, weight, enabled], …]]"
            ) from error
        return genome


def hidden_node(generation: int, split: Innovation) -> int:
    """Number of the node that splits a connection: the same for all that do so in a generation."""
    digest = hashlib.blake2b(repr((generation, *split)).encode(), digest_size=6).digest()
    return _FIRST_HIDDEN + int.from_bytes(digest, "big")


def leads(edges: Iterable[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a way along edges, source and target, leads from one node to another."""
    following: dict[int, list[int]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    seen, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        if node == end:
            return True
        new = set(following.get(node, ())) - seen
        seen |= new
        waiting.extend(new)
    return False


def _check(genome: Genome) -> None:
    numbers = [genome.inputs, genome.outputs, *(n for gene in genome.genes for n in gene[:3])]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a size, generation or node is not a natural number")
    sensors, fixed = genome.inputs + 1, genome.inputs + 1 + genome.outputs
    for gene in genome.genes:
        if type(gene.enabled) is not bool or not math.isfinite(gene.weight):
            raise ValueError(f"{gene} has no finite weight, or is neither enabled nor disabled")
        if gene.target < sensors:
            raise ValueError(f"{gene} leads into a sensor")
        if any(fixed <= node < _FIRST_HIDDEN for node in (gene.source, gene.target)):
            raise ValueError(f"{gene} names a node that is neither fixed nor hidden")
    if len({gene[1:3] for gene in genome.genes}) < len(genome.genes):
        raise ValueError("two genes connect the same nodes")
    if list(genome.genes) != sorted(genome.genes):
        raise ValueError("its genes are out of order")
