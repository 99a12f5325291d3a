"""Counted costs against arithmetic, the published table and the published code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.data import data_directory
from nas_plugins import Architecture, UnsupportedSpaceError
from nas_plugins.estimators.cost import Cost, cost, cost_of
from nas_plugins.spaces.darts import DARTS_V2, darts
from nas_plugins.spaces.nas_bench_201 import EDGES, OPERATIONS, nas_bench_201

TABLE = data_directory() / "nb201.npz"
IMAGE = (3, 32, 32)
SINGLE_PRECISION = 10
"""Half a unit in the last place of 2e8, rounded to tens: the table holds float32."""

needs_table = pytest.mark.skipif(
    not TABLE.is_file(), reason=f"no {TABLE}; set NAS_PLUGINS_DATA to the folder of nb201.npz"
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
        self.norm = nn.BatchNorm2d(6)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.norm(self.conv(x)).mean((2, 3)))


def test_counts_what_arithmetic_says() -> None:
    parameters = (6 * 9 + 6) + 2 * 6 + (30 + 5)
    buffers_bits = 32 * (6 + 6) + 64  # running mean and variance, number of batches
    assert cost(Small(), (3, 8, 8)) == Cost(
        parameters=parameters,
        multiply_adds=6 * 9 * 16 + 30,
        bits=32 * parameters + buffers_bits,
    )


def test_leaves_the_network_and_the_generator_alone() -> None:
    network = Small().train()
    network.norm.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    cost(network, (3, 8, 8))
    cost_of(nas_bench_201(num_cells=1), dict.fromkeys([f"cell/{e}" for e in EDGES], "none"), IMAGE)
    assert torch.equal(torch.get_rng_state(), generator)
    assert network.training
    assert not network.norm.training
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert all(p.device.type == "cpu" for p in network.parameters())


def test_half_precision_takes_half_the_bits() -> None:
    whole, half = cost(Small(), (3, 8, 8)), cost(Small().half(), (3, 8, 8))
    assert half.bits == (whole.bits - 64) // 2 + 64
    assert half.multiply_adds == whole.multiply_adds


def test_a_child_is_counted_without_being_allocated() -> None:
    """A hundred thousand channels: 16 terabytes of weights."""
    architecture = dict.fromkeys([f"cell/{e}" for e in EDGES], "nor_conv_3x3")
    counted = cost_of(nas_bench_201(channels=100_000, num_cells=1), architecture, (3, 4, 4))
    assert counted.parameters > 10**12


def test_the_wrong_shape_is_named() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"Small does not take .* \(1, 8, 8\)"):
        cost(Small(), (1, 8, 8))


def test_darts_v2_without_its_auxiliary_head() -> None:
    space = darts(evaluation=True, auxiliary=False)
    counted = cost_of(space, DARTS_V2, IMAGE)
    assert counted.parameters == 3_349_342
    assert counted.multiply_adds == 528_359_040


# -- the published table -------------------------------------------------------------------


def cell(operations: np.ndarray) -> Architecture:
    return Architecture(
        {f"cell/{e}": OPERATIONS[o] for e, o in zip(EDGES, operations, strict=True)}
    )


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    with np.load(TABLE, allow_pickle=False) as arrays:
        assert tuple(arrays["op_names"]) == OPERATIONS
        return {name: arrays[name] for name in ("ops", "params_M_c10", "flops_M_c10")}


def published(table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and multiply-adds, as integers; the table adds the classifier's ten biases."""
    parameters = np.round(table["params_M_c10"].astype(float) * 1e6).astype(int)
    multiply_adds = np.round(table["flops_M_c10"].astype(float) * 1e6, -1).astype(int) - 10
    return parameters, multiply_adds


@needs_table
def test_every_cell_costs_what_its_edges_cost(table: dict[str, np.ndarray]) -> None:
    """All 15,625 cells, from the 25 networks that differ from the empty cell in one edge."""
    space = nas_bench_201()

    def counted(operations: np.ndarray) -> np.ndarray:
        result = cost_of(space, cell(operations), IMAGE)
        return np.array([result.parameters, result.multiply_adds])

    empty = counted(np.zeros(6, int))
    share = np.zeros((6, 5, 2), int)
    for edge in range(6):
        for operation in range(1, 5):
            operations = np.zeros(6, int)
            operations[edge] = operation
            share[edge, operation] = counted(operations) - empty
    ours = empty + share[np.arange(6), table["ops"]].sum(1)
    parameters, multiply_adds = published(table)
    wrong = np.flatnonzero(ours[:, 0] != parameters)
    assert len(wrong) == 150  # the source has one convolution too many or too few there
    off_by = np.unique(np.abs(ours[wrong, 0] - parameters[wrong]))
    assert set(off_by.tolist()) == {28_000, 243_040}
    assert np.abs(ours[:, 1] - multiply_adds).max() <= SINGLE_PRECISION


@needs_table
@pytest.mark.parametrize("num_cells", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_cells_counted_one_by_one_cost_what_is_published(
    table: dict[str, np.ndarray], num_cells: int
) -> None:
    space, (parameters, multiply_adds) = nas_bench_201(), published(table)
    rows = np.random.default_rng(0).choice(len(parameters), num_cells, replace=False)
    costs = [cost_of(space, cell(table["ops"][row]), IMAGE) for row in rows]
    off = np.array([c.multiply_adds for c in costs]) - multiply_adds[rows]
    assert np.abs(off).max() <= SINGLE_PRECISION
    wrong = np.array([c.parameters for c in costs]) != parameters[rows]
    assert wrong.mean() < 0.05  # of the 150 in 15,625


@needs_table
@pytest.mark.slow
def test_every_cell_in_the_supernet_weighs_what_is_published(table: dict[str, np.ndarray]) -> None:
    """Each of the 15,625 read along its path, in a network of one cell a stage, not five."""
    (published_parameters, _), space = published(table), nas_bench_201(num_cells=1)
    with torch.device("meta"):
        supernet = space.supernet()

    def counted(architecture: Architecture) -> int:
        path = supernet.path_state_dict(architecture)
        return sum(t.numel() for key, t in path.items() if key.endswith(("weight", "bias")))

    frame = counted(cell(np.zeros(6, int)))  # a cell of nothing has no parameters
    ours = [frame + 5 * (counted(cell(operations)) - frame) for operations in table["ops"]]
    assert np.count_nonzero(np.array(ours) != published_parameters) == 150
