"""NASNet, AmoebaNet, PNAS and ENAS micro against published numbers; what a cell leaves unused."""

import math

import numpy as np
import pytest
import torch

from nas_plugins import ArchitectureError, SearchSpace, UnsupportedSpaceError
from nas_plugins.operations import Bottleneck, DropPath, make_operation
from nas_plugins.spaces import nasnet as nasnet_module
from nas_plugins.spaces.amoebanet import (
    AMOEBANET_A,
    AMOEBANET_A_OPTIONS,
    AMOEBANET_B,
    AMOEBANET_B_OPERATIONS,
    AMOEBANET_B_OPTIONS,
    amoebanet,
)
from nas_plugins.spaces.enas_micro import ENAS_MICRO, architecture_of_arcs, enas_micro
from nas_plugins.spaces.nasnet import NASNET_A, NASNET_A_OPTIONS, architecture_of_blocks, nasnet
from nas_plugins.spaces.pnas import PNASNET_5, PNASNET_5_OPTIONS, pnas
from nas_plugins.spaces.pnas import TINY as PNAS_TINY
from nas_plugins.strategies import PNAS

TINY = nasnet_module.TINY


@pytest.fixture(scope="module")
def tiny():
    return nasnet(**TINY)


# What is recorded depends on the cells' kinds, not on their number.
@pytest.fixture(scope="module")
def published():
    return {
        "nasnet": nasnet(num_cells=3),
        "amoebanet": amoebanet(num_cells=3),
        "amoebanet_b": amoebanet(num_cells=3, operations=AMOEBANET_B_OPERATIONS),
        "enas_micro": enas_micro(num_cells=3),
        "pnas": pnas(num_cells=3),
    }


def num_parameters(space, architecture, **options):
    """Without the auxiliary head, which the papers do not count."""
    architecture = space.validate(architecture)
    with torch.device("meta"):
        child = space.build(architecture, **options)
    return sum(p.numel() for n, p in child.named_parameters() if not n.startswith("auxiliary"))


# -- published numbers ------------------------------------------------------------------


def test_sizes(published):
    sources = math.factorial(6) ** 2
    nasnet_size, amoebanet_size = published["nasnet"].size, published["amoebanet"].size
    assert nasnet_size == (2**5 * 13**10 * sources) ** 2
    assert amoebanet_size == (8**10 * sources) ** 2
    assert f"{nasnet_size:.1e} {amoebanet_size:.1e}" == "5.2e+36 3.1e+29"
    cells = [8 ** (2 * b) * math.factorial(b + 1) ** 2 for b in range(1, 6)]
    assert published["pnas"].size == sum(cells)
    assert cells[0] == 256  # as published, and of five blocks 5.6e14
    assert f"{cells[4]:.1e}" == "5.6e+14"


@pytest.mark.parametrize(
    ("name", "architecture", "options", "millions"),
    [
        ("nasnet", NASNET_A, NASNET_A_OPTIONS, 3.3),
        ("amoebanet", AMOEBANET_A, {**AMOEBANET_A_OPTIONS, "channels": 32}, 2.6),
        ("amoebanet", AMOEBANET_A, AMOEBANET_A_OPTIONS, 3.2),
        ("amoebanet_b", AMOEBANET_B, AMOEBANET_B_OPTIONS, 2.8),
        ("amoebanet_b", AMOEBANET_B, {**AMOEBANET_B_OPTIONS, "channels": 128}, 34.9),
        ("pnas", PNASNET_5, PNASNET_5_OPTIONS, 3.2),
        ("enas_micro", ENAS_MICRO, {"channels": 36, "num_cells": 20}, 4.6),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(
    published, name, architecture, options, millions
):
    counted = num_parameters(published[name], architecture, **options)
    assert counted == pytest.approx(millions * 1e6, rel=0.02)


def test_what_is_read_and_concatenated_all_the_same_is_a_twelfth_of_nasnet_a(published):
    options = {**NASNET_A_OPTIONS, "concatenated": None}
    assert num_parameters(published["nasnet"], NASNET_A, **options) == 3_061_738


# -- the output of a cell ---------------------------------------------------------------


def cell(kind, *blocks):
    return architecture_of_blocks({kind: blocks}, combination="add")


def test_cells_concatenate_what_no_block_reads(tiny):
    architecture = tiny.validate(
        {
            **cell("normal", ("max_pool_3x3", 0, "identity", 0), ("conv_1x1", 2, "conv_1x1", 0)),
            **cell("reduce", ("identity", 1, "conv_1x1", 1), ("conv_1x1", 1, "conv_1x1", 1)),
        }
    )
    child = tiny.build(architecture, num_cells=5)
    first, reduction, after = child.cells[0], child.cells[1], child.cells[2]
    assert set(first.before.read.edges) == {"stem"}
    # Of the normal cell its second input and its last block, of the reduction its first input
    # and both blocks.
    assert set(reduction.last[0].read.edges) == {"1", "3"}
    assert set(after.last[0].read.edges) == {"0", "2", "3"}
    assert set(after.before.read.edges) == {"1", "3"}
    assert set(child.classifier.read.edges) == {"1", "3"}
    assert [len(halve.edges) for halve in reduction.halve] == [1, 0]
    output = reduction([torch.rand(2, 6, 8, 8)], [torch.rand(2, 2, 8, 8) for _ in range(4)])
    assert [tuple(output[i].shape) for i in (0, 2, 3)] == [(2, 4, 4, 4)] * 3


def test_projection_is_that_of_the_concatenation(tiny):
    child = tiny.build(tiny.default(), num_cells=5).double().eval()
    project = child.cells[3].last[0]
    states = [torch.randn(2, 4, 4, 4, dtype=torch.float64) for _ in range(4)]
    names = list(project.read.edges)
    assert len(names) > 1
    unused = torch.cat([states[int(name)] for name in names], dim=1).relu()
    weight = torch.cat([edge[1].weight for edge in project.read.edges.values()], dim=1)
    expected = project.norm(torch.nn.functional.conv2d(unused, weight))
    torch.testing.assert_close(project(states), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "make", [lambda: nasnet(**TINY), lambda: enas_micro(channels=2, num_cells=3)]
)
def test_children_hold_no_idle_weights(make):
    space, rng = make(), np.random.default_rng(0)
    for _ in range(5):
        child = space.build(space.sample(rng))
        child(torch.rand(2, 3, 8, 8)).sum().backward()
        assert all(p.grad is not None for p in child.parameters())


def test_auxiliary_head_helps_in_training_alone(tiny):
    child = tiny.build(tiny.default(), auxiliary=True)
    logits, auxiliary = child(torch.rand(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert child.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


class TwoReaders(torch.nn.Module):
    """Two decisions over three tensors, and the tensors that they leave over."""

    def __init__(self, choose, labels=("a", "b"), required=()):
        super().__init__()
        self.a = choose.inputs("a", 3)
        self.b = choose.inputs("b", 3, num_chosen=2)
        choose.inputs("any", 3, num_chosen=None)
        choose.layer("op", {"asks": lambda: choose.inputs("nested", 3), "not": torch.nn.Identity})
        names = [str(i) for i in range(3)]
        edges = {name: lambda: torch.nn.Linear(1, 1, bias=False) for name in names}
        self.left = choose.unused(labels, edges, required=required)

    def forward(self, states):
        return self.left(states)


def test_in_a_mixture_a_tensor_counts_as_far_as_no_decision_reads_it():
    supernet = SearchSpace.from_network(TwoReaders, required=["2"]).supernet()
    supernet.gates["a"].mix(torch.tensor([0.5, 0.3, 0.2]))
    supernet.gates["b"].mix(torch.tensor([0.9, 0.6, 0.5]), indices=[1, 2])
    for linear in supernet.network.left.edges.values():
        torch.nn.init.ones_(linear.weight)
    states = [torch.tensor([[value]]) for value in (1.0, 10.0, 100.0)]
    expected = 0.5 * 1 + 0.7 * 0.4 * 10 + 100
    assert supernet(states).item() == pytest.approx(expected)
    supernet.gates["a"].select(0)
    assert supernet(states).item() == pytest.approx(0.4 * 10 + 100)


def test_unused_with_a_fixed_decision_is_that_of_the_child():
    space = SearchSpace.from_network(TwoReaders)
    supernet = space.supernet(fixed={"a": "1"})
    states = [torch.rand(1, 1) for _ in range(3)]
    for architecture in space.enumerate():
        if architecture["a"] == "1":
            supernet.set_path(architecture)
            child = supernet.child(architecture)
            assert torch.equal(child(states), supernet(states))
            used = {"1", *architecture["b"].split("+")}
            assert set(child.left.edges) == {"0", "1", "2"} - used


@pytest.mark.parametrize("label", ["nowhere", "any", "op", "nested"])
def test_unused_needs_decisions_of_a_fixed_number_that_are_active(label):
    with pytest.raises(UnsupportedSpaceError, match=f"what '{label}' leaves over"):
        SearchSpace.from_network(TwoReaders, labels=[label])


def test_unused_requires_what_it_knows():
    with pytest.raises(UnsupportedSpaceError, match=r"required=\['7'\]"):
        SearchSpace.from_network(TwoReaders, required=["7"])


# -- PNAS -------------------------------------------------------------------------------


def test_pnas_concatenates_all_blocks_there_are():
    space = pnas(**PNAS_TINY)
    child = space.build(space.complete({"cell/blocks": 1}), num_blocks=3, num_cells=5)
    child.eval()
    stacked = child.cells[0]([torch.rand(2, 6, 8, 8)], [torch.rand(2, 6, 8, 8)])
    assert stacked.shape == (2, 3, 2, 8, 8)
    assert not stacked[:, 1:].any()
    whole = space.build(space.complete({"cell/blocks": 2})).double().eval()
    project = whole.cells[2].last
    states = torch.randn(2, 2, 4, 4, 4, dtype=torch.float64)
    reader = project.read.reader
    weight = torch.cat([block.edge[1].weight for block in list(reader)[:-1]], dim=1)
    expected = torch.nn.functional.conv2d(states.flatten(1, 2).relu(), weight)
    torch.testing.assert_close(project(states), project.norm(expected), rtol=1e-12, atol=1e-12)


def test_pnas_grows_cells_block_by_block():
    """Every architecture of a level has its number of blocks and a parent in the level below."""
    space = pnas(**{**PNAS_TINY, "num_blocks": 3})
    strategy = PNAS(space, beam_size=6, num_surrogates=2, num_steps=5)
    levels = []
    for _ in range(18):
        architecture = strategy.ask()
        levels.append(architecture)
        convolutions = sum(choice == "max_pool_3x3" for choice in architecture.values())
        strategy.tell(architecture, convolutions / len(architecture))
    assert [a["cell/blocks"] for a in levels] == [1] * 6 + [2] * 6 + [3] * 6
    for depth in (2, 3):
        below = {space.complete({**a, "cell/blocks": depth - 1}) for a in levels}
        for child in levels[6 * (depth - 1) : 6 * depth]:
            smaller = {k: v for k, v in child.items() if not k.startswith(f"cell/{depth + 1}/")}
            assert space.complete({**smaller, "cell/blocks": depth - 1}) in below


# -- blocks -----------------------------------------------------------------------------


def test_a_bottleneck_has_a_quarter_of_the_channels():
    parameters = sum(p.numel() for p in Bottleneck(32, [(1, 7), (7, 1)]).parameters())
    assert parameters == 2 * 32 * 8 + 2 * 7 * 8 * 8 + 2 * (3 * 8 + 32)
    wide = sum(p.numel() for p in Bottleneck(32, [(1, 3), (3, 1)]).parameters())
    assert wide == 2 * 32 * 12 + 2 * 3 * 12 * 12 + 2 * (3 * 12 + 32)


def test_unknown_operations_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="operation is 'conv_bent'"):
        make_operation("conv_bent", 4, 1, 0.0)
    with pytest.raises(UnsupportedSpaceError, match=r"combinations is \['mean'\]"):
        nasnet(**TINY, combinations=["mean"])


def test_drop_path_spares_the_identity(published):
    with torch.device("meta"):
        child = published["nasnet"].build(NASNET_A, **NASNET_A_OPTIONS)
    paths = [m for m in child.modules() if isinstance(m, DropPath)]
    spared = sum(choice == "identity" for choice in NASNET_A.values())
    assert spared == 3
    # Eighteen normal cells with two identities, two reductions with one, which reads a block.
    assert len(paths) == 20 * 10 - 18 * 2 - 2 * 1
    assert {path.probability for path in paths} == {0.4}


def test_canonical_form_ignores_numbers_and_sides():
    space = nasnet(**TINY)
    rest = cell("reduce", ("identity", 0, "identity", 0), ("identity", 0, "identity", 0))
    first, second = ("conv_1x1", 0, "identity", 1), ("max_pool_3x3", 1, "max_pool_3x3", 0)
    base = space.validate({**cell("normal", first, second), **rest})
    swapped = space.validate({**cell("normal", second, (*first[2:], *first[:2])), **rest})
    assert space.canonical(base) == space.canonical(swapped)
    merged = base.replace(**{"normal/2/combination": "concat"})
    assert space.canonical(base) != space.canonical(merged)
    # What is concatenated by its number cannot be renumbered.
    numbered = nasnet(**TINY, concatenated={"normal": ["2"]})
    assert numbered.canonical(base) != numbered.canonical(swapped)


def test_published_cells_are_checked():
    with pytest.raises(ArchitectureError, match="block 2 of the normal cell reads 0 and 2"):
        cell("normal", ("identity", 0, "identity", 2))
    with pytest.raises(ArchitectureError, match="the reduce cell is '0 9 0 0'"):
        architecture_of_arcs("0 0 0 0", "0 9 0 0")
    with pytest.raises(UnsupportedSpaceError, match="num_cells is 2"):
        nasnet(num_cells=2)
