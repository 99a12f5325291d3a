"""HpBandSter's master with one of our strategies in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Union

from hpbandster.optimizers.iterations.successivehalving import SuccessiveHalving

from nas_plugins.hpbandster.compat import MendedMaster
from nas_plugins.hpbandster.generator import ArchitectureConfigGenerator, Observe
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Strategy

__all__ = ["ArchitectureOptimizer", "Schedule"]

Schedule = Literal["hyperband", "successive_halving", "full"]


class ArchitectureOptimizer(MendedMaster):
    """A strategy proposes, Hyperband's brackets decide how long each proposal is trained.

    Li et al. 2018, arXiv:1603.06560, algorithm 1. Bracket sizes are those of HpBandSter,
    whose first rung has ``floor(rungs / (s + 1)) * eta**s`` members where the paper rounds
    up. Deviation from HpBandSter: the number of rungs is rounded safely, so that no rung is
    lost when, say, ``log(243) / log(3)`` comes out as 4.999….

    Args:
        strategy: A strategy or its name.
        space: Where architectures come from; default: the strategy's own space.
        seed: Of a strategy given by name.
        strategy_options: Of a strategy given by name.
        schedule: ``"hyperband"``: an iteration is a bracket, one after another from the
            most to the least aggressive; ``"successive_halving"``: always the most
            aggressive; ``"full"``: an iteration is one run at ``max_budget``, as in any
            other tuner.
        observe: Which runs the strategy is told, see :class:`ArchitectureConfigGenerator`.
        min_budget, max_budget: Smallest and largest budget, in the worker's unit (epochs,
            unless it was told otherwise).
        eta: Of ``eta`` members of a rung one is promoted, to ``eta`` times the budget.
        master: Options of HpBandSter's ``Master``: ``run_id`` (required), ``nameserver``,
            ``nameserver_port``, ``host``, ``working_directory``, ``result_logger``,
            ``previous_result``, ….

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        strategy: Union[Strategy, str] = "regularized_evolution",
        space: SearchSpace | None = None,
        seed: int = 0,
        strategy_options: Mapping[str, Any] | None = None,
        schedule: Schedule = "hyperband",
        observe: Observe = "all",
        min_budget: float = 1,
        max_budget: float = 9,
        eta: float = 3,
        **master: Any,
    ) -> None:
        if not (0 < min_budget <= max_budget < math.inf and eta >= 2):
            raise ValueError(
                f"min_budget is {min_budget}, max_budget {max_budget} and eta {eta}; expected "
                "0 < min_budget <= max_budget and eta >= 2"
            )
        if schedule not in ("hyperband", "successive_halving", "full"):
            raise ValueError(
                f"schedule is {schedule!r}; expected 'hyperband', 'successive_halving' or 'full'"
            )
        max_budget, eta = float(max_budget), float(eta)
        min_budget = max_budget if schedule == "full" else float(min_budget)
        generator = ArchitectureConfigGenerator(
            strategy,
            space,
            seed=seed,
            strategy_options=strategy_options,
            max_budget=max_budget,
            observe=observe,
        )
        num_rungs = int(math.log(max_budget / min_budget, eta) + 1e-9) + 1
        self.eta = eta
        self.max_budget = max_budget
        self.schedule = schedule
        self.budgets = [max_budget / eta**i for i in reversed(range(num_rungs))]
        super().__init__(config_generator=generator, **master)
        self.config.update(
            {
                "eta": eta,
                "min_budget": min_budget,
                "max_budget": max_budget,
                "budgets": self.budgets,
                "max_SH_iter": num_rungs,
                "schedule": schedule,
                "strategy": type(generator.strategy).__name__,
                "seed": generator.strategy.seed,
            }
        )

    def get_next_iteration(
        self, iteration: int, iteration_kwargs: Mapping[str, Any] | None = None
    ) -> SuccessiveHalving:
        """The next bracket."""
        rungs = len(self.budgets)
        skipped = iteration % rungs if self.schedule == "hyperband" else 0
        remaining = rungs - skipped
        first = rungs // remaining * self.eta ** (remaining - 1)
        return SuccessiveHalving(
            HPB_iter=iteration,
            num_configs=[max(int(first // self.eta**i), 1) for i in range(remaining)],
            budgets=self.budgets[skipped:],
            config_sampler=self.config_generator.get_config,
            **(iteration_kwargs or {}),
        )
