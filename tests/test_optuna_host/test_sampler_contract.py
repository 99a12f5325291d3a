"""Optuna's own suites, for every ready sampler, with and without a space."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from ConfigSpace import ConfigurationSpace
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

import nas_plugins.optuna
from nas_plugins import SearchSpace
from nas_plugins.optuna import ArchitectureSampler
from nas_plugins.strategies import RandomSearch, strategy_class

optuna.logging.set_verbosity(optuna.logging.ERROR)

READY = nas_plugins.optuna._READY
SEVERAL = [name for name, key in READY.items() if strategy_class(key).multi_objective]
SINGLE = [name for name in READY if name not in SEVERAL]
SPACE = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "depth": (1, 4)}))


class SingleObjective(RandomSearch):
    """Stands for the strategies that understand one objective."""

    multi_objective = False


def _maker(name: str, space: SearchSpace | None) -> Callable[[], BaseSampler]:
    return lambda: getattr(nas_plugins.optuna, name)(space, seed=0)


@pytest.fixture(params=[None, SPACE], ids=["follows_study", "own_space"])
def space(request: pytest.FixtureRequest) -> SearchSpace | None:
    return request.param


@pytest.mark.parametrize("name", READY)
class TestBasic(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self, name: str, space: SearchSpace | None) -> Callable[[], BaseSampler]:
        return _maker(name, space)


@pytest.mark.parametrize("name", READY)
class TestRelative(RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self, name: str) -> Callable[[], BaseSampler]:
        return _maker(name, None)


@pytest.mark.parametrize("name", SEVERAL)
class TestSeveralObjectives(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, name: str, space: SearchSpace | None) -> Callable[[], BaseSampler]:
        return _maker(name, space)


@pytest.mark.parametrize("name", [*SINGLE, "an example"])
class TestOneObjective(SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self, name: str, space: SearchSpace | None) -> Callable[[], BaseSampler]:
        if name in SINGLE:
            return _maker(name, space)
        return lambda: ArchitectureSampler(SingleObjective, space)
