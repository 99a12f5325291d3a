"""Every registered space is held to the shipped contract, whatever its name."""

import importlib
import inspect
import pkgutil

import pytest
from ConfigSpace import ConfigurationSpace

from nas_plugins import SearchSpace, spaces
from nas_plugins.spaces import REGISTRY
from nas_plugins.testing.spaces import SpaceContract, load_tiny


@pytest.mark.parametrize("name", sorted(REGISTRY))
class TestRegistered(SpaceContract):
    @pytest.fixture
    def space(self, name):
        return load_tiny(name)


class TestWithoutNetwork(SpaceContract):
    @pytest.fixture
    def space(self):
        return SearchSpace(ConfigurationSpace({"op": ["a", "b"], "n": (1, 9), "rate": (0.1, 1.0)}))


def public_modules():
    return {
        module.name
        for module in pkgutil.iter_modules(spaces.__path__)
        if not module.name.startswith("_")
    }


def test_every_module_of_a_space_is_registered():
    assert public_modules() == {target.split(":")[0] for target in REGISTRY.values()}


@pytest.mark.parametrize("module", sorted(public_modules()))
def test_every_function_that_returns_a_space_is_registered(module):
    namespace = importlib.import_module(f"nas_plugins.spaces.{module}")
    makers = {
        name
        for name in namespace.__all__
        if inspect.isfunction(function := getattr(namespace, name))
        and inspect.signature(function, eval_str=True).return_annotation is SearchSpace
    }
    assert {f"{module}:{name}" for name in makers} <= set(REGISTRY.values())
    assert makers
