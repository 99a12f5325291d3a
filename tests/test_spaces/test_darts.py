"""The DARTS space against the published code's own figures."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import Architecture, ArchitectureError, UnsupportedSpaceError
from nas_plugins.operations import DropPath
from nas_plugins.spaces.darts import (
    DARTS_V1,
    DARTS_V2,
    EVALUATION,
    NODES,
    OPERATIONS,
    architecture_of_genotype,
    darts,
)

# Two genotypes drawn at random: fixed here, so that the published code could count them.
RANDOM_A = {
    "normal": [
        *(("dil_conv_3x3", 0), ("max_pool_3x3", 1)),
        *(("dil_conv_3x3", 0), ("skip_connect", 2)),
        *(("max_pool_3x3", 1), ("sep_conv_5x5", 3)),
        *(("dil_conv_5x5", 0), ("max_pool_3x3", 3)),
    ],
    "normal_concat": range(2, 6),
    "reduce": [
        *(("dil_conv_3x3", 0), ("avg_pool_3x3", 1)),
        *(("avg_pool_3x3", 0), ("sep_conv_5x5", 2)),
        *(("dil_conv_3x3", 1), ("dil_conv_5x5", 2)),
        *(("sep_conv_3x3", 1), ("dil_conv_3x3", 3)),
    ],
    "reduce_concat": range(2, 6),
}
RANDOM_B = {
    "normal": [
        *(("dil_conv_3x3", 0), ("dil_conv_5x5", 1)),
        *(("skip_connect", 1), ("sep_conv_5x5", 2)),
        *(("sep_conv_3x3", 1), ("skip_connect", 3)),
        *(("dil_conv_3x3", 3), ("avg_pool_3x3", 4)),
    ],
    "reduce": [
        *(("max_pool_3x3", 0), ("skip_connect", 1)),
        *(("skip_connect", 0), ("sep_conv_3x3", 1)),
        *(("dil_conv_5x5", 0), ("sep_conv_3x3", 3)),
        *(("sep_conv_3x3", 0), ("sep_conv_5x5", 1)),
    ],
}


@pytest.fixture(scope="module")
def space():
    return darts(channels=4, num_cells=3)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_size_is_the_papers(space):
    pairs = math.prod(math.comb(k + 1, 2) for k in range(1, 5))
    assert pairs == 180
    assert space.size == (pairs * 7**8) ** 2
    assert 1.0e9 < 180 * 7**8 < 1.1e9


def test_both_networks_have_the_same_decisions(space):
    other = darts(evaluation=True, channels=6, num_cells=4, in_channels=1, num_classes=3)
    assert other.config_space == space.config_space
    assert other.options["auxiliary"]
    assert not space.options["affine"]


@pytest.mark.parametrize(
    ("architecture", "published"),
    [
        (DARTS_V1, 3_169_414),
        (DARTS_V2, 3_349_342),
        (architecture_of_genotype(RANDOM_A), 2_579_086),
        (architecture_of_genotype(RANDOM_B), 3_019_942),
    ],
)
def test_evaluation_network_has_the_published_number_of_parameters(space, architecture, published):
    """As quark0/darts@f276dd3 counts: 36 channels, 20 cells, CIFAR-10, no auxiliary head."""
    with torch.device("meta"):
        network = space.build(architecture, **EVALUATION)
    auxiliary = 36 * 16 * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + 768 * 10 + 10
    assert parameters(network.auxiliary) == auxiliary
    assert parameters(network) - auxiliary == published


def test_search_network_has_the_published_number_of_parameters():
    """Of quark0/darts@f276dd3 cnn/model_search.py with 16 channels and 8 cells."""
    with torch.device("meta"):
        supernet = darts().supernet()
    assert parameters(supernet) == 1_930_618
    edges = [gate for gate in supernet.gates.values() if gate.verb == "layer"]
    assert len(edges) == 2 * 14
    assert all(gate.choices == (*OPERATIONS, "none") for gate in edges)
    assert all(gate.num_derivable == 7 for gate in edges)


def test_reads_genotypes(space):
    assert DARTS_V2["normal/5"] == "0+2"
    assert DARTS_V2["normal/5<-2"] == "dil_conv_3x3"
    assert DARTS_V1["reduce/3<-2"] == "skip_connect"
    for architecture in (DARTS_V1, DARTS_V2, architecture_of_genotype(RANDOM_A)):
        assert architecture in space
    Genotype = type("Genotype", (), RANDOM_A)
    assert architecture_of_genotype(Genotype()) == architecture_of_genotype(RANDOM_A)


def changed(kind, position, gene):
    genes = list(RANDOM_A[kind])
    genes[position] = gene
    return {**RANDOM_A, kind: genes}


@pytest.mark.parametrize(
    ("genotype", "words"),
    [
        (changed("normal", 2, ("sep_conv_7x7", 0)), "node 3 .* normal cell .*'sep_conv_7x7'"),
        (changed("reduce", 7, ("skip_connect", 5)), r"node 5 .* reduce cell has the inputs"),
        (changed("reduce", 1, ("skip_connect", 0)), r"node 2 .* inputs \[0, 0\]; expected two"),
        ({**RANDOM_A, "normal": RANDOM_A["normal"][:6]}, "normal cell has 6 edges; expected 8"),
        ({**RANDOM_A, "reduce_concat": [4, 5]}, r"reduce cell concatenates nodes \[4, 5\]"),
    ],
)
def test_other_genotypes_are_refused(genotype, words):
    with pytest.raises(ArchitectureError, match=words):
        architecture_of_genotype(genotype)


# -- canonical form ------------------------------------------------------------------------


def renumbered(architecture, numbers):
    """The same graph under other numbers; ``None`` where an edge would come from later."""
    renamed = {0: 0, 1: 1, **dict(zip(NODES, numbers, strict=True))}
    choices = {}
    for kind, to in itertools.product(("normal", "reduce"), NODES):
        sources = [int(s) for s in architecture[f"{kind}/{to}"].split("+")]
        if max(renamed[s] for s in sources) >= renamed[to]:
            return None
        names = sorted(renamed[s] for s in sources)
        choices[f"{kind}/{renamed[to]}"] = "+".join(map(str, names))
        for s in sources:
            edge = f"{kind}/{renamed[to]}<-{renamed[s]}"
            choices[edge] = architecture[f"{kind}/{to}<-{s}"]
    return Architecture(choices)


def test_renumbered_nodes_are_the_same_network(space):
    rng, found = np.random.default_rng(0), 0
    for _ in range(30):
        architecture = space.sample(rng)
        for numbers in itertools.permutations(NODES):
            other = renumbered(architecture, numbers)
            if other is not None:
                assert other in space
                assert space.canonical(other) == space.canonical(architecture)
                found += other != architecture
    assert found > 10


def test_a_shared_node_is_not_two_nodes_alike(space):
    """Both unfold to the same tree: nodes 4 and 5 read one node, or one node each."""
    cell = {
        **{"normal/2": "0+1", "normal/2<-0": "sep_conv_3x3", "normal/2<-1": "sep_conv_3x3"},
        **{"normal/3": "0+1", "normal/3<-0": "sep_conv_3x3", "normal/3<-1": "sep_conv_3x3"},
        **{"normal/4": "0+2", "normal/4<-0": "skip_connect", "normal/4<-2": "sep_conv_5x5"},
    }
    both = {"normal/5": "1+2", "normal/5<-1": "skip_connect", "normal/5<-2": "sep_conv_5x5"}
    each = {"normal/5": "1+3", "normal/5<-1": "skip_connect", "normal/5<-3": "sep_conv_5x5"}
    reduce = {k: v for k, v in DARTS_V2.items() if k.startswith("reduce")}
    shared, apart = (Architecture({**cell, **last, **reduce}) for last in (both, each))
    assert shared in space
    assert apart in space
    assert space.canonical(shared) != space.canonical(apart)


def test_mutations_are_other_networks_or_renumbered(space):
    rng = np.random.default_rng(0)
    architecture = space.sample(rng)
    orbit = {renumbered(architecture, n) for n in itertools.permutations(NODES)}
    for neighbour in space.neighbours(architecture):
        same = space.canonical(neighbour) == space.canonical(architecture)
        assert same == (neighbour in orbit)


@torch.no_grad()
def test_renumbering_permutes_weights_and_nothing_else(space):
    """Nodes 2 and 3 of both cells exchanged: the same function after moving the weights."""
    rng = np.random.default_rng(1)
    free = {f"{kind}/{to}": "0+1" for kind in ("normal", "reduce") for to in (2, 3)}
    architecture = space.sample(rng, given=free)
    other = renumbered(architecture, (3, 2, 4, 5))
    assert other != architecture
    options = {"affine": True, "num_cells": 5}
    first, second = (space.build(a, **options).double().train() for a in (architecture, other))
    weights, width = first.state_dict(), 4
    block = torch.arange(4)[[1, 0, 2, 3]]  # the order in which a cell concatenates its nodes

    def moved(key):
        part = key.split(".")
        if part[0] == "cells" and part[2] == "nodes":
            part[3] = {"0": "1", "1": "0"}.get(part[3], part[3])
            if part[3] in ("2", "3"):  # these may read the exchanged nodes
                part[5] = {"2": "3", "3": "2"}.get(part[5], part[5])
            return weights[".".join(part)]
        tensor = weights[key]
        reads_a_cell = part[0] == "classifier" or (
            part[0] == "cells" and tensor.ndim == 4 and int(part[1]) > (part[2] == "before")
        )
        if not reads_a_cell or tensor.ndim < 2:
            return tensor
        return tensor.unflatten(1, (width, -1))[:, block].flatten(1, 2)

    second.load_state_dict({key: moved(key) for key in second.state_dict()})
    x = torch.rand(3, 3, 8, 8, dtype=torch.double)
    torch.testing.assert_close(first(x), second(x))


# -- network -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 8, 28, 32])
def test_auxiliary_head_at_every_size(space, size):
    network = space.build(DARTS_V1, auxiliary=True, in_channels=1, num_classes=5).train()
    logits, auxiliary = network(torch.rand(2, 1, size, size))
    assert logits.shape == auxiliary.shape == (2, 5)
    assert network.eval()(torch.rand(2, 1, size, size)).shape == (2, 5)


def test_drop_path_spares_the_identity(space):
    network = space.build(DARTS_V2, drop_path=0.3, affine=True)
    edges = [edge for cell in network.cells for node in cell.nodes for edge in node.edges.values()]
    dropped = [edge for edge in edges if any(isinstance(m, DropPath) for m in edge.modules())]
    spared = [edge for edge in edges if isinstance(edge, nn.Identity)]
    assert len(dropped) + len(spared) == len(edges) == 3 * 8
    # Two skips in the normal cell; of three in each reducing cell all start at stride 1.
    assert len(spared) == 2 + 2 * 3


def test_drop_path_zeroes_images_and_keeps_the_mean():
    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 3, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = drop(x)
    per_image = out.flatten(1)
    assert torch.equal(per_image.amin(1), per_image.amax(1))
    assert sorted(set(per_image[:, 0].tolist())) == pytest.approx([0, 4 / 3])
    assert abs(out.mean() - 1) < 0.03
    assert torch.equal(drop.eval()(x), x)
    with pytest.raises(ValueError, match="probability is 1"):
        DropPath(1.0)


def test_too_few_cells_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="num_cells is 2; expected at least 3"):
        darts(num_cells=2)
