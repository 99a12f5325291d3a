"""Sequential search with a Gaussian process that predicts the score of an architecture."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Sequence
from functools import cached_property

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.errors import NasPluginsError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy
from nas_plugins.strategies.encoding import Encoding
from nas_plugins.strategies.options import check_at_least
from nas_plugins.strategies.posterior import Posterior, normal_scores

__all__ = ["Predictor"]

_NUM_PARENTS = 10
_MAX_FITTED = 100
_GROWTH = 1.1
_MAX_PENDING = 64
_MAX_REJECTIONS = 100
_DECIMALS = 8


class Predictor(Strategy):
    """Evaluate what a learned predictor, drawn within its uncertainty, thinks best.

    The loop is that of BANANAS (White et al. 2021, arXiv:1910.11858): the first evaluations are
    random; then candidates, mutations of the best and random ones, are scored by independent
    Thompson sampling, ``mean + std * N(0, 1)`` for each alone, and the highest is evaluated.
    The predictor is a Gaussian process in place of an ensemble of networks: of tens of
    observations it makes more, and its uncertainty is computed and not estimated.

    - *Encoding*: one-hot choices, and numbers on their own scale; conditional decisions are zeros
      where they are inactive. So any space will do. How much a decision matters is learned, and
      how much each choice differs from others, which decisions with equal choices share.
    - *Targets* are the normal scores of the ranks, so that how bad the bad ones are, and
      monotone changes of the score, make no difference. A failed evaluation ranks below all.
    - *Candidates*: half mutations of the ten best, once or several times, half random; a space
      no larger than ``num_candidates`` is seen in full. Networks that were told, by the space's
      canonical form, are not proposed again as long as there are others.
    - *Workers at the same time*: proposals that are not told yet are made again from what is
      known now, and their networks are left out.
    - *Cost* is bounded: of a longer history, the best ``max_observations / 2`` and the latest
      as many are learned from. The kernel is fitted to at most 100 of them each time the
      history has grown by a tenth.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        num_initial: Random evaluations before the first prediction (paper: 10).
        num_candidates: Scored for each proposal.
        max_observations: Learned from, at least 2.

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        num_initial: int = 10,
        num_candidates: int = 500,
        max_observations: int = 300,
    ) -> None:
        check_at_least(1, num_initial=num_initial, num_candidates=num_candidates)
        check_at_least(2, max_observations=max_observations)
        self.num_initial = num_initial
        self.num_candidates = num_candidates
        self.max_observations = max_observations
        super().__init__(space, seed=seed)
        self._encoding = Encoding(space)

    def best(self) -> Architecture:
        """The architecture told that is best by the prediction, which knows of noise.

        The highest score of many is high by luck too; the posterior mean takes from a score
        what its neighbours do not confirm.

        Raises:
            NasPluginsError: No evaluation with a score was told.
        """
        scored = zip(self._history, self._scores, strict=True)
        known = list(dict.fromkeys(a for a, score in scored if score > -np.inf))
        if not known:
            raise NasPluginsError("nothing is best: no evaluation with a score was told")
        mean, _ = self._model().predict(self._encoding.rows(known))
        return known[int(np.argmax(np.round(mean, _DECIMALS)))]

    # -- contract -----------------------------------------------------------------------

    def _reset(self) -> None:
        self._history: list[Architecture] = []
        self._scores: list[float] = []
        self._told: set[Hashable] = set()
        self._fitted: tuple[int, np.ndarray] | None = None
        self._pool: Pool | None = None

    def _observe(self, observation: Observation) -> None:
        score = observation.score
        self._history.append(observation.architecture)
        self._scores.append(score if isinstance(score, float) else -np.inf)  # it failed
        self._told.add(self.space.canonical(observation.architecture))
        self._pool = None

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        if len(self._history) < self.num_initial:
            return self._random(rng)
        if self._pool is None:
            self._pool = self._predicted()
        running: set[Hashable] = set()
        for earlier in range(number - min(self._num_pending, _MAX_PENDING, number), number):
            draw = np.random.default_rng((self.seed, earlier, 0))
            running.add(self._pool.pick(draw, self._told, running)[1])
        return self._pool.pick(rng, self._told, running)[0]

    # -- candidates ---------------------------------------------------------------------

    def _random(self, rng: np.random.Generator) -> Architecture:
        for _ in range(_MAX_REJECTIONS):
            architecture = self.space.sample(rng)
            if self.space.canonical(architecture) not in self._told:
                break
        return architecture

    def _predicted(self) -> Pool:
        """Candidates and what is predicted of them; a function of the history alone."""
        candidates = self._all
        if not candidates:
            # Not the stream of a proposal, since all that ask now have to see the same.
            rng = np.random.default_rng((self.seed, len(self._history), 0, 1))
            candidates = tuple(dict.fromkeys(self._candidates(rng)))
        mean, std = self._model().predict(self._encoding.rows(candidates))
        return Pool(self.space, candidates, mean, std)

    @cached_property
    def _all(self) -> tuple[Architecture, ...]:
        """The whole space if it is small, otherwise nothing."""
        if self.space.num_assignments > self.num_candidates:
            return ()
        return tuple(self.space.enumerate())

    def _candidates(self, rng: np.random.Generator) -> Iterator[Architecture]:
        best = np.argsort(-np.array(self._scores), kind="stable")[:_NUM_PARENTS]
        for i in range(self.num_candidates):
            parent = self._history[best[i // 2 % len(best)]]
            if i % 2 or not self.space.mutable(parent):
                yield self.space.sample(rng)
            else:
                yield self.space.mutate(parent, rng, times=int(rng.geometric(0.5)))

    # -- the model ----------------------------------------------------------------------

    def _model(self) -> Posterior:
        rows, targets = self._data(len(self._history), self.max_observations)
        return Posterior(self._encoding.kernel, self._parameters(), rows, targets)

    def _parameters(self) -> np.ndarray:
        """Of the kernel, fitted to the history as it was at one of few lengths."""
        size = min(self.num_initial, len(self._history))
        while (following := max(size + 1, int(size * _GROWTH))) <= len(self._history):
            size = following
        if self._fitted is None or self._fitted[0] != size:
            limit = min(_MAX_FITTED, self.max_observations)
            self._fitted = size, self._encoding.kernel.fit(*self._data(size, limit))
        return self._fitted[1]

    def _data(self, size: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and targets of the best and the latest of so many first observations."""
        scores = np.array(self._scores[:size])
        chosen = np.arange(len(scores))
        if len(chosen) > limit:
            best = np.argsort(-scores, kind="stable")[: limit // 2]
            latest = np.setdiff1d(chosen, best)[limit // 2 - limit :]
            chosen = np.sort(np.concatenate([best, latest]))
        rows = self._encoding.rows([self._history[i] for i in chosen])
        return rows, normal_scores(scores)[chosen]


class Pool:
    """Candidates with their predictions.

    Args:
        space: Tells which of them are the same network.
        candidates: At least one, all different.
        mean, std: Of their predicted scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        candidates: Sequence[Architecture],
        mean: np.ndarray,
        std: np.ndarray,
    ) -> None:
        self._space = space
        self._candidates = candidates
        self._mean, self._std = mean, std
        self._keys: dict[int, Hashable] = {}

    def pick(
        self, rng: np.random.Generator, *taken: Container[Hashable]
    ) -> tuple[Architecture, Hashable]:
        """The highest of independent draws whose network is not taken, if there is one."""
        drawn = self._mean + self._std * rng.standard_normal(len(self._mean))
        # Rounded, as the last bits of matrix products depend on machine and memory.
        order = np.argsort(-np.round(drawn, _DECIMALS), kind="stable")
        for i in order:
            if not any(self._key(i) in keys for keys in taken):
                return self._candidates[i], self._key(i)
        return self._candidates[order[0]], self._key(order[0])

    def _key(self, i: int) -> Hashable:
        # Asked of few, as a canonical form can take longer than all the rest.
        if i not in self._keys:
            self._keys[i] = self._space.canonical(self._candidates[i])
        return self._keys[i]
