"""The published table, read by path; without it these tests are skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import data_directory
from nas_plugins import Architecture, ArchitectureError
from nas_plugins.estimators.tabular import (
    BudgetSpentError,
    Replay,
    TableError,
    TabularNB201,
    TabularResult,
)
from nas_plugins.spaces.nas_bench_201 import EDGES, architecture_of, nas_bench_201

TABLE = data_directory() / "nb201.npz"
BEST = architecture_of(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
SKIPS = Architecture({f"cell/{edge}": "skip_connect" for edge in EDGES})

needs_table = pytest.mark.skipif(
    not TABLE.is_file(), reason=f"no {TABLE}; set NAS_PLUGINS_DATA to the folder of nb201.npz"
)


@pytest.fixture(scope="module")
def table() -> TabularNB201:
    return TabularNB201(TABLE)


@needs_table
def test_every_architecture_has_its_row(table: TabularNB201) -> None:
    accuracies = [table.query(a).test_accuracy for a in nas_bench_201().enumerate()]
    assert len(accuracies) == 15_625
    assert max(accuracies) == pytest.approx(94.373, abs=1e-3)  # published optimum 94.37


@needs_table
@pytest.mark.parametrize(
    ("dataset", "collapse"), [("cifar10", 54.30), ("cifar100", 15.61), ("imagenet16-120", 16.32)]
)
def test_the_all_skip_cell_has_its_published_accuracy(dataset: str, collapse: float) -> None:
    assert TabularNB201(TABLE, dataset).query(SKIPS).test_accuracy == pytest.approx(
        collapse, abs=0.005
    )


@needs_table
def test_columns_of_the_first_official_architecture(table: TabularNB201) -> None:
    first = architecture_of(
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    with np.load(TABLE) as columns:
        assert [str(columns["op_names"][i]) for i in columns["ops"][0]] == list(first.values())
        expected = TabularResult(
            float(columns["hp12_c10valid_valid"][0]),
            float(columns["hp200_c10_test"][0]),
            float(columns["hp200_c10valid_train_time_s"][0]) * 12 / 200,
        )
    assert table.query(first) == pytest.approx(expected)


@needs_table
def test_reward_and_seconds_are_those_of_the_data_searched_on() -> None:
    transfer, own = (
        TabularNB201(TABLE, "cifar100", search_dataset=searched).query(BEST)
        for searched in ("cifar10", "cifar100")
    )
    assert transfer.test_accuracy == own.test_accuracy
    assert transfer.reward > own.reward
    assert own.seconds == pytest.approx(2 * transfer.seconds, rel=0.01)  # 50,000 images, not 25,000


@needs_table
def test_a_replay_stops_before_it_would_overspend(table: TabularNB201) -> None:
    seconds = table.query(BEST).seconds
    replay = Replay(table, budget_s=2.5 * seconds)
    replay.train(BEST)
    replay.train(BEST)
    with pytest.raises(BudgetSpentError, match="2 trainings"):
        replay.train(BEST)
    assert (replay.num_trained, replay.spent_s) == (2, pytest.approx(2 * seconds))


@needs_table
def test_a_replay_remembers_its_best(table: TabularNB201) -> None:
    replay = Replay(table, num_trainings=3)
    for architecture in (SKIPS, BEST, SKIPS):
        replay.train(architecture)
    assert (replay.best, replay.best_architecture) == (table.query(BEST), BEST)
    with pytest.raises(BudgetSpentError):
        replay.train(SKIPS)


def test_a_replay_needs_an_end() -> None:
    with pytest.raises(ValueError, match="expected budget_s or num_trainings"):
        Replay(None)


@needs_table
def test_an_unknown_architecture_is_named(table: TabularNB201) -> None:
    with pytest.raises(ArchitectureError, match="sep_conv.*not in the NAS-Bench-201 table"):
        table.query(BEST.replace(**{"cell/1<-0": "sep_conv"}))


def test_bad_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"unknown data set 'mnist'.*cifar100"):
        TabularNB201(tmp_path / "x.npz", "mnist")
    with pytest.raises(TableError, match=r"no file .*x\.npz; expected the NAS-Bench-201 table"):
        TabularNB201(tmp_path / "x.npz")
    (tmp_path / "text.npz").write_text("not a table")
    with pytest.raises(TableError, match=r"text\.npz cannot be read"):
        TabularNB201(tmp_path / "text.npz")
    np.savez(tmp_path / "part.npz", ops=np.zeros((1, 6)))
    with pytest.raises(TableError, match=r"part\.npz lacks \['op_names', 'hp12_c10valid_valid'"):
        TabularNB201(tmp_path / "part.npz")


@needs_table
def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    path.write_bytes(TABLE.read_bytes()[:500_000])
    with pytest.raises(TableError, match=r"cut\.npz cannot be read"):
        TabularNB201(path)
