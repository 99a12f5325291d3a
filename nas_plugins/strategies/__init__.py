"""Search strategies: ask for an architecture, tell its score; no host, no training.

Strategies are registered by name, which is how the command line, NNI configs and the
contract suites find them. :func:`create` makes one from its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_plugins.errors import NasPluginsError
from nas_plugins.registry import Registry
from nas_plugins.space import SearchSpace

if TYPE_CHECKING:
    from nas_plugins.strategies.base import Observation, Score, Strategy
    from nas_plugins.strategies.deduplicated import Deduplicated
    from nas_plugins.strategies.grid import GridSearch
    from nas_plugins.strategies.hierarchical_evolution import HierarchicalEvolution
    from nas_plugins.strategies.log_linear_learning import LogLinearLearning
    from nas_plugins.strategies.nsga2 import NSGA2
    from nas_plugins.strategies.particle_swarm import ParticleSwarm
    from nas_plugins.strategies.pnas import PNAS
    from nas_plugins.strategies.ppo import PPO
    from nas_plugins.strategies.predictor import Predictor
    from nas_plugins.strategies.radial_basis import RadialBasis
    from nas_plugins.strategies.random import RandomSearch
    from nas_plugins.strategies.regularized_evolution import RegularizedEvolution
    from nas_plugins.strategies.reinforce import Reinforce
    from nas_plugins.strategies.supernet_prior import SupernetPrior

__all__ = [
    "NSGA2",
    "BAYESIAN",
    "PNAS",
    "PPO",
    "REGISTRY",
    "Deduplicated",
    "GridSearch",
    "HierarchicalEvolution",
    "LogLinearLearning",
    "Observation",
    "ParticleSwarm",
    "Predictor",
    "RadialBasis",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "Score",
    "Strategy",
    "StrategyNameError",
    "SupernetPrior",
    "check",
    "create",
    "strategy_class",
]

REGISTRY = {
    "grid": "grid:GridSearch",
    "hierarchical_evolution": "hierarchical_evolution:HierarchicalEvolution",
    "log_linear_learning": "log_linear_learning:LogLinearLearning",
    "nsga2": "nsga2:NSGA2",
    "particle_swarm": "particle_swarm:ParticleSwarm",
    "pnas": "pnas:PNAS",
    "ppo": "ppo:PPO",
    "predictor": "predictor:Predictor",
    "radial_basis": "radial_basis:RadialBasis",
    "random": "random:RandomSearch",
    "regularized_evolution": "regularized_evolution:RegularizedEvolution",
    "reinforce": "reinforce:Reinforce",
    "supernet_prior": "supernet_prior:SupernetPrior",
}
"""Name to ``module:class``, the module relative to this package."""

BAYESIAN = {
    "fabolas": ".bayesian:Fabolas",
    "gp": ".bayesian:GaussianProcess",
    "multi_task": ".bayesian:MultiTask",
    "proportional_improvement": ".bayesian:ProportionalImprovement",
}
"""Strategies of :mod:`nas_plugins.bayesian`, found by name like the others; they need its extra."""

_EXPORTS = {
    **{target.split(":")[1]: target.split(":")[0] for target in REGISTRY.values()},
    "Deduplicated": "deduplicated",
    "Observation": "base",
    "Score": "base",
    "Strategy": "base",
}


class StrategyNameError(NasPluginsError, ValueError):
    """No strategy has this name, or it does not take these options."""


_registry = Registry("strategy", __name__, {**REGISTRY, **BAYESIAN}, StrategyNameError)


def strategy_class(name: str) -> type[Strategy]:
    """The class registered under a name, or at ``package.module:Class`` of the user's own."""
    return _registry.find(name)


def check(name: str, options: Mapping[str, Any]) -> type[Strategy]:
    """The class a name stands for, which takes these options.

    Raises:
        StrategyNameError: Unknown name or option; the message lists the known ones.
    """
    return _registry.check(name, options)


def create(name: str, space: SearchSpace, *, seed: int = 0, **options: Any) -> Strategy:
    """Make a strategy from its name.

    Raises:
        StrategyNameError: Unknown name or option; the message lists the known ones.
    """
    return _registry.create(name, space, seed, options)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
