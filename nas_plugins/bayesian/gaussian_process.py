"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from botorch.models.model import Model
from gpytorch.models import ExactGP
from torch import Tensor

from nas_plugins.architecture import Architecture
from nas_plugins.bayesian.acquisition import ACQUISITIONS, acquisition, best_place
from nas_plugins.bayesian.candidates import climb
from nas_plugins.bayesian.inputs import Inputs
from nas_plugins.bayesian.surrogate import conditioned, fitted, kernel_of, process, tamed
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["GaussianProcess", "number_of"]

_SOMEWHERE = 200
"""Random architectures over which the maximum is sampled."""


class GaussianProcess(Strategy):
    """Proposes where a Gaussian process expects the most, over mixed and conditional spaces.

    Snoek, Larochelle & Adams 2012, arXiv:1206.2944; with ``acquisition="mes"`` entropy search
    in the form of Wang & Jegelka 2017, arXiv:1703.01968. Matern 5/2 with a length scale for
    each number, a Hamming kernel for categories; the acquisition function is maximised over
    random architectures and variations of the best, none of which was evaluated before.

    Scores at several budgets are not mixed: the largest budget with ``num_initial`` scores
    counts (Falkner et al. 2018, arXiv:1807.01774, section 3).

    Deviations: hyper-parameters of the kernel are those of the largest marginal likelihood
    with BoTorch's priors, where Snoek et al. integrate over them. Improvement is over the
    best *mean* at an observed architecture, because scores are noisy. Of proposals that are
    asked for at once each takes the next best candidate; what is pending is not integrated
    over. A failed evaluation counts as the worst score, else the best guess would stay beside
    it, and so does a score more than 100 interquartile ranges below the lower quartile: one
    training that diverged would leave no difference between the others.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        acquisition: ``ei``, ``pi``, ``ucb`` or ``mes``; see
            :data:`nas_plugins.bayesian.acquisition.ACQUISITIONS`.
        num_initial: Random proposals, until so many have a score.
        max_observations: That the process is fitted to; if there are more, half are the
            latest, the rest the best of the others. A fit to 400 takes seconds.
        refit_every: After so many further scores the kernel's hyper-parameters are fitted
            anew, counted from ``num_initial``; in between the process is conditioned on
            every score with those it has. Most of an ask's time goes into the fits.

    Raises:
        ValueError: An option out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        acquisition: str = "ei",
        num_initial: int = 10,
        max_observations: int = 400,
        refit_every: int = 5,
    ) -> None:
        if acquisition not in ACQUISITIONS:
            raise ValueError(
                f"acquisition is {acquisition!r}; expected one of {sorted(ACQUISITIONS)}"
            )
        if num_initial < 2 or max_observations < num_initial:
            raise ValueError(
                f"num_initial is {num_initial} and max_observations {max_observations}; "
                "expected 2 <= num_initial <= max_observations"
            )
        if refit_every < 1:
            raise ValueError(f"refit_every is {refit_every}; expected at least 1")
        self.acquisition = acquisition
        self.num_initial = num_initial
        self.max_observations = max_observations
        self.refit_every = refit_every
        self.inputs = self._make_inputs(space)
        super().__init__(space, seed=seed)

    def __getstate__(self) -> dict[str, Any]:
        # Columns are functions, and the model is fitted again where it is needed.
        return {**self.__dict__, "inputs": None, "_model": None, "_fits": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.inputs = self._make_inputs(self.space)

    def _make_inputs(self, space: SearchSpace) -> Inputs:
        return Inputs(space)

    def _reset(self) -> None:
        self._observed: list[Observation] = []
        self._scored: list[Observation] = []
        self._known: set[Hashable] = set()
        self._model: Model | None = None
        self._fits: dict[str, tuple[Hashable, ExactGP]] = {}

    def _observe(self, observation: Observation) -> None:
        self._known.add(self.space.canonical(observation.architecture))
        self._observed.append(observation)
        if observation.score is not None:
            self._scored.append(observation)
        self._model = None

    def _draw(self, number: int, attempt: int) -> Architecture:
        if not self.has_model:
            return self._begin(number, np.random.default_rng((self.seed, number, attempt)))
        # All that are asked for with one history look at the same candidates.
        rng = np.random.default_rng((self.seed, self.num_told))
        return self._choose(rng, self._num_pending + attempt)

    def _propose(self, number: int, rng: np.random.Generator) -> Architecture:
        raise NotImplementedError("see _draw, which knows the attempt as well")

    def _begin(self, number: int, rng: np.random.Generator) -> Architecture:
        """What is proposed before there is a model."""
        return self.space.sample(rng)

    def _choose(self, rng: np.random.Generator, place: int) -> Architecture:
        """What the model proposes: its best candidate, or the one in a later place."""
        somewhere = self.inputs.rows(self.space.sample(rng) for _ in range(_SOMEWHERE))
        seed = int(rng.integers(2**31))
        value = acquisition(self.acquisition, self.model, self.incumbent, somewhere, seed)
        return self._climb(value, rng, place)

    def _climb(
        self, value: Callable[[Tensor], Tensor], rng: np.random.Generator, place: int, **sizes: int
    ) -> Architecture:
        """The candidate in a place by a function of rows; at random if there is nothing new."""

        def evaluate(architectures: Sequence[Architecture]) -> np.ndarray:
            return value(self.inputs.rows(architectures)).numpy()

        best = sorted(self._used(), key=lambda o: -number_of(o))[:10]
        parents = [observation.architecture for observation in best]
        known = frozenset(self._known)
        found, values = climb(self.space, evaluate, parents, known, rng, **sizes)
        return found[best_place(values, place)] if found else self.space.sample(rng)

    # -- the model ----------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The process, conditioned on what was told; of scores in their own units."""
        if self._model is None:
            self._model = self._learned("score", self._process, number_of, tamed)
        return self._model

    def _process(self, rows: Tensor, scores: Tensor) -> ExactGP:
        kernel = kernel_of(range(rows.shape[1]), self.inputs.categorical)
        return process(rows, scores, kernel)

    def _learned(
        self,
        name: str,
        make: Callable[[Tensor, Tensor], ExactGP],
        number: Callable[[Observation], float],
        complete: Callable[[Tensor], Tensor] | None = None,
    ) -> ExactGP:
        """A process of some number of the observations.

        Its hyper-parameters are a function of the history alone, whenever they were fitted.

        Args:
            name: What the number is.
            make: The process of rows and numbers.
            number: Of an observation with a score.
            complete: Of all numbers, those of failures being NaN; without it failures are left
                out.
        """
        counted = self._counted()
        if complete is None:
            counted = [o for o in counted if o.score is not None]
        scored = [i for i, o in enumerate(counted) if o.score is not None]
        since = max(0, len(scored) - self.num_initial) % self.refit_every
        before = counted[: scored[len(scored) - since - 1] + 1]

        def made_of(observations: list[Observation]) -> ExactGP:
            used = self._kept(observations)
            numbers = [math.nan if o.score is None else number(o) for o in used]
            values = torch.tensor(numbers, dtype=torch.float64)
            rows = self.inputs.rows(o.architecture for o in used)
            return make(rows, values if complete is None else complete(values))

        key = counted[0].budget, len(scored) - since
        if name not in self._fits or self._fits[name][0] != key:
            self._fits[name] = key, fitted(lambda: made_of(before))
        fit = self._fits[name][1]
        return fit if len(before) == len(counted) else conditioned(lambda: made_of(counted), fit)

    @property
    def has_model(self) -> bool:
        """Whether enough scores were told."""
        return len(self._scored) >= self.num_initial

    def predict(self, architectures: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of scores without their noise, each ``(architectures,)``."""
        with torch.no_grad():
            posterior = self.model.posterior(self.inputs.rows(architectures))
        return posterior.mean[:, 0].numpy(), posterior.variance[:, 0].sqrt().numpy()

    @property
    def incumbent(self) -> Tensor:
        """The best mean at an observed architecture."""
        rows = self.inputs.rows(o.architecture for o in self._used())
        with torch.no_grad():
            return self.model.posterior(rows).mean.max()

    def _used(self) -> list[Observation]:
        """The scores that the process is conditioned on."""
        return [o for o in self._kept(self._counted()) if o.score is not None]

    def _counted(self) -> list[Observation]:
        """Observations at the largest budget that has enough scores."""
        budgets = Counter(_budget_of(observation) for observation in self._scored)
        enough = [budget for budget, number in budgets.items() if number >= self.num_initial]
        chosen = max(enough) if enough else max(budgets, key=lambda budget: budgets[budget])
        return [o for o in self._observed if _budget_of(o) == chosen]

    def _kept(self, observations: list[Observation]) -> list[Observation]:
        """The latest and the best, where there are too many."""
        if len(observations) <= self.max_observations:
            return observations
        half = self.max_observations // 2
        older = sorted(
            observations[:-half], key=lambda o: math.inf if o.score is None else -number_of(o)
        )
        return older[: self.max_observations - half] + observations[-half:]


def _budget_of(observation: Observation) -> float:
    return math.inf if observation.budget is None else observation.budget


def number_of(observation: Observation) -> float:
    """The score, or the first of several."""
    score = observation.score
    assert score is not None
    return score[0] if isinstance(score, tuple) else score
