"""Copies by key and shape, and the nearest architecture as parent."""

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import Architecture, spaces
from nas_plugins.estimators.inheritance import difference, inherit, nearest
from nas_plugins.testing.strategies import conditional_space

SPACE = spaces.load("nas_bench_201", channels=4, num_cells=1)


def cell(**changes):
    kept = {"cell/1<-0": "nor_conv_3x3", "cell/2<-0": "none", "cell/2<-1": "nor_conv_1x1"}
    rest = {"cell/3<-0": "skip_connect", "cell/3<-1": "none", "cell/3<-2": "nor_conv_3x3"}
    return SPACE.validate({**kept, **rest, **{f"cell/{k}": v for k, v in changes.items()}})


def test_a_child_takes_from_its_parent_what_they_share():
    torch.manual_seed(0)
    parent = SPACE.build(cell())
    child = SPACE.build(cell(**{"1<-0": "nor_conv_1x1", "3<-0": "nor_conv_3x3"}))
    before = {key: value.clone() for key, value in child.state_dict().items()}
    found = inherit(child, parent.state_dict())
    for key, value in child.state_dict().items():
        if key in found.copied:
            assert torch.equal(value, parent.state_dict()[key])
        else:
            assert torch.equal(value, before[key])
    assert set(found.copied) | set(found.reshaped) | set(found.fresh) == set(before)
    # Of three cells each: the kernel of the exchanged edge, and the edge that had no weights.
    assert sum(key.endswith("weight") for key in found.reshaped) == 3
    assert len(found.reshaped) == 3
    assert all(key not in parent.state_dict() for key in found.fresh)
    assert len(found.fresh) > 0
    parameters = dict(child.named_parameters())
    counted = sum(parameters[key].numel() for key in found.copied if key in parameters)
    assert found.share == counted / sum(p.numel() for p in parameters.values())
    assert 0.5 < found.share < 1


def test_of_an_equal_network_everything_is_taken():
    torch.manual_seed(0)
    parent, child = SPACE.build(cell()), SPACE.build(cell())
    x = torch.randn(2, 3, 8, 8)
    parent(x + 1)  # moves running statistics, which are inherited as well
    found = inherit(child, parent.state_dict())
    assert found.share == 1.0
    assert torch.equal(parent.eval()(x), child.eval()(x))
    assert inherit(nn.Linear(2, 2), {}).share == 0.0
    assert inherit(nn.ReLU(), {}).share == 0.0


def test_difference_counts_decisions():
    assert difference(cell(), cell()) == 0
    assert difference(cell(), cell(**{"1<-0": "none", "3<-1": "skip_connect"})) == 2
    assert difference({"depth": 1}, {"depth": True}) == 0  # Python's equality is near enough
    assert difference({"a": 1, "b": 2}, {"a": 1, "c": 2, "d": 3}) == 3


@pytest.mark.parametrize("space", [SPACE, conditional_space()], ids=["nb201", "conditional"])
def test_the_parent_of_a_mutation_is_among_the_nearest(space):
    """Where a mutation switches decisions on or off, another may be as near, never nearer."""
    rng = np.random.default_rng(0)
    history = [space.sample(rng) for _ in range(30)]
    for parent in history[:10]:
        child = space.mutate(parent, rng)
        found = nearest(child, history)
        assert 1 <= difference(child, found) <= difference(child, parent)


def test_nearest_is_the_first_of_equals_and_never_the_same():
    others = [Architecture({"a": x, "b": y}) for x, y in ((1, 1), (2, 1), (3, 3), (1, 1))]
    assert nearest(others[0], others) is others[1]
    assert nearest(Architecture({"a": 1, "b": 3}), others) is others[0]
    assert nearest(others[0], [others[3]]) is None
    assert nearest(others[0], []) is None
