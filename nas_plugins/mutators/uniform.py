"""Uniform sampling of single paths: random search with weight sharing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from nas_plugins.architecture import Architecture
from nas_plugins.mutators.base import Evaluate, Mutator
from nas_plugins.mutators.derivation import RankingError, distinct, ranked
from nas_plugins.supernet import Supernet

__all__ = ["Uniform", "best_sampled"]


class Uniform(Mutator):
    """Trains one random path at a time; nothing is learned about architectures meanwhile.

    The honest baseline of weight sharing: Li & Talwalkar 2019, arXiv:1902.07638, section 3;
    Guo et al. 2020, arXiv:1904.00420, eq. 7. Derivation draws architectures from the same
    prior and ranks them by what they are worth with inherited weights.

    Args:
        supernet: Network whose gates are driven; not copied.
        num_candidates: How many architectures a derivation ranks (Guo et al.: 1,000).
        seed: Of what is sampled.
    """

    needs_validation_data: ClassVar[bool] = False
    single_path: ClassVar[bool] = True

    def __init__(self, supernet: Supernet, *, num_candidates: int = 1000, seed: int = 0) -> None:
        super().__init__(supernet, seed=seed)
        self.num_candidates = num_candidates

    def _open_for_weights(self) -> None:
        self.supernet.set_path(self.supernet.sample(_numpy(self.generator)))

    def derive(self, num: int = 1, evaluate: Evaluate | None = None) -> list[Architecture]:
        return best_sampled(self, num, self.num_candidates, evaluate)


def best_sampled(
    mutator: Mutator, num: int, num_candidates: int, evaluate: Evaluate | None
) -> list[Architecture]:
    """The ``num`` best of ``num_candidates`` architectures drawn from the space's prior."""
    if evaluate is None:
        raise RankingError(
            f"{type(mutator).__name__} learns weights alone, and ranks architectures by what "
            "they are worth with them: give derive(evaluate=...), a function from an "
            "architecture to its score"
        )
    rng = _numpy(mutator._copied_generator())
    drawn = (mutator.supernet.sample(rng) for _ in range(max(num, num_candidates)))
    return ranked(distinct(mutator.supernet.space, drawn), evaluate)[:num]


def _numpy(generator: torch.Generator) -> np.random.Generator:
    """What draws architectures, seeded by the mutator's own generator."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
