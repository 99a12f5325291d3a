"""Contract suite that every search space is held to.

Subclass :class:`SpaceContract` in a test module and override the fixture ``space``, made
small enough to build a few hundred of its networks; pytest does the rest::

    class TestMine(SpaceContract):
        input_shape = (3, 8, 8)

        @pytest.fixture
        def space(self):
            return SearchSpace.from_network(Mine, channels=4)

For a space without a network the tests about networks are skipped.
"""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Hashable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ConfigSpace import Configuration
from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.errors import ArchitectureError
from nas_plugins.space import SearchSpace
from nas_plugins.spaces import REGISTRY, load
from nas_plugins.supernet import Supernet

__all__ = ["SpaceContract", "load_tiny"]


def load_tiny(name: str) -> SearchSpace:
    """A registered space under the options ``TINY`` of its module, if it has any."""
    module = importlib.import_module(f"nas_plugins.spaces.{REGISTRY[name].split(':')[0]}")
    return load(name, **getattr(module, "TINY", {}))


class SpaceContract:
    """What every space must hold; see the module's docstring for how to use it."""

    input_shape: ClassVar[tuple[int, ...]] = (3, 8, 8)
    """Of one input to the space's networks."""

    num_samples: ClassVar[int] = 100
    """How many architectures each test draws."""

    max_enumerated: ClassVar[int] = 20_000
    """Spaces up to this size are enumerated."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        """The space under test, small."""
        raise NotImplementedError("override the fixture 'space'")

    @pytest.fixture
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(0)

    @pytest.fixture
    def samples(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        return [space.sample(rng) for _ in range(self.num_samples)]

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        """Threads only slow down networks as small as these."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    # -- architectures ------------------------------------------------------------------

    def test_samples_and_the_default_are_in_the_space(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for architecture in [space.default(), *samples]:
            assert architecture in space
            assert space.validate(architecture) is architecture

    def test_samples_are_legal_to_configspace(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for architecture in samples:
            Configuration(space.config_space, values=dict(architecture)).check_valid_configuration()

    def test_samples_of_configspace_are_in_the_space(self, space: SearchSpace) -> None:
        """As far as ConfigSpace accepts them: it may set a value under an inactive parent."""
        space.config_space.seed(0)
        for configuration in space.config_space.sample_configuration(self.num_samples):
            try:
                configuration.check_valid_configuration()
            except ValueError:
                assert Architecture(dict(configuration)) not in space
            else:
                assert Architecture(dict(configuration)) in space

    def test_json_keeps_architectures(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for architecture in samples:
            again = Architecture.from_json(architecture.to_json())
            assert again == architecture
            assert hash(again) == hash(architecture)
            assert again.id == architecture.id
            assert space.canonical(again) == space.canonical(architecture)
            hash(space.canonical(architecture))

    def test_json_keeps_the_space(self, space: SearchSpace, samples: list[Architecture]) -> None:
        again = SearchSpace.from_json(space.to_json())
        assert list(again.decisions) == list(space.decisions)
        assert all(architecture in again for architecture in samples)
        twin = np.random.default_rng(0)
        assert [again.sample(twin) for _ in samples] == samples

    def test_same_seed_same_samples(self, space: SearchSpace, samples: list[Architecture]) -> None:
        twin = np.random.default_rng(0)
        assert [space.sample(twin) for _ in samples] == samples

    def test_every_choice_is_drawn(self, space: SearchSpace, rng: np.random.Generator) -> None:
        """Of the decisions that always exist and have at most ten choices, all as likely."""
        drawn = [space.sample(rng) for _ in range(300)]
        for label, decision in space.decisions.items():
            everywhere = decision.describe_condition() == "always" and decision.weights is None
            if everywhere and decision.num_choices <= 10:
                seen = {a[label] for a in drawn}
                assert seen == set(decision.all_choices()), label

    def test_mutation_changes_one_decision(
        self, space: SearchSpace, samples: list[Architecture], rng: np.random.Generator
    ) -> None:
        for architecture in samples:
            child = space.mutate(architecture, rng)
            assert child in space
            common = child.keys() & architecture.keys()
            changed = [label for label in common if child[label] != architecture[label]]
            assert len(changed) == 1
            if changed[0] not in _parents(space):
                assert child.keys() == architecture.keys()

    def test_crossover_takes_each_choice_from_a_parent(
        self, space: SearchSpace, samples: list[Architecture], rng: np.random.Generator
    ) -> None:
        for first, second in zip(samples, reversed(samples), strict=True):
            child = space.crossover(first, second, rng)
            assert child in space
            for label in child.keys() & (first.keys() | second.keys()):
                assert child[label] in {p[label] for p in (first, second) if label in p}

    def test_neighbours_differ_by_one_decision(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for architecture in samples[:10]:
            neighbours = list(space.neighbours(architecture))
            assert len(set(neighbours)) == len(neighbours)
            for neighbour in neighbours:
                assert neighbour in space
                common = neighbour.keys() & architecture.keys()
                assert sum(neighbour[label] != architecture[label] for label in common) == 1

    def test_enumeration_is_the_space(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        if space.size > self.max_enumerated:
            pytest.skip(f"the space has {space.size} architectures, too many to enumerate")
        everything = list(space.enumerate())
        assert len(everything) == len(set(everything)) == space.size
        assert set(samples) <= set(everything)
        assert all(architecture in space for architecture in everything)

    def test_encodings_have_one_length_and_tell_apart(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        encoded = {architecture: space.encode(architecture) for architecture in samples}
        assert len({vector.shape for vector in encoded.values()}) == 1
        assert len({vector.tobytes() for vector in encoded.values()}) == len(encoded)
        assert all(np.isfinite(vector).all() for vector in encoded.values())

    def test_bad_architectures_name_their_decision(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for architecture in samples[:5]:
            for label in architecture:
                wrong = architecture.replace(**{label: "no such choice"})
                self._rejects(space, wrong, label)
                missing = {k: v for k, v in architecture.items() if k != label}
                self._rejects(space, Architecture(missing), label)
            for label in space.decisions.keys() - architecture.keys():
                choice = space.decisions[label].default
                self._rejects(space, architecture.replace(**{label: choice}), label)
        self._rejects(space, samples[0].replace(no_such_label=1), "no_such_label")

    @staticmethod
    def _rejects(space: SearchSpace, architecture: Architecture, label: str) -> None:
        assert architecture not in space
        with pytest.raises(ArchitectureError) as caught:
            space.validate(architecture)
        assert repr(label) in str(caught.value)

    def test_global_generators_are_left_alone(self, space: SearchSpace) -> None:
        def state() -> tuple[object, ...]:
            numpy_state = np.random.get_state(legacy=True)
            return random.getstate(), str(numpy_state), torch.get_rng_state().tolist()

        before, rng = state(), np.random.default_rng(0)
        first, second = space.sample(rng), space.sample(rng)
        space.crossover(space.mutate(first, rng), second, rng)
        list(space.neighbours(first))
        if space.network is not None:
            SearchSpace.from_network(space.network, **space.options)
        assert state() == before

    # -- networks -----------------------------------------------------------------------

    @pytest.fixture
    def network_space(self, space: SearchSpace) -> SearchSpace:
        if space.network is None:
            pytest.skip("the space has no network")
        return space

    def test_recording_again_gives_the_same_decisions(self, network_space: SearchSpace) -> None:
        space = network_space
        assert space.network is not None
        again = SearchSpace.from_network(space.network, **space.options)
        assert again.config_space.keys() <= space.config_space.keys()
        for label, decision in again.decisions.items():
            assert decision == space.decisions[label]

    def test_options_are_plain(self, network_space: SearchSpace) -> None:
        options = network_space.options
        assert json.loads(json.dumps(options)) == options

    def test_children_are_plain_modules(
        self, network_space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for architecture in samples[:10]:
            child = network_space.build(architecture)
            searching = [m for m in child.modules() if type(m).__module__ == Supernet.__module__]
            assert not searching

    def test_child_is_its_path_of_the_supernet(
        self, network_space: SearchSpace, samples: list[Architecture]
    ) -> None:
        """Same keys, same output with the same weights in both modes, same buffers after."""
        generator = torch.Generator().manual_seed(0)
        for supernet, architecture in self._paths(network_space, samples):
            child = supernet.child(architecture)
            supernet.set_path(architecture)
            path = supernet.path_state_dict(architecture)
            assert child.state_dict().keys() == path.keys()
            x = torch.rand(2, *self.input_shape, generator=generator)
            for training in (False, True):
                ours, theirs = (_run(m.train(training), x) for m in (child, supernet))
                for mine, its in zip(ours, theirs, strict=True):
                    assert torch.equal(mine, its)
                    assert torch.isfinite(mine).all()
            for key, tensor in child.state_dict().items():
                assert torch.equal(tensor, path[key]), key

    def test_weights_move_into_the_supernet(
        self, network_space: SearchSpace, samples: list[Architecture]
    ) -> None:
        for supernet, architecture in self._paths(network_space, samples[:10]):
            child = network_space.build(architecture).eval()
            supernet.load_path_state_dict(architecture, child.state_dict())
            supernet.set_path(architecture)
            x = torch.rand(2, *self.input_shape, generator=torch.Generator().manual_seed(1))
            for ours, theirs in zip(_run(child, x), _run(supernet.eval(), x), strict=True):
                assert torch.equal(ours, theirs)

    def test_canonical_twins_use_the_same_weights(
        self, network_space: SearchSpace, rng: np.random.Generator
    ) -> None:
        """What counts as the same network has the same tensors between input and output."""
        twins: dict[Hashable, list[Architecture]] = {}
        for _ in range(10 * self.num_samples):
            architecture = network_space.sample(rng)
            group = twins.setdefault(network_space.canonical(architecture), [])
            if architecture not in group:
                group.append(architecture)
        pairs = [group[:2] for group in twins.values() if len(group) > 1]
        if not pairs:
            pytest.skip("no two samples are the same network")
        for first, second in pairs[: self.num_samples]:
            assert self._used(network_space, first) == self._used(network_space, second)

    def _used(self, space: SearchSpace, architecture: Architecture) -> list[tuple[int, ...]]:
        """Shapes of the parameters that the output depends on."""
        child = space.build(architecture)
        outputs = child(torch.rand(2, *self.input_shape))
        total = torch.stack([out.sum() for out in _as_tuple(outputs)]).sum()
        torch.autograd.backward(total)
        return sorted(tuple(p.shape) for p in child.parameters() if p.grad is not None)

    def _paths(
        self, space: SearchSpace, samples: list[Architecture]
    ) -> Iterator[tuple[Supernet, Architecture]]:
        """Each architecture with a supernet that has its path: values are fixed to its own."""
        values = [label for label, d in space.decisions.items() if d.verb == "value"]
        supernets: dict[Architecture, Supernet] = {}
        for architecture in samples:
            fixed = Architecture(
                {v: architecture.get(v, space.decisions[v].default) for v in values}
            )
            if fixed not in supernets:
                supernets[fixed] = space.supernet(fixed=fixed)
            yield supernets[fixed], architecture


def _parents(space: SearchSpace) -> set[str]:
    """Labels that the condition of some decision speaks of."""
    return {
        literal.label
        for decision in space.decisions.values()
        for clause in decision.condition
        for literal in clause
    }


def _run(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Outputs of a forward pass; what it draws is the same for every module."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return _as_tuple(module(x))


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
