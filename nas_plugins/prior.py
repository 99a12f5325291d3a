"""What a cheap search found out about a space, as data that any other search can start from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union

import numpy as np

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.errors import NasPluginsError
from nas_plugins.space import SearchSpace

__all__ = ["Prior", "PriorError"]

_MAX_DRAWS = 100

Probabilities = Mapping[str, Mapping[Choice, float]]


class PriorError(NasPluginsError, ValueError):
    """No prior, or not one of this space."""


class Prior:
    """Cheap scores of some architectures, and probabilities of choices; JSON in and out.

    :func:`nas_plugins.mutators.prior_of` makes one from a supernet's search. Both parts may
    be of fewer decisions than a space has: the others are drawn from the space's own prior.

    Args:
        scores: Pairs of score and architecture, as
            :meth:`OneShotScore.rank <nas_plugins.estimators.one_shot.OneShotScore.rank>`
            gives them. Higher is better; the unit does not matter.
        probabilities: Decision to choice to probability, scaled to sum to one.

    Attributes:
        scores: Best first; equals in the order given.
        probabilities: As given, scaled.

    Raises:
        PriorError: A score is not finite, or probabilities are negative or all zero.

    Example:
        >>> prior = Prior([(0.6, Architecture({"op": "conv"}))], {"op": {"conv": 3, "pool": 1}})
        >>> Prior.from_json(prior.to_json()).probabilities
        {'op': {'conv': 0.75, 'pool': 0.25}}
    """

    def __init__(
        self,
        scores: Iterable[tuple[float, Mapping[str, Choice]]] = (),
        probabilities: Probabilities | None = None,
    ) -> None:
        pairs = [(float(score), Architecture(of)) for score, of in scores]
        for score, architecture in pairs:
            if not math.isfinite(score):
                raise PriorError(
                    f"the score of architecture {architecture.id} is {score}; expected a finite "
                    "number. Leave out what has none"
                )
        self.scores = tuple(sorted(pairs, key=lambda pair: -pair[0]))
        self.probabilities = {
            label: _scaled(label, of) for label, of in (probabilities or {}).items()
        }

    @classmethod
    def of(cls, given: Union[Prior, Mapping[str, Any], str, Path, None]) -> Prior:
        """A prior from itself, from its file, from what its JSON holds, or from nothing.

        Raises:
            PriorError: The file is absent, or holds no prior.
        """
        if isinstance(given, Prior):
            return given
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            return cls._from_content(given, "the prior")
        path = Path(given)
        if not path.is_file():
            raise PriorError(
                f"no file {path}; expected what Prior.write wrote. A path that is not absolute "
                "starts where the process that reads it was started"
            )
        return cls.from_json(path)

    # -- JSON ---------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; choices are values and not keys, so that they keep their types."""
        return {
            "scores": [
                {"score": score, "architecture": dict(architecture)}
                for score, architecture in self.scores
            ],
            "probabilities": {
                label: [[choice, p] for choice, p in of.items()]
                for label, of in self.probabilities.items()
            },
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def write(self, path: str | Path) -> Path:
        """Write :meth:`to_json` to a file; returns its absolute path."""
        path = Path(path).resolve()
        path.write_text(self.to_json() + "\n", encoding="utf-8")
        return path

    @classmethod
    def from_json(cls, text: str | Path) -> Prior:
        """Read JSON text, or the file a :class:`~pathlib.Path` names.

        Raises:
            PriorError: Not what :meth:`to_json` wrote.
        """
        source = "the text"
        if isinstance(text, Path):
            source, text = str(text), text.read_text(encoding="utf-8")
        try:
            content = json.loads(text)
        except ValueError as error:
            raise PriorError(f"{source} is no JSON ({error}); expected a prior") from error
        return cls._from_content(content, source)

    @classmethod
    def _from_content(cls, content: Any, source: str) -> Prior:
        try:
            scores = [(entry["score"], entry["architecture"]) for entry in content["scores"]]
            probabilities = {label: dict(of) for label, of in content["probabilities"].items()}
            return cls(scores, probabilities)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PriorError(
                f"{source} holds no prior ({type(error).__name__}: {error}); expected "
                '{"scores": [{"score": 0.5, "architecture": {...}}, ...], '
                '"probabilities": {"label": [["choice", 0.5], ...]}}'
            ) from error

    # -- in a space ---------------------------------------------------------------------

    def check(self, space: SearchSpace) -> None:
        """Make sure that the prior speaks of this space.

        Raises:
            PriorError: It has a decision or a choice that the space has not.
        """
        for label, choice in self._mentioned():
            decision = space.decisions.get(label)
            if decision is None or not decision.allows(choice):
                has = "no such decision" if decision is None else decision.describe()
                raise PriorError(
                    f"the prior has choice {choice!r} at {label!r}, where space {space.name!r} "
                    f"has {has}. Was it made for another space?"
                )

    def draw(self, space: SearchSpace, rng: np.random.Generator) -> Architecture:
        """An architecture whose choices are drawn independently by the probabilities.

        Where clauses forbid all of many draws, one comes from the space's own prior.
        """
        for _ in range(_MAX_DRAWS):
            chosen: dict[str, Choice] = {}
            for label, decision in space.decisions.items():
                if decision.is_active(chosen):
                    of = self.probabilities.get(label)
                    chosen[label] = decision.sample(rng) if of is None else _pick(of, rng)
            architecture = Architecture(chosen)
            if architecture in space:
                return architecture
        return space.sample(rng)

    def _mentioned(self) -> Iterable[tuple[str, Choice]]:
        seen: dict[tuple[str, type, Choice], None] = {}
        for _, architecture in self.scores:
            seen.update({(label, type(c), c): None for label, c in architecture.items()})
        for label, of in self.probabilities.items():
            seen.update({(label, type(choice), choice): None for choice in of})
        return [(label, choice) for label, _, choice in seen]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prior):
            return NotImplemented
        return self.scores == other.scores and self.probabilities == other.probabilities

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Prior({len(self.scores)} scores, {len(self.probabilities)} decisions)"


def _scaled(label: str, of: Mapping[Choice, float]) -> dict[Choice, float]:
    total = math.fsum(of.values())
    if not (0 < total < math.inf) or min(of.values()) < 0:
        raise PriorError(
            f"probabilities at {label!r} are {dict(of)}; expected some that are not negative, "
            "not all zero"
        )
    return {choice: p / total for choice, p in of.items()}


def _pick(of: Mapping[Choice, float], rng: np.random.Generator) -> Choice:
    choices = list(of)
    return choices[int(rng.choice(len(choices), p=list(of.values())))]
