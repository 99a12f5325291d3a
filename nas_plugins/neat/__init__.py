"""NEAT: networks whose topology itself evolves, from no hidden node to as many as help.

Stanley & Miikkulainen 2002, doi:10.1162/106365602320169811. :class:`GenomeSpace` is the space,
:class:`NEAT` the strategy, asked and told like every other::

    space = GenomeSpace(inputs=2, outputs=1)
    strategy = NEAT(space, seed=0)
    for _ in range(5000):
        proposal = strategy.ask()
        strategy.tell(proposal, fitness(space.genome(proposal)))
"""

from __future__ import annotations

from nas_plugins.neat.genome import Gene, Genome
from nas_plugins.neat.network import activate, depth, weight_matrix
from nas_plugins.neat.space import GENOME, GenomeSpace
from nas_plugins.neat.strategy import NEAT

__all__ = ["GENOME", "NEAT", "Gene", "Genome", "GenomeSpace", "activate", "depth", "weight_matrix"]
