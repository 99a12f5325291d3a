"""The network of a genome, or of many at once, in numpy."""

from __future__ import annotations

import numpy as np

from nas_plugins.neat.genome import Genome

__all__ = ["activate", "depth", "weight_matrix"]

_SLOPE = 4.9


def weight_matrix(genome: Genome, size: int | None = None) -> np.ndarray:
    """Weight from each node (column) to each node (row); nodes as in ``Genome.nodes``.

    Args:
        genome: Of which the enabled genes count.
        size: Rows and columns, more than there are nodes: to stack unequal genomes.
    """
    place = {node: i for i, node in enumerate(genome.nodes)}
    matrix = np.zeros((size or len(place),) * 2)
    for gene in genome.genes:
        if gene.enabled:
            matrix[place[gene.target], place[gene.source]] = gene.weight
    return matrix


def activate(weights: np.ndarray, values: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """One step of all nodes at once: each takes what its sources had the step before.

    So a signal takes as many steps as it passes connections, and a cycle is a memory. The
    activation is the paper's sigmoid ``1 / (1 + exp(-4.9 x))``, zero for what has no source.

    Args:
        weights: From :func:`weight_matrix`, shape ``(…, nodes, nodes)``.
        values: Of the nodes before, shape ``(…, nodes)``; zeros at the start.
        inputs: Shape ``(…, inputs)``.

    Returns:
        Values of the nodes after, shape ``(…, nodes)``: inputs, bias, outputs, hidden.
    """
    num_inputs = inputs.shape[-1]
    sensed = values.copy()
    sensed[..., :num_inputs] = inputs
    sensed[..., num_inputs] = 1.0
    with np.errstate(over="ignore"):  # exp(large) is inf, and 1 / inf the right 0
        after = 1.0 / (1.0 + np.exp(-_SLOPE * (weights @ sensed[..., None])[..., 0]))
    after[..., : num_inputs + 1] = sensed[..., : num_inputs + 1]
    return after


def depth(genome: Genome) -> int:
    """Steps until the outputs of a network without cycles have seen the inputs.

    Raises:
        ValueError: There is a cycle, so that no number of steps is enough.
    """
    edges = [(gene.source, gene.target) for gene in genome.genes if gene.enabled]
    depths = dict.fromkeys(genome.nodes, 0)
    for _ in genome.nodes:
        before = dict(depths)
        for source, target in edges:
            depths[target] = max(depths[target], depths[source] + 1)
        if depths == before:
            outputs = genome.nodes[len(genome.sensors) :][: genome.outputs]
            return max(depths[node] for node in outputs)
    raise ValueError("the network has a cycle: step it with activate as often as time goes on")
