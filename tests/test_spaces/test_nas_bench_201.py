"""NAS-Bench-201: published strings, and which cells are the same."""

import itertools

import numpy as np
import pytest
import torch

from nas_plugins import Architecture
from nas_plugins.spaces.nas_bench_201 import EDGES, architecture_of, nas_bench_201


@pytest.fixture(scope="module")
def space():
    return nas_bench_201(channels=2, num_cells=1)


def cell(*operations):
    return Architecture(dict(zip([f"cell/{e}" for e in EDGES], operations, strict=True)))


def test_reads_the_published_strings(space):
    string = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    assert architecture_of(string) == cell(
        "nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none"
    )
    with pytest.raises(ValueError, match="has 2 edges; expected 6"):
        architecture_of("|none~0|+|none~0|")


def test_classes_of_cells(space):
    assert space.size == 15_625
    assert len({space.canonical(a) for a in space.enumerate()}) == 5_875


def expression(architecture):
    """What the output node computes, each convolution with the name of its edge."""
    nodes = [(("input",),)]
    for to in (1, 2, 3):
        terms = []
        for j in range(to):
            operation, source = architecture[f"cell/{to}<-{j}"], nodes[j]
            if operation == "skip_connect":
                terms.extend(source)
            elif operation.startswith("nor_conv"):
                terms.append((operation, source, f"{to}<-{j}"))
            elif operation == "avg_pool_3x3" and source:
                terms.append((operation, source))
        nodes.append(tuple(terms))
    return nodes[-1]


def weights_of(terms):
    for term in terms:
        if len(term) > 1:
            yield from weights_of(term[1])
        if len(term) == 3:
            yield term[2]


def renamed(terms, names):
    out = [
        term
        if len(term) == 1
        else (term[0], renamed(term[1], names), *(names[n] for n in term[2:]))
        for term in terms
    ]
    return tuple(sorted(out, key=repr))


def smallest_name(architecture):
    """Canonical by brute force: the least over all ways to name the convolutions."""
    terms = expression(architecture)
    weights = sorted(set(weights_of(terms)))
    orders = itertools.permutations(range(len(weights)))
    return min(
        (renamed(terms, dict(zip(weights, order, strict=True))) for order in orders), key=repr
    )


def test_canonical_form_agrees_with_brute_force(space):
    rng = np.random.default_rng(0)
    ours, theirs = {}, {}
    for _ in range(1500):
        architecture = space.sample(rng)
        form, name = space.canonical(architecture), smallest_name(architecture)
        assert ours.setdefault(form, name) == name
        assert theirs.setdefault(name, form) == form
    assert len(ours) < 1400


def test_one_convolution_read_twice_is_not_two():
    """The two cells unfold to the same tree, but one has a weight less."""
    space = nas_bench_201()
    conv, one = "nor_conv_3x3", "nor_conv_1x1"
    shared = cell(conv, "none", "skip_connect", "none", one, one)
    apart = cell(conv, conv, "none", "none", one, one)
    assert space.canonical(shared) != space.canonical(apart)


def test_what_cannot_reach_the_output_does_not_count(space):
    conv = "nor_conv_3x3"
    used = cell(conv, "none", "none", "none", conv, "none")
    dangling = cell(conv, conv, conv, "none", conv, "none")
    assert space.canonical(used) == space.canonical(dangling)
    with torch.no_grad():
        first, second = space.build(used).eval(), space.build(dangling).eval()
        second.load_state_dict({**second.state_dict(), **first.state_dict()})
        x = torch.rand(2, 3, 8, 8)
        assert torch.equal(first(x), second(x))
