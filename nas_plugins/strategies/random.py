"""Random search, the baseline to beat."""

from __future__ import annotations

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.strategies.base import Strategy

__all__ = ["RandomSearch"]


class RandomSearch(Strategy):
    """Every proposal is drawn from the space's prior, whatever was told."""

    multi_objective = True

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        return self.space.sample(rng)
