"""From a supernet's search to a prior that a search by training can start from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.mutators.base import Evaluate, Mutator
from nas_plugins.mutators.derivation import distinct
from nas_plugins.prior import Prior
from nas_plugins.space import SearchSpace

__all__ = ["frequencies", "prior_of"]


def prior_of(
    mutator: Mutator,
    evaluate: Evaluate | None = None,
    *,
    num: int = 100,
    num_sampled: int = 0,
    seed: int = 0,
) -> Prior:
    """What a search with a supernet has found out, as plain data.

    Scored are all architectures that the method evaluates to derive ``num``, and
    ``num_sampled`` drawn uniformly. The latter are what tells good choices from bad ones
    where a method has settled on a few architectures.

    The probabilities are those that the method has learned. Of a method that learns weights
    alone they are how often each choice is taken by the best tenth of what was scored, and
    one more, so that none is impossible.

    Args:
        mutator: After its search; not changed.
        evaluate: What an architecture is worth, such as
            :class:`~nas_plugins.estimators.one_shot.OneShotScore`. Without it, a derived
            architecture is worth minus its rank.
        num: Architectures to derive.
        num_sampled: Further ones to evaluate, drawn from the space's prior.
        seed: Of those.

    Raises:
        RankingError: The method ranks by ``evaluate`` alone, and there is none.
        ValueError: Architectures are to be sampled, and there is no ``evaluate``.
    """
    if evaluate is None and num_sampled:
        raise ValueError(f"num_sampled is {num_sampled} without evaluate= to score them by")
    scores: dict[Architecture, float] = {}

    def remembered(architecture: Architecture) -> float:
        assert evaluate is not None
        if architecture not in scores:
            scores[architecture] = float(evaluate(architecture))
        return scores[architecture]

    derived = mutator.derive(num, None if evaluate is None else remembered)
    if evaluate is None:
        scores = {architecture: -float(rank) for rank, architecture in enumerate(derived)}
    space, rng = mutator.supernet.space, np.random.default_rng(seed)
    sampled = [mutator.supernet.sample(rng) for _ in range(num_sampled)]
    for architecture in distinct(space, [*scores, *sampled]):
        if architecture not in scores:
            remembered(architecture)
    pairs = [(score, architecture) for architecture, score in scores.items()]
    probabilities = _learned(mutator) or frequencies(space, Prior(pairs).scores)
    return Prior(pairs, probabilities)


def _learned(mutator: Mutator) -> dict[str, dict[Choice, float]]:
    """Of each decision the derivable choices; the others come last."""
    supernet = mutator.supernet
    found: dict[str, dict[Choice, float]] = {}
    for label, probabilities in mutator.probabilities().items():
        gate = supernet.gates.get(label)
        if gate is None or gate.verb == "inputs":
            choices: Sequence[Choice] = supernet.space.decisions[label].choices or ()
        else:
            choices = gate.choices[: gate.num_derivable]
        found[label] = dict(zip(choices, probabilities.tolist(), strict=False))
    return found


def frequencies(
    space: SearchSpace, scores: Sequence[tuple[float, Architecture]]
) -> dict[str, dict[Choice, float]]:
    """Of each decision, how often the best tenth takes each choice, and one more.

    Args:
        space: Where the architectures are from.
        scores: Best first.
    """
    best = [architecture for _, architecture in scores[: math.ceil(len(scores) / 10)]]
    found: dict[str, dict[Choice, float]] = {}
    for label, decision in space.decisions.items():
        if decision.choices is not None:
            taken = [architecture[label] for architecture in best if label in architecture]
            found[label] = {choice: 1.0 + taken.count(choice) for choice in decision.choices}
    return found
