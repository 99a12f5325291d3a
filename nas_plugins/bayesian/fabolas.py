"""Bayesian optimisation that trains on parts of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.cost_aware import InverseCostWeightedUtility
from botorch.acquisition.max_value_entropy_search import (
    qMultiFidelityLowerBoundMaxValueEntropy,
)
from botorch.acquisition.utils import project_to_target_fidelity
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.kernels.downsampling import DownsamplingKernel
from gpytorch.kernels import ConstantKernel, Kernel, LinearKernel
from gpytorch.models import ExactGP
from torch import Tensor

from nas_plugins.architecture import Architecture
from nas_plugins.bayesian.acquisition import seeded
from nas_plugins.bayesian.gaussian_process import GaussianProcess
from nas_plugins.bayesian.inputs import Inputs
from nas_plugins.bayesian.surrogate import kernel_of, process
from nas_plugins.decision import ALWAYS
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Score
from nas_plugins.strategies.options import check_at_least

__all__ = ["Fabolas"]


class Fabolas(GaussianProcess):
    """Chooses the share of the data too, by what is learned of the whole for each second.

    Klein et al. 2017, arXiv:1605.07079 (FABOLAS). The share of the data is a decision of the
    space, a number up to 1; an objective trains on that share and returns two objectives,
    the score and the seconds it took, to be maximised and minimised. A process over
    architecture and share, whose covariance over shares is that of ``(1, (1 - s)^p)``,
    models the score; another, over ``(1, s)``, the logarithm of the seconds; s is the share on
    its decision's own scale, so on a logarithmic one seconds are a power of the share. What
    is proposed has the largest information about the best score at full data for each
    second. :meth:`recommend` is the incumbent at full data.

    Deviations: the information is that about the maximum's value (Takeno et al. 2020,
    arXiv:1901.08275, in the closed form of Moss et al. 2021, arXiv:2102.03324) and not about its
    place. The time that the search itself takes is given, where the paper measures it: a
    proposal may depend on the history alone. The power p is learned, where the paper has 2,
    and the two parts of the covariance over shares are independent (BoTorch's
    ``DownsamplingKernel``).

    A score without seconds costs its share. In a space without such a decision this is
    :class:`GaussianProcess`.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        fidelity: The decision that is the share of the data.
        num_initial: Proposals before the first model, at shares of 1/64, 1/32, 1/16 and 1/8
            in turn, as far as the space has them (paper: 10).
        max_observations: That the processes are fitted to.
        refit_every: See :class:`GaussianProcess`.
        overhead_s: Seconds that each training costs beyond its own, for the proposal at least;
            without them trainings of milliseconds would seem to be for nothing.

    Raises:
        ValueError: An option out of its range.
        UnsupportedSpaceError: ``fidelity`` is not a range of numbers in (0, 1], or exists under
            a condition only.

    Example:
        >>> shares = ConfigurationSpace(
        ...     {"data_fraction": Float("data_fraction", (1 / 64, 1.0), log=True)}
        ... )  # doctest: +SKIP
        >>> strategy = Fabolas(space.join(shares))  # doctest: +SKIP
    """

    multi_objective: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        fidelity: str = "data_fraction",
        num_initial: int = 10,
        max_observations: int = 400,
        refit_every: int = 5,
        overhead_s: float = 0.1,
    ) -> None:
        check_at_least(0, overhead_s=overhead_s)
        self.overhead_s = overhead_s
        decision = space.decisions.get(fidelity)
        if decision is not None and not (
            decision.choices is None
            and 0 < decision.low < decision.high <= 1
            and decision.condition == ALWAYS
        ):
            raise UnsupportedSpaceError(
                f"decision {fidelity!r} is {decision.describe()}, there "
                f"{decision.describe_condition()}; expected a range of numbers in (0, 1], the "
                "share of the data, without a condition"
            )
        self.fidelity = fidelity if decision is not None else None
        super().__init__(
            space,
            seed=seed,
            num_initial=num_initial,
            max_observations=max_observations,
            refit_every=refit_every,
        )

    def recommend(self) -> Architecture:
        """Of what was evaluated, the best at full data by the model.

        Raises:
            ValueError: Too few scores for a model.
        """
        if not self.has_model:
            raise ValueError(
                f"{len(self._scored)} scores; expected {self.num_initial} for a recommendation"
            )
        whole = [self._at(o.architecture, 1.0) for o in self._scored]
        means, _ = self.predict(whole)
        return whole[int(np.argmax(np.round(means, 9)))]

    def _check_number(self, number: int, architecture: Architecture, score: Score) -> None:
        """The seconds may be absent."""

    def _make_inputs(self, space: SearchSpace) -> Inputs:
        return Inputs(space, last=self.fidelity)

    def _begin(self, number: int, rng: np.random.Generator) -> Architecture:
        return self._at(self.space.sample(rng), 2.0 ** (number % 4 - 6))

    def _choose(self, rng: np.random.Generator, place: int) -> Architecture:
        if self.fidelity is None:
            return super()._choose(rng, place)
        somewhere = [self._at(self.space.sample(rng), 1.0) for _ in range(200)]
        seed = int(rng.integers(2**31))
        value = self._information(self.inputs.rows(somewhere), seed)
        return self._climb(value, rng, place, num_random=200, num_near=100, rounds=2)

    def _at(self, architecture: Architecture, share: float) -> Architecture:
        """The same at another share of the data, as near as the space has it."""
        if self.fidelity is None:
            return architecture
        decision = self.space.decisions[self.fidelity]
        near = min(max(share, decision.low), decision.high)
        return self.space.complete({**architecture, self.fidelity: near})

    # -- the models ---------------------------------------------------------------------

    def _process(self, rows: Tensor, scores: Tensor) -> ExactGP:
        if self.fidelity is None:
            return super()._process(rows, scores)
        last = rows.shape[1] - 1
        return self._product(rows, scores, DownsamplingKernel(active_dims=(last,)))

    def _seconds(self) -> ExactGP:
        """Of the logarithm of seconds."""
        return self._learned("seconds", self._process_of_seconds, lambda o: math.log(self._cost(o)))

    def _process_of_seconds(self, rows: Tensor, seconds: Tensor) -> ExactGP:
        last = rows.shape[1] - 1
        return self._product(rows, seconds, ConstantKernel() + LinearKernel(active_dims=(last,)))

    def _product(self, rows: Tensor, values: Tensor, over_shares: Kernel) -> ExactGP:
        """A process whose covariance is that of architectures times one over shares."""
        columns = range(rows.shape[1] - 1)
        kernel = over_shares if not columns else self._of_columns(columns) * over_shares
        return process(rows, values, kernel)

    def _of_columns(self, columns: Sequence[int]) -> Kernel:
        return kernel_of(columns, self.inputs.categorical)

    def _cost(self, observation: Observation) -> float:
        """Seconds, or what stands for them."""
        if isinstance(observation.score, tuple) and len(observation.score) > 1:
            return max(-observation.score[1], 1e-6)
        assert self.fidelity is not None
        return float(observation.architecture[self.fidelity])

    def _information(self, somewhere: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
        """Function of rows: information about the best at full data, for each second."""
        seconds, last = self._seconds(), somewhere.shape[1] - 1
        timed = any(isinstance(o.score, tuple) and len(o.score) > 1 for o in self._scored)
        overhead = self.overhead_s if timed else 0.0

        def cost(rows: Tensor) -> Tensor:
            mean: Tensor = seconds.posterior(rows).mean
            return mean.exp() + overhead

        def make() -> AcquisitionFunction:
            return qMultiFidelityLowerBoundMaxValueEntropy(
                self.model,
                candidate_set=somewhere,
                project=lambda rows: project_to_target_fidelity(
                    rows, d=last + 1, target_fidelities={last: 1.0}
                ),
                cost_aware_utility=InverseCostWeightedUtility(GenericDeterministicModel(cost)),
            )

        return seeded(make, seed)
