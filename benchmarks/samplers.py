"""Samplers by name: every registered strategy of this package, and Optuna's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from nas_plugins import SearchSpace
from nas_plugins.optuna import ArchitectureSampler
from nas_plugins.strategies import BAYESIAN, REGISTRY, create

OPTUNA: dict[str, Callable[..., BaseSampler]] = {
    "optuna_random": optuna.samplers.RandomSampler,
    "tpe": optuna.samplers.TPESampler,
    "optuna_nsga2": optuna.samplers.NSGAIISampler,
    "optuna_gp": optuna.samplers.GPSampler,
}
NAMES = [*REGISTRY, *BAYESIAN, *OPTUNA]


def make_sampler(name: str, space: SearchSpace, seed: int, **options: Any) -> BaseSampler:
    """A sampler; ``options`` go to a strategy of this package.

    Raises:
        SystemExit: Unknown name; the message lists the known ones.
    """
    if name in OPTUNA:
        return OPTUNA[name](seed=seed)
    if name not in NAMES:
        raise SystemExit(f"unknown sampler {name!r}; expected some of {','.join(NAMES)}")
    return ArchitectureSampler(create(name, space, seed=seed, **options))
