"""Contract suite that every mutator is held to.

Subclass :class:`MutatorContract` in a test module and override the fixture ``mutator`` with
a factory ``(supernet, seed) -> Mutator``; pytest does the rest::

    class TestMine(MutatorContract):
        @pytest.fixture
        def mutator(self):
            return lambda supernet, seed: Mine(supernet, seed=seed)
"""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture
from nas_plugins.choices import Choose
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.mutators.base import Mutator
from nas_plugins.space import SearchSpace
from nas_plugins.supernet import Supernet

__all__ = ["MutatorContract", "Search", "cell_space", "every_verb_space", "planted_space"]

Factory = Callable[[Supernet, int], Mutator]

CHANNELS = 4


class Zeros(nn.Module):
    """The operation ``none``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Gain(nn.Module):
    """A factor, not learned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Classifier(nn.Module):
    """Mean over pixels, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(CHANNELS, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


def operation(choose: Choose, label: str) -> nn.Module:
    """Pointwise, depthwise, identity; ``none`` in the mixture only."""
    return choose.layer(
        label,
        {
            "conv": lambda: nn.Sequential(
                nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)
            ),
            "depthwise": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
            "skip": nn.Identity,
        },
        only_in_mixture={"none": Zeros},
    )


class CellNet(nn.Module):
    """Two nodes, one with one input out of two, one with two out of three."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()

        def node(to: int, num_chosen: int) -> nn.Module:
            edges = {str(j): partial(operation, choose, f"{to}<-{j}") for j in range(to)}
            return choose.inputs(f"node{to}", edges, num_chosen=num_chosen)

        self.stem = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.nodes = nn.ModuleList([node(2, 1), node(3, 2)])
        self.classifier = Classifier()

    def forward(self, x: Tensor) -> Tensor:
        states = [x, self.stem(x)]
        for node in self.nodes:
            states.append(node(states))
        return self.classifier(states[-1])


class EveryVerbNet(nn.Module):
    """Depths, nested choices, a label in two places, inputs of both kinds."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()

        def block(i: int) -> nn.Module:
            return choose.layer(
                f"block{i}",
                {"nested": lambda: operation(choose, "shared"), "tanh": nn.Tanh},
            )

        self.first = operation(choose, "shared")
        self.body = choose.repeat("depth", block, (1, 2))
        self.one = choose.inputs("one", 3, num_chosen=1)
        self.any = choose.inputs("any", 3, num_chosen=None, required=[2], merge="mean")
        self.classifier = Classifier()

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        body = self.body(first)
        merged = self.any([x, first, self.one([x, first, body])])
        return self.classifier(merged)


class PlantedNet(nn.Module):
    """Three gains side by side; the outputs are closest to the input where all are 1."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        gains = {"right": 1.0, "weak": -0.5, "wrong": -1.0}
        candidates = {name: partial(Gain, gain) for name, gain in gains.items()}
        self.gains = nn.ModuleList(choose.layer(f"gain{i}", candidates) for i in range(3))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([gain(x) for gain in self.gains]) + self.bias


def cell_space() -> SearchSpace:
    """162 cells, as in DARTS: every mutator has to take it."""
    return SearchSpace.from_network(CellNet, name="cell")


def every_verb_space() -> SearchSpace:
    """What a mutator may refuse, with an :class:`UnsupportedSpaceError`."""
    return SearchSpace.from_network(EveryVerbNet, name="every verb")


def planted_space() -> SearchSpace:
    """27 architectures, ``right`` everywhere being the best by far."""
    return SearchSpace.from_network(PlantedNet, name="planted")


class Search:
    """The loop that a mutator is written for, on two batches of noise.

    Args:
        make: Makes the mutator.
        space: Its supernet's weights start the same in every search.
        seed: The mutator's.
        fixed: Decisions that are not searched.
    """

    def __init__(
        self, make: Factory, space: SearchSpace, *, seed: int = 0, fixed: Any = None
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.supernet = space.supernet(fixed=fixed)
        self.mutator = make(self.supernet, seed)
        self.optimizer = torch.optim.SGD(
            self.supernet.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3
        )
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            (
                torch.randn(8, CHANNELS, 4, 4, generator=generator),
                torch.randint(2, (8,), generator=generator),
            )
            for _ in range(2)
        ]

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        out = self.supernet(x)
        if out.dim() > 2:  # the planted network's outputs should be its input
            return (out - x).square().mean()
        return nn.functional.cross_entropy(out, y)

    def architecture_step(self) -> dict[str, float]:
        train, valid = self.batches
        return self.mutator.architecture_step(self.loss, train, valid, self.optimizer)

    def weight_gradients(self, progress: float) -> None:
        self.mutator.open_for_weights(progress)
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss(self.batches[0]))

    def run(self, start: int, stop: int, total: int = 12) -> Search:
        for step in range(start, stop):
            self.architecture_step()
            self.weight_gradients(step / total)
            self.optimizer.step()
        return self

    def save(self) -> bytes:
        state = [x.state_dict() for x in (self.mutator, self.supernet, self.optimizer)]
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    def load(self, saved: bytes) -> Search:
        states = torch.load(io.BytesIO(saved), weights_only=True)
        self.mutator.load_state_dict(states[0])
        self.supernet.load_state_dict(states[1])
        self.optimizer.load_state_dict(states[2])
        return self

    def evaluate(self, architecture: Architecture) -> float:
        """Minus the loss of a path."""
        self.supernet.set_path(architecture)
        self.supernet.eval()
        with torch.no_grad():
            score = -float(self.loss(self.batches[1]))
        self.supernet.train()
        return score

    def derive(self, num: int = 1) -> list[Architecture]:
        learned = self.mutator.needs_validation_data
        return self.mutator.derive(num, None if learned else self.evaluate)


def equal(first: Any, second: Any) -> bool:
    """Bit for bit, whatever is nested in what."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def states_of(search: Search) -> list[Any]:
    return [
        copy.deepcopy(x.state_dict()) for x in (search.mutator, search.supernet, search.optimizer)
    ]


class MutatorContract:
    """What every mutator must hold; see the module's docstring for how to use it."""

    @pytest.fixture
    def mutator(self) -> Factory:
        """Factory of the mutator under test, fast enough to learn within 100 steps."""
        raise NotImplementedError("override the fixture 'mutator'")

    @pytest.fixture(params=[cell_space, every_verb_space], ids=["cell", "every_verb"])
    def space(self, request: pytest.FixtureRequest, mutator: Factory) -> SearchSpace:
        space: SearchSpace = request.param()
        if request.param is not cell_space:
            try:
                mutator(space.supernet(), 0)
            except UnsupportedSpaceError as error:
                pytest.skip(f"refused: {error}")
        return space

    @pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
    def test_gates_for_weights(self, mutator: Factory, space: SearchSpace, progress: float) -> None:
        search = Search(mutator, space)
        for _ in range(10):
            search.mutator.open_for_weights(progress)
            for gate in search.supernet.gates.values():
                if gate.weights is not None:
                    assert not gate.weights.requires_grad
                    assert gate.weights.min() >= 0
                if gate.verb == "inputs":
                    continue
                assert gate.indices
                if gate.weights is not None:
                    total = gate.weights[list(gate.indices)].sum()
                    torch.testing.assert_close(total, torch.ones_like(total))

    def test_weight_steps_leave_the_architecture(
        self, mutator: Factory, space: SearchSpace
    ) -> None:
        search = Search(mutator, space)
        before = copy.deepcopy(dict(search.mutator.named_parameters()))
        for step in range(3):
            search.weight_gradients(step / 3)
            search.optimizer.step()
        assert equal(dict(search.mutator.named_parameters()), before)
        assert all(p.grad is None for p in search.mutator.parameters())

    def test_architecture_steps_leave_weights_and_gradients(
        self, mutator: Factory, space: SearchSpace
    ) -> None:
        search = Search(mutator, space).run(0, 2)
        search.mutator.open_for_weights(1.0)
        parameters = list(search.supernet.parameters())
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        before = copy.deepcopy(parameters)
        optimizer = copy.deepcopy(search.optimizer.state_dict())
        search.architecture_step()
        assert equal(parameters, before)
        assert all(p.requires_grad and equal(p.grad, torch.ones_like(p)) for p in parameters)
        assert equal(search.optimizer.state_dict(), optimizer)

    def test_declares_whether_all_weights_train(self, mutator: Factory, space: SearchSpace) -> None:
        """Distributed training needs to know."""
        search = Search(mutator, space)
        idle = False
        for _ in range(10):
            search.weight_gradients(1.0)
            idle |= any(p.grad is None for p in search.supernet.parameters())
        assert idle == search.mutator.single_path

    def test_derives_distinct_members_and_changes_nothing(
        self, mutator: Factory, space: SearchSpace
    ) -> None:
        search = Search(mutator, space).run(0, 3)
        before = states_of(search)
        derived = search.derive(5)
        assert len(derived) == 5
        assert all(architecture in space for architecture in derived)
        assert len({space.canonical(a) for a in derived}) == 5
        assert derived == search.derive(5)
        assert search.derive(2) == derived[:2]
        assert equal(states_of(search), before)

    def test_derives_what_is_fixed(self, mutator: Factory) -> None:
        fixed = {"node3": "0+2", "2<-1": "skip"}
        search = Search(mutator, cell_space(), fixed=fixed).run(0, 2)
        for architecture in search.derive(5):
            assert fixed.items() <= {"2<-1": "skip", **architecture}.items()

    def test_evaluate_ranks(self, mutator: Factory, space: SearchSpace) -> None:
        search = Search(mutator, space).run(0, 2)
        derived = search.mutator.derive(4, search.evaluate)
        scores = [search.evaluate(architecture) for architecture in derived]
        assert scores == sorted(scores, reverse=True)

    def test_children_are_paths(self, mutator: Factory, space: SearchSpace) -> None:
        search = Search(mutator, space).run(0, 3)
        (architecture,) = search.derive()
        if not search.mutator.inherits_weights:
            wide = {label: "conv" for label, d in space.decisions.items() if d.allows("conv")}
            with pytest.raises(RuntimeError, match="size mismatch"):
                search.supernet.child(space.complete(wide))
            return
        child = search.supernet.child(architecture).eval()
        search.supernet.set_path(architecture)
        x, _ = search.batches[0]
        assert torch.equal(search.supernet.eval()(x), child(x))

    def test_same_seed_same_search(self, mutator: Factory, space: SearchSpace) -> None:
        first, second = (Search(mutator, space, seed=3).run(0, 4) for _ in range(2))
        assert equal(states_of(first), states_of(second))

    def test_other_seed_other_search(self, mutator: Factory, space: SearchSpace) -> None:
        first, second = (Search(mutator, space, seed=seed).run(0, 4) for seed in (1, 2))
        assert not equal(first.mutator.state_dict(), second.mutator.state_dict())

    def test_resuming_equals_the_unbroken_search(
        self, mutator: Factory, space: SearchSpace
    ) -> None:
        unbroken = Search(mutator, space).run(0, 5)
        saved = unbroken.save()
        resumed = Search(mutator, space, seed=9).load(saved)
        unbroken.run(5, 10)
        resumed.run(5, 10)
        assert equal(states_of(resumed), states_of(unbroken))
        assert resumed.derive(3) == unbroken.derive(3)

    def test_a_loaded_state_is_a_copy(self, mutator: Factory, space: SearchSpace) -> None:
        first, second = (Search(mutator, space, seed=seed).run(0, 2) for seed in (0, 1))
        second.mutator.load_state_dict(first.mutator.state_dict())
        before = copy.deepcopy(second.mutator.state_dict())
        first.run(2, 4)
        assert equal(second.mutator.state_dict(), before)

    def test_global_generators_are_left_alone(self, mutator: Factory, space: SearchSpace) -> None:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        expected = torch.rand(()), np.random.rand(), random.random()
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        Search(mutator, space).run(0, 3).derive(3)
        assert equal((torch.rand(()), np.random.rand(), random.random()), expected)

    def test_probabilities_are_of_choices(self, mutator: Factory, space: SearchSpace) -> None:
        search = Search(mutator, space).run(0, 2)
        for label, probabilities in search.mutator.probabilities().items():
            gate = search.supernet.gates.get(label)
            choices = list(space.decisions[label].all_choices())
            assert len(probabilities) >= len(choices)
            if gate is None or gate.verb == "inputs":
                assert len(probabilities) == len(choices)
            else:
                assert len(probabilities) <= len(gate.choices)
            torch.testing.assert_close(probabilities.sum(), probabilities.new_ones(()))
            assert not probabilities.requires_grad
        assert search.mutator.entropy() >= 0

    def test_progress_is_a_share(self, mutator: Factory) -> None:
        search = Search(mutator, cell_space())
        with pytest.raises(ValueError, match=r"progress is 1\.5"):
            search.mutator.open_for_weights(1.5)

    def test_finds_what_is_planted(self, mutator: Factory) -> None:
        search = Search(mutator, planted_space()).run(0, 100, total=100)
        assert set(search.derive()[0].values()) == {"right"}
