"""A surrogate of radial basis functions."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.errors import ArchitectureError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["RadialBasis"]

_WEIGHTS = (0.3, 0.5, 0.8, 0.95)
_MOST = 500
_MOST_CANDIDATES = 2000


class RadialBasis(Strategy):
    """Cubic radial basis functions through all scores; candidates near the best are ranked.

    Ilievski et al. 2017, arXiv:1607.08316 (HORD), algorithm 1, which is DYCORS (Regis &
    Shoemaker 2013): candidates vary the best architecture, each decision with a probability
    that falls with the number of trials; the one is taken that is best by a weight, which
    goes round, between the surrogate's value and the distance to what was evaluated. The
    step halves after several failures to improve and doubles after three successes.

    Deviations: discrete decisions are coordinates of zeros and ones, and a variation draws
    another choice; a whole number that the step is too small for goes to the next one. The
    first proposals are random where the paper has a Latin hypercube. At most 500 observations,
    the latest, carry the surrogate. A failed evaluation counts as the worst score. The paper
    ranks 100 candidates for each decision, here at most 2,000.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        horizon: Trials after which few decisions are varied at a time (the paper's N_max,
            200 there).
        num_candidates: Variations that are ranked; default: 100 for each decision.

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        horizon: int = 200,
        num_candidates: int | None = None,
    ) -> None:
        dimensions = max(1, len(space.decisions))
        if horizon < 2 or (num_candidates is not None and num_candidates < 1):
            raise ValueError(
                f"horizon is {horizon} and num_candidates {num_candidates}; expected at least 2 "
                "and at least 1"
            )
        self.horizon = horizon
        most = min(100 * dimensions, _MOST_CANDIDATES)
        self.num_candidates = most if num_candidates is None else num_candidates
        self.num_initial = 2 * (dimensions + 1)
        self._patience = max(5, dimensions)
        super().__init__(space, seed=seed)

    def _reset(self) -> None:
        self._observed: list[tuple[float | None, Architecture]] = []
        self._num_scored = 0
        self._known: set[Hashable] = set()
        self._best: tuple[float, Architecture] | None = None
        self._step = 0.2
        self._successes = self._failures = 0

    def _observe(self, observation: Observation) -> None:
        self._known.add(self.space.canonical(observation.architecture))
        score = observation.score if isinstance(observation.score, float) else None
        self._observed.append((score, observation.architecture))
        if score is not None:
            self._num_scored += 1
        before = self._best
        if score is not None and (before is None or score > before[0]):
            self._best = score, observation.architecture
        if self._num_scored > self.num_initial:
            self._adapt(self._best is not before)

    def _adapt(self, better: bool) -> None:
        self._successes = self._successes + 1 if better else 0
        self._failures = 0 if better else self._failures + 1
        if self._successes == 3:
            self._step, self._successes = min(2 * self._step, 0.2), 0
        elif self._failures == self._patience:
            self._step, self._failures = max(self._step / 2, 0.2 / 2**6), 0

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        if self._num_scored < self.num_initial or self._best is None:
            return self.space.sample(rng)
        candidates = self._variations(rng)
        if not candidates:
            return self._unknown(rng)
        rows = np.stack([self.space.encode(a) for a in candidates])
        values, distances = self._surrogate(rows)
        weight = _WEIGHTS[number % len(_WEIGHTS)]
        # Last bits, which differ from machine to machine, do not count.
        worth = weight * _scaled(values) + (1 - weight) * _scaled(distances)
        return candidates[int(np.argmax(np.round(worth, 9)))]

    def _variations(self, rng: np.random.Generator) -> list[Architecture]:
        assert self._best is not None
        best = self._best[1]
        labels = self.space.mutable(best)
        after = self._num_scored - self.num_initial + 1
        total = max(2, self.horizon - self.num_initial)
        share = min(20 / max(1, len(labels)), 1.0)
        share *= max(0.0, 1 - math.log(min(after, total)) / math.log(total))
        found: dict[Hashable, Architecture] = {}
        for _ in range(self.num_candidates if labels else 0):
            chosen = [label for label in labels if rng.random() < share]
            chosen = chosen or [labels[rng.integers(len(labels))]]
            changed = {label: self._moved(label, best[label], rng) for label in chosen}
            try:
                architecture = self.space.complete({**best, **changed})
            except ArchitectureError:  # forbidden
                continue
            form = self.space.canonical(architecture)
            if form not in self._known:
                found.setdefault(form, architecture)
        return list(found.values())

    def _unknown(self, rng: np.random.Generator) -> Architecture:
        """A draw from the space, not evaluated before if there is one at hand."""
        for _ in range(200):
            drawn = self.space.sample(rng)
            if self.space.canonical(drawn) not in self._known:
                break
        return drawn

    def _moved(self, label: str, choice: Choice, rng: np.random.Generator) -> Choice:
        decision = self.space.decisions[label]
        if decision.choices is not None:
            return decision.mutate(choice, rng)
        unit = float(decision.encode(choice)[1]) + self._step * rng.normal()
        moved = decision.at(abs(1 - abs(1 - unit)))  # reflected at both ends
        if moved == choice and (others := decision.others(choice)):  # too small a step for it
            return others[rng.integers(len(others))]
        return moved

    def _surrogate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and distances to the nearest observation, each ``(rows,)``."""
        used = self._observed[-_MOST:]
        scores = [score for score, _ in used if score is not None]
        worst = min(scores) if scores else 0.0
        x = np.stack([self.space.encode(architecture) for _, architecture in used])
        y = np.array([worst if score is None else score for score, _ in used])
        y = np.maximum(y, np.median(y))  # the worse half would bend the surface (HORD's code)
        tail = np.hstack([np.ones((len(x), 1)), x])
        size = tail.shape[1]
        system = np.block(
            [
                [_distances(x, x) ** 3 + 1e-6 * np.eye(len(x)), tail],
                [tail.T, -1e-6 * np.eye(size)],  # coordinates of one decision depend on each other
            ]
        )
        weights = np.linalg.solve(system, np.concatenate([y, np.zeros(size)]))
        distances = _distances(rows, x)
        values = distances**3 @ weights[: len(x)]
        values += np.hstack([np.ones((len(rows), 1)), rows]) @ weights[len(x) :]
        return values, distances.min(axis=1)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))


def _scaled(values: np.ndarray) -> np.ndarray:
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.ones(len(values))
