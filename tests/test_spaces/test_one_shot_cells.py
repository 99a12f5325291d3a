"""One-shot cells: their size, their blocks, and path dropout over them."""

import math

import pytest
import torch

from nas_plugins import UnsupportedSpaceError
from nas_plugins.mutators import create
from nas_plugins.spaces.one_shot_cells import TINY, one_shot_cells


@pytest.fixture(scope="module")
def tiny():
    return one_shot_cells(**TINY)


def test_size_is_that_of_one_or_two_inputs_and_operations():
    space = one_shot_cells(num_cells=3)
    operations = math.comb(7, 1) + math.comb(7, 2)
    inputs = math.prod(math.comb(n, 1) + math.comb(n, 2) for n in (2, 3, 4, 5))
    assert space.size == operations**4 * inputs
    alone = one_shot_cells(num_cells=3, num_predecessors=1)
    assert alone.decisions["cell/2/inputs"].choices == ("1+none",)
    assert alone.size == operations**4 * 1 * 3 * 6 * 10


def test_a_block_projects_the_concatenation_and_sums_its_operations(tiny):
    wish = {"cell/3/inputs": "0+2", "cell/3/operations": "identity+max_pool_3x3"}
    child = tiny.build(tiny.complete(wish)).double().eval()
    block = child.cells[0].blocks[1]
    states = [torch.randn(2, 2, 4, 4, dtype=torch.float64) for _ in range(3)]
    weight = torch.cat([edge[1].weight for edge in block.inputs.edges.values()], dim=1)
    read = torch.cat([states[0], states[2]], dim=1).relu()
    x = block.norm(torch.nn.functional.conv2d(read, weight))
    expected = x + torch.nn.functional.max_pool2d(x, 3, 1, 1)
    torch.testing.assert_close(block(states), expected, rtol=1e-12, atol=1e-12)


def test_a_single_input_and_operation_have_no_other_weights(tiny):
    wish = {"cell/3/inputs": "1+none", "cell/3/operations": "identity+none"}
    block = tiny.build(tiny.complete(wish)).cells[0].blocks[1]
    assert [tuple(p.shape) for p in block.parameters()] == [(2, 2, 1, 1), (2,), (2,)]


@pytest.mark.parametrize("num_predecessors", [1, 2])
def test_cells_pool_twice_and_double(num_predecessors):
    space = one_shot_cells(**{**TINY, "num_cells": 6, "num_predecessors": num_predecessors})
    child, shapes = space.build(space.default()).eval(), []
    for cell in child.cells:
        cell.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    child(torch.rand(1, 3, 16, 16))
    assert shapes == [(4, 16, 16)] * 2 + [(8, 8, 8)] * 2 + [(16, 4, 4)] * 2


def test_path_dropout_zeroes_each_candidate_as_the_paper_has_it(tiny):
    """Of the four candidates of an operation each is dropped with probability r^(1/4)."""
    mutator = create("one_shot", tiny.supernet(), dropout=0.1)
    gate = mutator.supernet.gates["cell/2/operations"]
    assert gate.choices == (*TINY["operations"], "none")
    kept = []
    for _ in range(400):
        mutator.open_for_weights(0.5)
        kept.append(len(gate.indices))
    assert sum(kept) / 400 == pytest.approx(4 * (1 - 0.5 * 0.1 ** (1 / 4)), abs=0.15)
    assert torch.isfinite(mutator.supernet(torch.rand(2, 3, 8, 8))).all()


def test_one_shot_ranks_children_of_the_space(tiny):
    mutator = create("one_shot", tiny.supernet(), num_candidates=50)
    best = mutator.derive(3, lambda a: -sum(str(c).count("none") for c in a.values()))
    assert len(best) == 3
    assert all(architecture in tiny for architecture in best)


def test_canonical_form_ignores_the_numbers_of_blocks(tiny):
    first = {"cell/2/inputs": "0+none", "cell/2/operations": "identity+none"}
    second = {"cell/3/inputs": "0+1", "cell/3/operations": "conv_1x1+none"}
    swapped = {
        "cell/2/inputs": "0+1",
        "cell/2/operations": "conv_1x1+none",
        "cell/3/inputs": "0+none",
        "cell/3/operations": "identity+none",
    }
    base, other = tiny.complete({**first, **second}), tiny.complete(swapped)
    assert tiny.canonical(base) == tiny.canonical(other)
    assert tiny.canonical(base) != tiny.canonical(base.replace(**{"cell/3/inputs": "0+2"}))


def test_other_numbers_of_predecessors_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="num_predecessors is 3; expected 1 or 2"):
        one_shot_cells(num_predecessors=3)
