"""The mix reading: gates mix, paths are children, weights move both ways."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import Architecture, ArchitectureError, SearchSpace, UnsupportedSpaceError
from nas_plugins.testing.mutators import cell_space


class Net(nn.Module):
    """One of each verb, nested, with a label shared by two places."""

    def __init__(self, choose, channels=3):
        super().__init__()

        def conv(kernel):
            return lambda: nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

        def operation(label):
            return choose.layer(
                label, {"conv3": conv(3), "conv1": conv(1)}, only_in_mixture={"skip": nn.Identity}
            )

        def block(i):
            return choose.layer(
                f"block{i}", {"nested": lambda: operation("shared"), "norm": self.norm}
            )

        self.channels = channels
        self.first = operation("shared")
        self.body = choose.repeat("depth", block, (1, 3))
        self.merge = choose.inputs(
            "merge", {"a": conv(1), "b": conv(3), "c": nn.Identity}, num_chosen=2
        )
        self.skips = choose.inputs("skips", 3, num_chosen=None, required=[2], merge="mean")

    def norm(self):
        return nn.BatchNorm2d(self.channels)

    def forward(self, x):
        first = self.first(x)
        body = self.body(first)
        return self.skips([x, first, self.merge([x, first, body])])


@pytest.fixture
def space():
    return SearchSpace.from_network(Net)


@pytest.fixture
def x():
    return torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_records_every_verb_with_its_conditions(space):
    assert set(space.decisions) == {
        "shared",
        "depth",
        "block0",
        "block1",
        "block2",
        "merge",
        "skips/0",
        "skips/1",
    }
    conditions = {label: d.describe_condition() for label, d in space.decisions.items()}
    assert conditions["shared"] == "always"  # also asked outside of the blocks
    assert conditions["block0"] == "always"  # every depth has it
    assert conditions["block2"] == "'depth' is 3"
    # shared 2, depths 2 + 4 + 8, 3 pairs of inputs, 2 free skips
    assert space.size == 2 * (2 + 4 + 8) * 3 * 4


def test_recording_allocates_nothing_and_leaves_the_generator_alone():
    class Huge(nn.Module):
        def __init__(self, choose):
            super().__init__()
            self.layer = choose.layer("op", {"big": lambda: nn.Linear(10**6, 10**6)})

    before = torch.get_rng_state()
    assert SearchSpace.from_network(Huge).size == 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("training", [False, True])
def test_every_path_is_its_child(space, x, training):
    supernet = space.supernet()
    for architecture in space.enumerate():
        child = supernet.child(architecture)
        supernet.set_path(architecture)
        copies = copy.deepcopy(supernet).train(training), child.train(training)
        assert torch.equal(copies[0](x), copies[1](x))


def test_child_is_plain_and_builds_only_what_is_chosen(space):
    architecture = Architecture(
        {
            "shared": "conv1",
            "depth": 1,
            "block0": "norm",
            "merge": "a+c",
            "skips/0": False,
            "skips/1": True,
        }
    )
    child = space.build(architecture)
    assert set(dict(child.named_parameters())) == {
        "first.weight",
        "first.bias",
        "body.0.weight",
        "body.0.bias",
        "merge.edges.a.weight",
        "merge.edges.a.bias",
    }
    assert "nas_plugins.supernet" not in {type(m).__module__ for m in child.modules()}


def test_weights_move_both_ways(space, x):
    supernet, rng = space.supernet(), np.random.default_rng(0)
    architecture = supernet.sample(rng)
    child = space.build(architecture)
    supernet.load_path_state_dict(architecture, child.state_dict())
    supernet.set_path(architecture)
    assert torch.equal(supernet.eval()(x), child.eval()(x))
    with pytest.raises(ArchitectureError, match="not that of this architecture's path"):
        supernet.load_path_state_dict(architecture, {})
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    key, value = list(child.state_dict().items())[-1]
    with pytest.raises(ArchitectureError, match=f"{key!r} has shape .* expected"):
        supernet.load_path_state_dict(
            architecture, {**space.build(architecture).state_dict(), key: value[:1]}
        )
    assert all(torch.equal(before[key], value) for key, value in supernet.state_dict().items())


def test_gates_go_where_the_supernet_goes():
    supernet = cell_space().supernet().double()
    weights = [gate.weights for gate in supernet.gates.values() if gate.weights is not None]
    assert weights
    assert {w.dtype for w in weights} == {torch.float64}
    nn.Sequential(supernet).to("meta")
    assert {g.weights.device.type for g in supernet.gates.values() if g.weights is not None} == {
        "meta"
    }


def test_mixture_is_the_weighted_sum():
    class Two(nn.Module):
        def __init__(self, choose):
            super().__init__()
            self.op = choose.layer(
                "op", {"a": lambda: nn.Linear(3, 3), "b": lambda: nn.Linear(3, 3)}
            )

        def forward(self, x):
            return self.op(x)

    supernet = SearchSpace.from_network(Two).supernet()
    a, b = supernet.network.op.candidates.values()
    x = torch.randn(4, 3)
    torch.testing.assert_close(supernet(x), (a(x) + b(x)) / 2)
    alpha = torch.tensor([0.3, -1.0], requires_grad=True)
    supernet.gates["op"].mix(alpha.softmax(0))
    weights = alpha.softmax(0)
    torch.testing.assert_close(supernet(x), weights[0] * a(x) + weights[1] * b(x))
    supernet(x).sum().backward()
    assert alpha.grad.abs().sum() > 0
    one_hot = torch.tensor([0.0, 2.0])
    supernet.gates["op"].mix(one_hot, indices=[1])
    torch.testing.assert_close(supernet(x), 2 * b(x))
    a.forward = None  # a candidate that is not among the indices must not run
    supernet.gates["op"].select(1)
    torch.testing.assert_close(supernet(x), b(x))


def test_gates_are_shared_by_label_and_hold_mixture_only_candidates_last(space):
    supernet = space.supernet()
    gate = supernet.gates["shared"]
    assert gate.choices == ("conv3", "conv1", "skip")
    assert gate.num_derivable == 2
    nested = supernet.network.body.blocks[0].candidates["nested"]
    assert nested.gate is supernet.network.first.gate is gate


def test_a_copy_has_gates_of_its_own(space, x):
    supernet = space.supernet()
    twin = copy.deepcopy(supernet)
    expected = supernet(x)
    twin.set_path(next(space.enumerate()))
    assert twin.network.first.gate is twin.gates["shared"]
    assert torch.equal(supernet.train()(x), expected)


def test_wrong_weights_and_indices_are_named(space):
    gate = space.supernet().gates["depth"]
    with pytest.raises(UnsupportedSpaceError, match=r"gate 'depth' have shape \(2,\)"):
        gate.mix(torch.ones(2))
    with pytest.raises(UnsupportedSpaceError, match="gate 'depth' has candidates 0 to 2"):
        gate.select(3)


def test_a_child_has_the_options_of_its_supernet(space):
    supernet = space.supernet(channels=2)
    child = supernet.child(supernet.sample(np.random.default_rng(0)))
    assert child.first.weight.shape[0] == 2


def test_a_label_with_two_mixtures_is_refused():
    class Confused(nn.Module):
        def __init__(self, choose):
            super().__init__()
            a = {"a": nn.Identity}
            self.one = choose.layer("op", a, only_in_mixture={"b": nn.Identity})
            self.two = choose.layer("op", a, only_in_mixture={"c": nn.Identity})

    with pytest.raises(UnsupportedSpaceError, match="'op' stands for two different mixtures"):
        SearchSpace.from_network(Confused).supernet()


def test_fixed_decisions_are_not_mixed(space, x):
    supernet = space.supernet(fixed={"depth": 2, "merge": "a+b"})
    assert "depth" not in supernet.gates
    rng = np.random.default_rng(0)
    architecture = supernet.sample(rng)
    assert architecture["depth"] == 2
    supernet.set_path(architecture)
    assert torch.equal(supernet.eval()(x), supernet.child(architecture).eval()(x))
    with pytest.raises(ArchitectureError, match="fixed to 2: it has no such path"):
        supernet.set_path(space.sample(rng, given={"depth": 3}))
    with pytest.raises(ArchitectureError, match=r"fixed\['depth'\] = 9 is no choice"):
        space.supernet(fixed={"depth": 9})
