"""Every registered mutator is held to the shipped contract, whatever its name."""

import inspect

import pytest

from nas_plugins import mutators
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.mutators import REGISTRY, Mutator, MutatorNameError, create, mutator_class
from nas_plugins.testing.mutators import MutatorContract, cell_space

FAST = {"arch_lr": 0.1, "num_candidates": 200, "num_samples": 5, "warmup": 0.0, "hidden_size": 8}
"""Options that let a mutator learn within a test; each is given to whoever takes it."""

CASES = {
    **{name: (name, {}) for name in sorted(REGISTRY)},
    "darts_second_order": ("darts", {"order": 2}),
    "darts_exact": ("darts", {"order": "exact"}),
    "proxyless_reinforce": ("proxyless", {"method": "reinforce"}),
}


def fast(name, **options):
    known = inspect.signature(mutator_class(name)).parameters
    chosen = {option: value for option, value in FAST.items() if option in known}
    return lambda supernet, seed: create(name, supernet, seed=seed, **{**chosen, **options})


@pytest.mark.parametrize("case", CASES)
class TestRegistered(MutatorContract):
    @pytest.fixture
    def mutator(self, case):
        name, options = CASES[case]
        return fast(name, **options)


def test_every_public_mutator_is_registered():
    targets = {target.split(":")[1] for target in REGISTRY.values()}
    exported = [getattr(mutators, name) for name in mutators.__all__]
    public = {
        x.__name__
        for x in exported
        if inspect.isclass(x) and issubclass(x, Mutator) and x is not Mutator
    }
    assert public == targets


def test_unknown_names_and_options_are_named():
    supernet = cell_space().supernet()
    with pytest.raises(MutatorNameError, match="unknown mutator 'dart'"):
        create("dart", supernet)
    with pytest.raises(MutatorNameError, match="has no option 'temperature'"):
        create("darts", supernet, temperature=1)
    with pytest.raises(MutatorNameError, match="cannot be loaded"):
        create("nas_plugins.mutators:Nothing", supernet)


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"uniform"}))
def test_nothing_to_search(name):
    space = cell_space()
    supernet = space.supernet(fixed={label: d.default for label, d in space.decisions.items()})
    with pytest.raises(UnsupportedSpaceError, match="nothing to search"):
        create(name, supernet)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("darts", "epsilon", 0.0),
        ("enas", "skip_target", 1.0),
        ("enas", "temperature", 0.0),
        ("pc_darts", "warmup", 15),
    ],
)
def test_options_out_of_their_range_are_named(name, option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}; expected"):
        mutators.create(name, cell_space().supernet(), **{option: value})


def test_a_state_of_another_method_is_named():
    darts, gdas = (mutators.create(n, cell_space().supernet()) for n in ("darts", "gdas"))
    with pytest.raises(UnsupportedSpaceError, match="search by DARTS, and this is one by GDAS"):
        gdas.load_state_dict(darts.state_dict())
