"""What a search strategy is: ask for an architecture, tell its score."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Union

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.errors import ScoreError, UnsupportedSpaceError
from nas_plugins.space import SearchSpace, require_space

__all__ = ["Observation", "Score", "Strategy"]

Score = Union[float, tuple[float, ...]]
"""One number, or one for each objective; higher is better."""


@dataclass(frozen=True)
class Observation:
    """One finished evaluation.

    Attributes:
        architecture: What was evaluated.
        score: Its worth, higher is better; ``None`` when the evaluation failed.
        budget: What was spent on it, in whatever unit the host counts; ``None`` for full.
    """

    architecture: Architecture
    score: Score | None
    budget: float | None = None


class Strategy(ABC):
    """Proposes architectures from a space, given the scores of earlier ones.

    The state of a strategy is a pure function of the ordered history of observations, and
    the proposal of number ``n`` is a pure function of the seed, that history and ``n``.
    Therefore a process that resumes, or another worker of the same study, continues
    exactly by telling the history again: no pickles, no side files.

    A subclass writes :meth:`_propose`, and :meth:`_observe` with :meth:`_reset` if it keeps
    state. It draws from the given generator alone.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.

    Raises:
        UnsupportedSpaceError: The space has no decision.

    Example:
        >>> from ConfigSpace import ConfigurationSpace
        >>> from nas_plugins import SearchSpace
        >>> from nas_plugins.strategies import RandomSearch
        >>> space = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"]}))
        >>> strategy = RandomSearch(space, seed=0)
        >>> architecture = strategy.ask()
        >>> strategy.tell(architecture, 0.9)
    """

    multi_objective: ClassVar[bool] = False
    """Whether scores with several objectives are understood."""

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        if not require_space(space).decisions:
            raise UnsupportedSpaceError(
                f"space {space.name!r} has no decision, so there is one architecture and nothing "
                "to search; expected at least one choice"
            )
        self.space = space
        self.seed = seed
        self._num_told = 0
        self._next_number = 0
        self._num_pending = 0  # beside the proposal that is being made
        self._num_objectives: int | None = None
        self._reset()

    @property
    def num_told(self) -> int:
        """How many observations the state is made of."""
        return self._num_told

    def ask(
        self, number: int | None = None, attempt: int = 0, *, pending: int | None = None
    ) -> Architecture:
        """Propose the next architecture to evaluate.

        Args:
            number: Which proposal this is, counted from 0 over the whole study; default:
                one more than the last. Asking twice for the same number and history gives
                the same architecture.
            attempt: Another draw of the same number, for a caller that rejected the last.
            pending: How many earlier proposals are under way; default: all that are not told,
                were each told once and nothing else.
        """
        if number is None:
            number = self._next_number
        self._next_number = number + 1
        self._num_pending = max(0, number - self._num_told) if pending is None else pending
        return self._draw(number, attempt)

    def tell(
        self, architecture: Architecture, score: Score | None, *, budget: float | None = None
    ) -> None:
        """Add one observation; any architecture of the space may be told, asked for or not.

        Args:
            architecture: What was evaluated.
            score: Higher is better; ``None`` for an evaluation that failed.
            budget: What was spent on it.

        Raises:
            ScoreError: The score is NaN or infinite, or has not as many objectives as those
                before; the state is unchanged.
            ArchitectureError: Not of this space; the state is unchanged.
        """
        architecture = self.space.validate(architecture)
        checked = self._checked(architecture, score)
        self._observe(Observation(architecture, checked, budget))
        if checked is not None:
            self._num_objectives = len(checked) if isinstance(checked, tuple) else 1
        self._num_told += 1
        self._next_number = max(self._next_number, self._num_told)

    def replay(self, history: Iterable[Observation]) -> None:
        """Forget everything, then observe a history: how a strategy resumes."""
        self._num_told = self._next_number = 0
        self._num_objectives = None
        self._reset()
        for observation in history:
            self.tell(observation.architecture, observation.score, budget=observation.budget)

    def _draw(self, number: int, attempt: int) -> Architecture:
        """One draw of a proposal; for those that wrap another strategy to override."""
        return self._propose(number, np.random.default_rng((self.seed, number, attempt)))

    @abstractmethod
    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        """The proposal of this number; draws from ``rng`` alone and changes no state."""

    def _observe(self, observation: Observation) -> None:  # noqa: B027 (optional hook)
        """Take an observation into the state; cheap, since resuming repeats it."""

    def _reset(self) -> None:  # noqa: B027 (optional hook)
        """Set the state to that of an empty history; called by the constructor."""

    def _checked(self, architecture: Architecture, score: Score | None) -> Score | None:
        if score is None:
            return None
        several = isinstance(score, (tuple, list))
        if several and not self.multi_objective:
            raise ScoreError(
                f"{type(self).__name__} takes one score per architecture, got {score!r}: "
                "combine the objectives into one number first"
            )
        values = tuple(float(s) for s in score) if several else (float(score),)  # type: ignore[union-attr, arg-type]
        if not all(math.isfinite(value) for value in values):
            raise ScoreError(
                f"score of architecture {architecture.id} is {score!r}; expected finite "
                "numbers. Tell a failed evaluation as None"
            )
        self._check_number(len(values), architecture, score)
        return values if len(values) > 1 else values[0]

    def _check_number(self, number: int, architecture: Architecture, score: Score) -> None:
        """Refuse another number of objectives than that of the scores before."""
        if self._num_objectives not in (None, number):
            raise ScoreError(
                f"score of architecture {architecture.id} is {score!r}; expected "
                f"{self._num_objectives} objectives, as told before"
            )
