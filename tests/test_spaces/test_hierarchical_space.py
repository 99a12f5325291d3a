"""The hierarchical space against the paper: its levels, its size and what a mutation is."""

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins.spaces.hierarchical import OPERATIONS, TINY, hierarchical
from nas_plugins.strategies import HierarchicalEvolution


@pytest.fixture(scope="module")
def space():
    return hierarchical()


@pytest.fixture(scope="module")
def tiny():
    return hierarchical(**TINY)


def test_size_and_levels(space):
    assert space.size == 7 ** (6 * 6 + 10)
    motifs = {label.split("/")[1] for label in space.decisions if label.startswith("level2/")}
    assert motifs == {f"motif{i}" for i in range(1, 7)}
    for label, decision in space.decisions.items():
        below = OPERATIONS if label.startswith("level2/") else motifs
        assert set(decision.choices) == {"none", *below}, label
        assert decision.describe_condition() == "always"


def test_the_default_is_the_papers_trivial_genotype(tiny):
    """Every motif is a chain of identities, so that the cell is one up to its convolutions."""
    assert {k: v for k, v in tiny.default().items() if v != "none"} == {
        **{f"level2/motif{m}/{i + 1}<-{i}": "identity" for m in (1, 2) for i in range(2)},
        **{f"level3/{i + 1}<-{i}": "motif1" for i in range(2)},
    }
    cell = tiny.build(tiny.default()).blocks[1]
    x = torch.rand(2, 2, 4, 4)
    first, second = cell.edges["1<-0"], cell.edges["2<-1"]
    assert torch.equal(first[0](x), x)
    torch.testing.assert_close(cell(x), second[1](first[1](x)))


def test_nodes_sum_their_edges(tiny):
    wish = {
        "level2/motif1/1<-0": "none",
        "level2/motif1/2<-0": "max_pool_3x3",
        "level2/motif1/2<-1": "identity",
        "level3/2<-0": "motif1",
        "level3/2<-1": "none",
    }
    motif = tiny.build(tiny.complete(wish)).blocks[1].edges["2<-0"][0]
    x = torch.rand(2, 2, 4, 4)
    torch.testing.assert_close(motif(x), nn.functional.max_pool2d(x, 3, 1, 1))


def test_stages_double_the_channels_and_halve_the_resolution(space):
    child = space.build(space.default(), channels=4, cells_per_stage=2)
    assert [type(block).__name__ for block in child.blocks][1:3] == ["Graph", "Graph"]
    assert child.blocks(torch.rand(1, 3, 32, 32)).shape == (1, 16, 8, 8)


def test_parameters_of_a_motif_are_those_of_its_primitives(space):
    c = 16
    weights = {
        "conv_1x1": c * c + 2 * c,
        "depthwise_3x3": 9 * c + 2 * c,
        "sep_conv_3x3": 9 * c + c * c + 2 * c,
        "max_pool_3x3": 0,
        "none": 0,
    }
    for operation, expected in weights.items():
        child = space.build(space.default().replace(**{"level2/motif1/2<-0": operation}))
        motif = child.blocks[1].edges["1<-0"]
        assert sum(p.numel() for p in motif.parameters()) == expected + c * c + 2 * c


def test_motifs_count_by_what_they_are(tiny):
    base = tiny.default()
    unused = base.replace(**{"level2/motif2/2<-0": "conv_1x1"})
    assert tiny.canonical(base) == tiny.canonical(unused)
    renamed = base.replace(**{"level3/1<-0": "motif2"})
    assert tiny.canonical(base) == tiny.canonical(renamed)
    other = unused.replace(**{"level3/1<-0": "motif2"})
    assert tiny.canonical(base) != tiny.canonical(other)


def test_evolution_draws_level_motif_node_and_node_before_it(space):
    """Half of the mutations are of the cell, a twelfth of each motif, whatever their edges."""
    strategy = HierarchicalEvolution(space, population_size=2, num_initial_mutations=1)
    counts = {"level3": 0, "level2/motif4": 0}
    for number in range(600):
        changed = [k for k, v in strategy.ask(number).items() if v != space.default()[k]]
        assert len(changed) == 1
        level = changed[0].rpartition("/")[0]
        counts[level] = counts.get(level, 0) + 1
    assert counts["level3"] == pytest.approx(300, abs=60)
    assert counts["level2/motif4"] == pytest.approx(50, abs=30)


def test_thousand_mutations_leave_the_trivial_genotype_far_behind(space):
    strategy = HierarchicalEvolution(space)
    architecture, default = strategy.ask(), space.default()
    assert architecture in space
    assert np.mean([architecture[k] != default[k] for k in default]) > 0.7
