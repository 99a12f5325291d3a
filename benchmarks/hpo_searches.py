"""Searches of this package and of its hosts, replayed on a table in simulated time.

Named as in :mod:`benchmarks.samplers` they train at full length only, within an Optuna study.
Further names:

- ``hpbandster_random``, ``hpbandster_hyperband``, ``hpbandster_bohb``: HpBandSter's own optimisers,
  with their generators of configurations and their schedules; only their network is left out.
- ``hyperband+NAME``: HpBandSter's schedule of brackets with a strategy of this package.
- ``pruner+NAME``: an Optuna study with its ``HyperbandPruner``.

With one length of training brackets have one rung, and HyperBand is random search. One worker;
asking takes no time.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
from ConfigSpace import ConfigurationSpace
from hpbandster.core.dispatcher import Job
from hpbandster.core.master import Master
from hpbandster.optimizers import BOHB, HyperBand, RandomSearch

from benchmarks.hpo_tables import Table
from benchmarks.samplers import make_sampler
from nas_plugins import Architecture
from nas_plugins.hpbandster import ArchitectureConfigGenerator
from nas_plugins.hpbandster.ordinals import GeneratorOfPlaces, with_places
from nas_plugins.optuna import suggest

__all__ = ["HPBANDSTER", "Trace", "search"]

HPBANDSTER = {
    "hpbandster_random": RandomSearch,
    "hpbandster_hyperband": HyperBand,
    "hpbandster_bohb": BOHB,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "regularized_evolution": {"population_size": 10, "sample_size": 3},
}
"""Everything else runs with its defaults."""

Trace = list[tuple[float, float]]
"""Simulated seconds at which the incumbent changed, and its regret."""


class Trainings:
    """Trains by a table until a time is up; the incumbent is the best of full length.

    Attributes:
        is_over: Whether the time is up.
        trace: See :data:`Trace`.
    """

    def __init__(self, table: Table, seed: int, until_s: float) -> None:
        self.table = table
        self.trace: Trace = []
        self._rng = np.random.default_rng(seed)
        self._until_s = until_s
        self._spent_s = 0.0
        self._best = -np.inf

    @property
    def is_over(self) -> bool:
        return self._spent_s > self._until_s

    def train(self, architecture: Architecture, epochs: int) -> float:
        """The score, higher is better."""
        row = self.table.row(architecture)
        score, seconds = self.table.train(row, epochs, self._rng)
        self._spent_s += seconds
        if epochs == self.table.epochs[-1] and score > self._best:
            self._best = score
            self.trace.append((self._spent_s, self.table.regret(row)))
        return score


def search(name: str, table: Table, seed: int, until_s: float) -> Trace:
    """One search."""
    trainings = Trainings(table, seed, until_s)
    if name in HPBANDSTER:
        _run_optimizer(_own_optimizer(name, table, seed), trainings)
    elif name.startswith("hyperband+"):
        strategy = name.partition("+")[2]
        _run_optimizer(_brackets(strategy, table, seed), trainings)
    else:
        _run_study(name, seed, trainings)
    return trainings.trace


# -- Optuna -----------------------------------------------------------------------------


def _run_study(name: str, seed: int, trainings: Trainings) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, pruned = trainings.table, name.startswith("pruner+")
    inner = name.removeprefix("pruner+")
    sampler = make_sampler(inner, table.space, seed, **OPTIONS.get(inner, {}))
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    lengths = table.epochs[-1:]
    if pruned:
        pruner = optuna.pruners.HyperbandPruner(
            min_resource=table.epochs[0],
            max_resource=table.epochs[-1],
            reduction_factor=_eta(table),
        )
        lengths = table.epochs
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    while not trainings.is_over:
        trial = study.ask()
        architecture = suggest(trial, table.space)
        for epochs in lengths:
            score = trainings.train(architecture, epochs)
            trial.report(score, epochs)
            if epochs != lengths[-1] and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, score)


# -- HpBandSter -------------------------------------------------------------------------


class _Unconnected(Master):
    """A master without a dispatcher: what it would have run is run here, one after another."""

    def __init__(self, config_generator: Any, **_: Any) -> None:
        self.config_generator = config_generator
        self.config: dict[str, Any] = {}
        self.iterations: list[Any] = []

    def runs(self) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """The next run whenever the last has been booked; as in ``Master.run``."""
        while True:
            for iteration in self.iterations:
                run = None if iteration.is_finished else iteration.get_next_run()
                if run is not None:
                    yield run
                    break
            else:
                kwargs = {"result_logger": None}
                self.iterations.append(self.get_next_iteration(len(self.iterations), kwargs))

    def book(self, run: tuple[Any, dict[str, Any], float], loss: float) -> None:
        """As ``Master.job_callback``."""
        identity, config, budget = run
        job = Job(identity, config=config, budget=budget)
        job.result = {"loss": loss}
        self.iterations[identity[0]].register_result(job)
        self.config_generator.new_result(job)


def _run_optimizer(master: _Unconnected, trainings: Trainings) -> None:
    table = trainings.table
    for run in master.runs():
        if trainings.is_over:
            return
        _, config, budget = run
        # Budgets are powers of eta, so that 12 epochs may be 12.5.
        epochs = table.epochs[-1] if budget > 0.9 * table.epochs[-1] else table.epochs[0]
        master.book(run, 1.0 - trainings.train(table.space.validate(config), epochs))


def _own_optimizer(name: str, table: Table, seed: int) -> _Unconnected:
    # A kernel of width zero divides by it, and says so at length.
    logging.getLogger("hpbandster").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    own = copy.deepcopy(table.space.config_space)  # sampling changes its generator
    config_space, choices = with_places(own)
    config_space.seed(seed)
    np.random.seed(seed)  # what BOHB draws from
    master = _unconnected(HPBANDSTER[name], config_space, table)
    master.config_generator = GeneratorOfPlaces(master.config_generator, choices)
    return master


def _brackets(strategy: str, table: Table, seed: int) -> _Unconnected:
    master = _unconnected(HyperBand, table.space.config_space, table)
    master.config_generator = ArchitectureConfigGenerator(
        strategy,
        table.space,
        seed=seed,
        strategy_options=OPTIONS.get(strategy, {}),
        max_budget=float(table.epochs[-1]),
    )
    return master


def _unconnected(optimizer: type, config_space: ConfigurationSpace, table: Table) -> _Unconnected:
    make: Callable[..., _Unconnected] = type(optimizer.__name__, (optimizer, _Unconnected), {})
    shortest, longest = table.epochs[0], table.epochs[-1]
    return make(configspace=config_space, min_budget=shortest, max_budget=longest, eta=_eta(table))


def _eta(table: Table) -> int:
    """So that a table with two lengths of training has brackets of two rungs and of one."""
    return max(2, table.epochs[-1] // table.epochs[0])
