"""Progressive neural architecture search."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import ALWAYS
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy
from nas_plugins.strategies.options import check_at_least
from nas_plugins.strategies.surrogates import Ensemble, LSTMSurrogate, MLPSurrogate, spearman
from nas_plugins.strategies.tokens import INACTIVE, Tokens

__all__ = ["PNAS"]

_SURROGATES = {"mlp": MLPSurrogate, "lstm": LSTMSurrogate}


class Level(NamedTuple):
    """One step of complexity.

    Attributes:
        open: Decisions that are searched; the others take their default.
        given: Choices that make the level.
    """

    open: frozenset[str]
    given: Mapping[str, Choice]


class PNAS(Strategy):
    """From simple to complex: the best of a level, extended, are ranked by a learned predictor.

    Liu et al. 2018, arXiv:1712.00559, algorithm 1: everything of the first level is evaluated;
    then, level by level, all extensions of the ``beam_size`` best are ranked by the predictor,
    the ``beam_size`` best of them evaluated, and the predictor trained on. An ensemble of five,
    each with another four fifths of the data and the mean absolute error as its loss.

    What a level is, is for the space to say:

    - A space with one unconditional ``repeat`` grows in that: its values are the levels, as the
      blocks of the paper's cell are.
    - ``levels`` names the decisions that each level opens, such as the edges into each node of
      a cell; those that are closed take their default, which should mean *not there*.
    - Otherwise the decisions are opened one after the other, in the space's order.

    Networks that are equal by the space's canonical form are evaluated once. After the last
    level its parents are extended again, by what is known then, until nothing is left; from
    there on proposals are random.

    A level ends when its ``beam_size`` best are told. Workers that would wait for the last of
    them go on down the ranking. An architecture that nobody asked for is trained on, and is a
    parent if it is of the level and good enough; one that failed is not proposed again.

    Deviations: scores are standardised where the paper has accuracies behind a sigmoid. Blocks
    are not alike in a general space, so that the MLP's embeddings are averaged over decisions
    and not over blocks, and each decision has a correction of its own. A first level larger than
    ``beam_size`` is evaluated in part, at random, and of more than ``max_candidates``
    extensions so many are drawn. A numeric range is searched in ten bins. The paper gives
    neither ``num_steps`` nor the size of a batch.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        beam_size: Evaluations in a level (paper: K = 256).
        levels: Labels that each level opens; every label of the space once.
        surrogate: ``"mlp"`` or ``"lstm"``. The LSTM takes some ten times as long.
        num_surrogates: In the ensemble (paper: 5).
        hidden_size: Of embeddings and hidden layers (paper: 100).
        num_steps: Of Adam, in each level, at a learning rate of 0.01 and after the first
            level 0.002.
        max_candidates: Extensions that are ranked in a level.

    Raises:
        UnsupportedSpaceError: ``levels`` are not the labels of the space.
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        beam_size: int = 256,
        levels: Sequence[Sequence[str]] | None = None,
        surrogate: str = "mlp",
        num_surrogates: int = 5,
        hidden_size: int = 100,
        num_steps: int = 200,
        max_candidates: int = 100_000,
    ) -> None:
        if surrogate not in _SURROGATES:
            raise ValueError(f"surrogate is {surrogate!r}; expected one of {sorted(_SURROGATES)}")
        check_at_least(1, beam_size=beam_size, num_surrogates=num_surrogates)
        check_at_least(1, hidden_size=hidden_size, max_candidates=max_candidates)
        check_at_least(0, num_steps=num_steps)
        self.beam_size = beam_size
        self._levels = _own_levels(space) if levels is None else _named_levels(space, levels)
        self.surrogate = surrogate
        self.num_surrogates = num_surrogates
        self.hidden_size = hidden_size
        self.num_steps = num_steps
        self.max_candidates = max_candidates
        super().__init__(space, seed=seed)

    @property
    def rank_correlations(self) -> tuple[float, ...]:
        """Spearman's, of predictions and scores, for each level that was predicted and ended.

        Of the architectures that were evaluated, the best predicted; the paper's table 1 has
        it for random ones, which is easier. NaN where either was constant.
        """
        return tuple(self._correlations)

    def _reset(self) -> None:
        self._tokens = Tokens(self.space)
        self._rng = np.random.default_rng(self.seed)
        self._ensemble = Ensemble(
            [
                _SURROGATES[self.surrogate](self._tokens, self._rng, hidden_size=self.hidden_size)
                for _ in range(self.num_surrogates)
            ]
        )
        self._fitted = False
        self._num_seen = 0
        self._told: dict[Hashable, float | None] = {}
        self._scored: dict[Architecture, float] = {}
        self._correlations: list[float] = []
        self._begin(0)

    def _observe(self, observation: Observation) -> None:
        self._num_seen += 1
        key = self.space.canonical(observation.architecture)
        score = observation.score if isinstance(observation.score, float) else None
        self._told[key] = score
        if score is not None:
            self._scored[observation.architecture] = score
        if key in self._waiting:
            self._waiting.remove(key)
            if not self._waiting:
                self._learn()
                self._begin(self._level + 1)

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        place = number - self._start
        # Numbers run ahead when a level begins while trials of the last are under way, so that
        # the plan is a ring: what was skipped comes round. Past the plan goes the ranking.
        places = [place % len(self._plan), place] if self._plan else []
        for i in places:
            if 0 <= i < len(self._ranking):
                if self.space.canonical(self._ranking[i]) not in self._told:
                    return self._ranking[i]
        return self.space.sample(rng)

    # -- levels -------------------------------------------------------------------------

    def _begin(self, level: int) -> None:
        """Plan a level; one that brings nothing new is passed over, the last is planned again."""
        last = len(self._levels) - 1
        self._level = min(level, last)
        self._rank(self._extend(self._parents()))
        while not self._ranking and self._level < last:
            self._level += 1
            self._rank(self._extend(self._parents()))
        self._start = self._num_seen
        self._plan = self._ranking[: self.beam_size]
        self._waiting = {self.space.canonical(architecture) for architecture in self._plan}

    def _parents(self) -> np.ndarray:
        """Tokens of the best of the level below, what this level opens left out."""
        nothing = np.full((1, len(self._tokens.decisions)), INACTIVE)
        if self._level == 0:
            return nothing
        below, level = self._levels[self._level - 1 : self._level + 1]
        members = [a for a in self._scored if self._at(below, a) == a]
        members.sort(key=lambda architecture: -self._scored[architecture])
        if not members:  # all failed
            return nothing
        rows = np.stack([self._tokens.row(a) for a in members[: self.beam_size]])
        opened = [d.label in level.open - below.open for d in self._tokens.decisions]
        rows[:, opened] = INACTIVE
        return rows

    def _extend(self, rows: np.ndarray) -> np.ndarray:
        """Every way to make the open decisions that parents have not made."""
        level = self._levels[self._level]
        for position, decision in enumerate(self._tokens.decisions):
            active = self._tokens.active(position, rows)
            rows[~active, position] = INACTIVE
            if decision.label not in level.open:
                choice = level.given.get(decision.label, decision.default)
                rows[active, position] = self._tokens.token(position, choice)
                continue
            branching = active & (rows[:, position] == INACTIVE)
            size = self._tokens.sizes[position]
            branches = np.repeat(rows[branching], size, axis=0)
            branches[:, position] = np.tile(np.arange(size), int(branching.sum()))
            rows = np.concatenate([rows[~branching], branches])
            if len(rows) > self.max_candidates:
                rows = rows[self._rng.choice(len(rows), self.max_candidates, replace=False)]
        return rows

    def _rank(self, rows: np.ndarray) -> None:
        """Order what was not told yet, best prediction first: the plan and as much again."""
        order = self._rng.permutation(len(rows))
        if self._fitted:
            predictions = self._ensemble.predict(rows)
            order = np.argsort(-predictions, kind="stable")
        self._ranking: list[Architecture] = []
        self._predictions: dict[Hashable, float] = {}
        known = set(self._told)
        for i in order:
            architecture = self._decode(rows[i])
            if architecture is None:
                continue
            key = self.space.canonical(architecture)
            if key in known:
                continue
            known.add(key)
            self._ranking.append(architecture)
            if self._fitted:
                self._predictions[key] = float(predictions[i])
            if len(self._ranking) == 2 * self.beam_size:
                break

    def _decode(self, row: np.ndarray) -> Architecture | None:
        """The architecture of a row of tokens, ``None`` for a forbidden one."""
        level = self._levels[self._level]
        choices = {
            decision.label: self._tokens.choice(position, row[position], self._rng)
            for position, decision in enumerate(self._tokens.decisions)
            if decision.label in level.open and row[position] != INACTIVE
        }
        return self._at(level, choices)

    def _at(self, level: Level, choices: Mapping[str, Choice]) -> Architecture | None:
        """The open ones of some choices, and the level's own for all other decisions."""
        opened = {label: choice for label, choice in choices.items() if label in level.open}
        try:
            return self.space.complete({**opened, **level.given})
        except ArchitectureError:  # forbidden
            return None

    # -- the predictor ------------------------------------------------------------------

    def _learn(self) -> None:
        """Compare what was predicted of the plan, and fit the ensemble to all that is known."""
        keys = [self.space.canonical(architecture) for architecture in self._plan]
        pairs = [
            (self._predictions[key], self._told[key])
            for key in keys
            if key in self._predictions and self._told[key] is not None
        ]
        if pairs:
            predicted, scores = np.array(pairs).T
            self._correlations.append(spearman(predicted, scores))
        if not self._scored:
            return
        self._ensemble.fit(
            np.stack([self._tokens.row(architecture) for architecture in self._scored]),
            np.array(list(self._scored.values())),
            learning_rate=0.002 if self._fitted else 0.01,
            num_steps=self.num_steps,
            batch_size=64,
            rng=self._rng,
        )
        self._fitted = True


def _own_levels(space: SearchSpace) -> list[Level]:
    """By the space's one ``repeat``, otherwise decision by decision."""
    labels = list(space.decisions)
    repeats = [d for d in space.decisions.values() if d.verb == "repeat"]
    if len(repeats) == 1 and repeats[0].condition == ALWAYS:
        (repeat,) = repeats
        opened = frozenset(labels) - {repeat.label}
        return [Level(opened, {repeat.label: depth}) for depth in repeat.all_choices()]
    return _named_levels(space, [[label] for label in labels])


def _named_levels(space: SearchSpace, levels: Sequence[Sequence[str]]) -> list[Level]:
    labels = [label for level in levels for label in level]
    if sorted(labels) != sorted(space.decisions) or not all(levels):
        raise UnsupportedSpaceError(
            f"levels are {[list(level) for level in levels]}; expected each of the labels "
            f"{list(space.decisions)} of space {space.name!r} once, and none empty"
        )
    return [
        Level(frozenset(label for level in levels[: i + 1] for label in level), {})
        for i in range(len(levels))
    ]
