"""One-shot search with path dropout."""

from __future__ import annotations

from typing import ClassVar

import torch

from nas_plugins.architecture import Architecture
from nas_plugins.mutators.base import Evaluate, Mutator
from nas_plugins.mutators.driver import Driver, drivers
from nas_plugins.mutators.uniform import best_sampled
from nas_plugins.supernet import Supernet

__all__ = ["OneShot"]


class OneShot(Mutator):
    """Trains the sum of all candidates, of which more and more are dropped at random.

    Bender et al. 2018, Understanding and Simplifying One-Shot Architecture Search (ICML),
    section 3. Of k paths into one place each is dropped with probability ``r^(1/k)`` at the
    end, so that with probability r none is left however many there are; the rate rises
    linearly from 0. Architectures drawn from the space's prior are ranked by what they are
    worth with inherited weights, for which batch norms need statistics of their own path:
    that is the business of ``evaluate``.

    Works over any space; begin with the paper's own, ``spaces.load("one_shot_cells")``.

    Deviations: a place that has to give something keeps one path, drawn uniformly, where
    all would be dropped; only ``inputs`` over any subset may be left empty.

    Args:
        supernet: Network whose gates are driven; not copied.
        dropout: The r at the end of the search, in (0, 1) (paper: tuned, best about 0.1).
        num_candidates: How many architectures a derivation ranks (paper: 20,000).
        seed: Of what is dropped and sampled.
    """

    needs_validation_data: ClassVar[bool] = False
    single_path: ClassVar[bool] = True

    def __init__(
        self,
        supernet: Supernet,
        *,
        dropout: float = 0.1,
        num_candidates: int = 1000,
        seed: int = 0,
    ) -> None:
        if not 0 < dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected within (0, 1)")
        super().__init__(supernet, seed=seed)
        self.dropout = dropout
        self.num_candidates = num_candidates
        self._drivers = drivers(supernet)

    def rate(self, num_paths: int) -> float:
        """Probability that one of ``num_paths`` is dropped at the present progress."""
        return self.progress * float(self.dropout ** (1 / num_paths))

    def _open_for_weights(self) -> None:
        for driver in self._drivers:
            driver.gate.select(*driver.required, *self._kept(driver))

    def _kept(self, driver: Driver) -> list[int]:
        paths = driver.optional
        if not paths:
            return []
        drawn = torch.rand(len(paths), generator=self.generator)
        last = int(torch.randint(len(paths), (), generator=self.generator))
        kept = [path for path, u in zip(paths, drawn, strict=True) if u >= self.rate(len(paths))]
        return kept or ([] if driver.may_be_empty else [paths[last]])

    def derive(self, num: int = 1, evaluate: Evaluate | None = None) -> list[Architecture]:
        return best_sampled(self, num, self.num_candidates, evaluate)
