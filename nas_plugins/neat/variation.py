"""What NEAT does to genomes: mutations, crossover by innovation, and how far two are apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas_plugins.neat.genome import Gene, Genome, hidden_node, leads

__all__ = ["Mutation", "add_connection", "add_node", "crossover", "distance", "minimal"]


def minimal(inputs: int, outputs: int, rng: np.random.Generator, scale: float) -> Genome:
    """No hidden node, each input and the bias connected to each output, random weights."""
    bias = inputs
    return Genome.of(
        inputs,
        outputs,
        [
            Gene(0, source, bias + 1 + j, float(rng.uniform(-scale, scale)))
            for source in range(bias + 1)
            for j in range(outputs)
        ],
    )


@dataclass(frozen=True)
class Mutation:
    """Mutation of a genome, with the paper's odds (section 4.1).

    It is one of three: a new node, otherwise a new connection, otherwise of the weights. That,
    and all sizes of weights, the paper leaves open; they are those of the authors' program.

    Attributes:
        weights: Chance that the weights are mutated (paper: 0.8).
        perturbed: Chance of each weight to be perturbed and not drawn anew (paper: 0.9).
        scale: Largest perturbation, and largest weight drawn anew.
        limit: Largest magnitude of a mutated weight.
        fresh: Largest weight of a new connection, and in a minimal network.
        node: Chance of a new node (paper: 0.03).
        connection: Chance of a new connection (paper: 0.05, in large populations 0.3).
        recurrent: Whether connections may close a cycle.
    """

    weights: float = 0.8
    perturbed: float = 0.9
    scale: float = 2.5
    limit: float = 8.0
    fresh: float = 1.0
    node: float = 0.03
    connection: float = 0.05
    recurrent: bool = False

    def __call__(self, genome: Genome, generation: int, rng: np.random.Generator) -> Genome:
        """A mutant; what is new in it arises in this generation."""
        if rng.random() < self.node:
            return add_node(genome, generation, rng)
        if rng.random() < self.connection:
            return add_connection(
                genome, generation, rng, scale=self.fresh, recurrent=self.recurrent
            )
        if rng.random() < self.weights:
            return self._weights(genome, rng)
        return genome

    def _weights(self, genome: Genome, rng: np.random.Generator) -> Genome:
        before = np.array([gene.weight for gene in genome.genes])
        kept = rng.random(len(before)) < self.perturbed
        steps = rng.uniform(-self.scale, self.scale, len(before))
        after = np.clip(before * kept + steps, -self.limit, self.limit)
        genes = zip(genome.genes, after.tolist(), strict=True)
        return replace(genome, genes=tuple(g._replace(weight=weight) for g, weight in genes))


def add_node(genome: Genome, generation: int, rng: np.random.Generator) -> Genome:
    """Split an enabled connection: the one into the new node weighs 1, the one out as before.

    Not one from the bias, as in the authors' program: such a node would be a constant.
    """
    bias = genome.inputs
    splittable = [gene for gene in genome.genes if gene.enabled and gene.source != bias]
    if not splittable:
        return genome
    split = splittable[rng.integers(len(splittable))]
    node = hidden_node(generation, split.innovation)
    if node in genome.nodes:  # this genome's connection was split and enabled again, all at once
        return genome
    into = Gene(generation, split.source, node, 1.0)
    out = Gene(generation, node, split.target, split.weight)
    others = [gene for gene in genome.genes if gene is not split]
    return Genome.of(
        genome.inputs, genome.outputs, [*others, split._replace(enabled=False), into, out]
    )


def add_connection(
    genome: Genome, generation: int, rng: np.random.Generator, *, scale: float, recurrent: bool
) -> Genome:
    """Connect two nodes that are not connected, if there are such."""
    connected = {(gene.source, gene.target) for gene in genome.genes}
    free = [
        (source, target)
        for target in genome.nodes[len(genome.sensors) :]
        for source in genome.nodes
        if (source, target) not in connected
    ]
    if not recurrent:
        free = [(s, t) for s, t in free if not leads(connected, t, s)]
    if not free:
        return genome
    source, target = free[rng.integers(len(free))]
    gene = Gene(generation, source, target, float(rng.uniform(-scale, scale)))
    return Genome.of(genome.inputs, genome.outputs, [*genome.genes, gene])


def crossover(
    fitter: Genome,
    other: Genome,
    rng: np.random.Generator,
    *,
    keep_disabled: float,
    average: bool = False,
) -> Genome:
    """Section 3.2: matching genes from either parent, the rest from the fitter as they are.

    Args:
        fitter: Parent with the higher fitness.
        other: The other parent.
        rng: Source of randomness.
        keep_disabled: Chance that a matching gene is disabled if it is so in either parent;
            otherwise it is as the one that is taken.
        average: Whether matching genes are enabled, then, and have the mean of both weights.
    """
    genes = []
    for gene in fitter.genes:
        twin = other.by_innovation.get(gene.innovation)
        if twin is not None:
            disabled = not (gene.enabled and twin.enabled) and rng.random() < keep_disabled
            mean = (gene.weight + twin.weight) / 2
            gene = (gene, twin)[rng.integers(2)]
            if average:
                gene = gene._replace(weight=mean, enabled=True)
            if disabled:
                gene = gene._replace(enabled=False)
        genes.append(gene)
    return replace(fitter, genes=tuple(genes))


def distance(
    first: Genome, second: Genome, *, excess: float, disjoint: float, weights: float
) -> float:
    """Compatibility distance, eq. 1: ``c1 E/N + c2 D/N + c3 W``.

    ``N`` is the size of the larger genome, 1 if both have fewer than 20 genes.

    Args:
        first: A genome.
        second: Another of the same space.
        excess: c1, of genes younger than all of the other genome.
        disjoint: c2, of the other genes that do not match.
        weights: c3, of the mean difference of matching weights.
    """
    ours, theirs = first.by_innovation, second.by_innovation
    if not ours or not theirs:
        return excess * max(len(ours), len(theirs))
    matching = ours.keys() & theirs.keys()
    single = ours.keys() ^ theirs.keys()
    last = min(first.genes[-1].innovation, second.genes[-1].innovation)
    num_excess = sum(innovation > last for innovation in single)
    size = max(len(ours), len(theirs))
    difference = sum(abs(ours[i].weight - theirs[i].weight) for i in matching)
    return (excess * num_excess + disjoint * (len(single) - num_excess)) / (
        size if size >= 20 else 1
    ) + weights * difference / max(len(matching), 1)
