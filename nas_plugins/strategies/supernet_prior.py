"""A search that starts from what a supernet knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

import numpy as np

from nas_plugins import strategies
from nas_plugins.architecture import Architecture, Choice
from nas_plugins.prior import Prior
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["SupernetPrior"]


class SupernetPrior(Strategy):
    """Another strategy, helped by the cheap scores and probabilities of a supernet's search.

    Three kinds of help, each of which can be had alone:

    - ``num_initial``: the best scored architectures are proposed first, best first, so that
      they are the first the inner strategy is told: the *warmup* of Abdelfattah et al. 2021,
      arXiv:2101.08134, with a supernet's scores in the place of a zero-cost proxy.
    - ``prior_weight``, w: proposal n is drawn from the probabilities with probability
      w / (w + n), so that the prior counts as many trials. It decays as the exponent
      beta / n of a prior in pi-BO does (Hvarfner et al. 2022, arXiv:2204.11051).
    - ``num_candidates``: the inner strategy proposes so many, and the one with the best cheap
      score is evaluated: their *move proposal*, which computes the proxy anew. Here an
      architecture that the prior did not score is worth the sum of what each of its choices is
      worth in those that are, by ridge regression.

    On NAS-Bench-201 the first helps to the end, the others at the beginning (``benchmarks``).
    The inner strategy is told everything. Without a prior and with ``prior_weight=0`` it
    proposes what it would alone. Decisions that a prior leaves out are drawn from the space's
    own prior, and so is everything where there is none.

    Args:
        space: Where architectures come from; it may have more decisions than the prior.
        seed: Source of all randomness, of the inner strategy too.
        prior: A :class:`~nas_plugins.prior.Prior`, its file, or what its JSON holds.
        inner: Name of a strategy, or ``package.module:Class``.
        inner_options: Of that strategy.
        num_initial: How many of the best scored are proposed first.
        prior_weight: In trials, see above.
        num_candidates: Proposals of the inner strategy for one evaluation.

    Raises:
        PriorError: The prior cannot be read, or is of another space.
        StrategyNameError: No such strategy, or it has no such option.
        ValueError: An option out of its range.

    Example:
        >>> from ConfigSpace import ConfigurationSpace
        >>> space = SearchSpace(ConfigurationSpace({"op": ["conv", "pool", "skip"]}))
        >>> prior = Prior([(0.6, {"op": "pool"}), (0.5, {"op": "conv"})])
        >>> SupernetPrior(space, prior=prior).ask()
        Architecture({'op': 'pool'})
    """

    multi_objective = True  # with the default; an instance says what its inner strategy says

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        prior: Union[Prior, Mapping[str, Any], str, Path, None] = None,
        inner: str = "regularized_evolution",
        inner_options: Mapping[str, Any] | None = None,
        num_initial: int = 10,
        prior_weight: float = 0.0,
        num_candidates: int = 1,
    ) -> None:
        if num_initial < 0 or num_candidates < 1 or not 0 <= prior_weight < math.inf:
            raise ValueError(
                f"num_initial is {num_initial}, prior_weight {prior_weight} and num_candidates "
                f"{num_candidates}; expected num_initial >= 0, prior_weight >= 0, "
                "num_candidates >= 1"
            )
        self.prior = Prior.of(prior)
        self.prior.check(space)
        self.num_initial = num_initial
        self.prior_weight = prior_weight
        self.num_candidates = num_candidates
        self._starts = [a for _, a in self.prior.scores if not space.is_forbidden(a)]
        self._worths = _Worths(self.prior) if self.prior.scores else None
        self.inner = strategies.create(inner, space, seed=seed, **(inner_options or {}))
        self.multi_objective = self.inner.multi_objective  # type: ignore[misc]
        super().__init__(space, seed=seed)

    def worth(self, architecture: Architecture) -> float:
        """Cheap score of an architecture, or an estimate of it; 0 where nothing was scored."""
        return 0.0 if self._worths is None else self._worths.of(architecture)

    def _draw(self, number: int, attempt: int) -> Architecture:
        # The inner strategy has the same seed, and would draw the same without the last word.
        rng = np.random.default_rng((self.seed, number, attempt, 1))
        rank = number + attempt * self.num_initial
        if number < self.num_initial and rank < len(self._starts):
            return self.space.sample(rng, given=self._starts[rank])
        if rng.random() * (self.prior_weight + number) < self.prior_weight:
            return self.prior.draw(self.space, rng)
        num = 1 if self._worths is None else self.num_candidates
        pending = self._num_pending
        proposed = [self.inner.ask(number, attempt * num + i, pending=pending) for i in range(num)]
        return max(proposed, key=self.worth)  # the first of equals

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        raise NotImplementedError("proposals come from the prior or the inner strategy")

    def _observe(self, observation: Observation) -> None:
        self.inner.tell(observation.architecture, observation.score, budget=observation.budget)

    def _reset(self) -> None:
        self.inner.replay([])


class _Worths:
    """Scores of a prior, and estimates for what it did not score.

    The estimate is linear in which choice was taken at which decision; its weights minimise
    squared errors plus their own squares.
    """

    def __init__(self, prior: Prior) -> None:
        self._labels = {label for _, architecture in prior.scores for label in architecture}
        self._scores = {architecture: score for score, architecture in reversed(prior.scores)}
        columns: dict[tuple[str, Choice], int] = {}
        rows = [
            [columns.setdefault(choice, len(columns)) for choice in architecture.items()]
            for architecture in self._scores
        ]
        taken = np.zeros((len(rows), len(columns)))
        for row, at in enumerate(rows):
            taken[row, at] = 1.0
        scores = np.array(list(self._scores.values()))
        self._mean = float(scores.mean())
        normal = taken.T @ taken + np.eye(len(columns))
        weights = np.linalg.solve(normal, taken.T @ (scores - self._mean)).tolist()
        self._weights = {choice: weights[at] for choice, at in columns.items()}

    def of(self, architecture: Architecture) -> float:
        """Higher is better."""
        known = Architecture({k: c for k, c in architecture.items() if k in self._labels})
        score = self._scores.get(known)
        if score is not None:
            return score
        return self._mean + sum(self._weights.get(choice, 0.0) for choice in known.items())
