"""HpBandSter's own optimisers, and ours in its schedule, replayed on a table."""

import logging
from collections import Counter

import pytest
from ConfigSpace import Categorical, ConfigurationSpace

pytest.importorskip("hpbandster", reason="the hpbandster extra is not installed")

from benchmarks.hpo_searches import search
from nas_plugins import SearchSpace


@pytest.fixture(autouse=True)
def level():
    """The benchmark silences HpBandSter's log, in a process of its own."""
    logger = logging.getLogger("hpbandster")
    before = logger.level
    yield
    logger.setLevel(before)


class Table:
    """Three hundred points; the short training ranks them as the long one does."""

    epochs = (12, 200)
    full_s = 200.0

    def __init__(self):
        self.space = SearchSpace(
            ConfigurationSpace(
                {
                    "rate": Categorical("rate", [0.5, 1.0, 2.0, 4.0, 8.0], ordered=True),
                    "op": [f"op{i}" for i in range(60)],
                }
            )
        )
        self.trained = []

    def row(self, architecture):
        assert architecture in self.space
        return 5 * int(architecture["op"][2:]) + [0.5, 1, 2, 4, 8].index(architecture["rate"])

    def train(self, row, epochs, rng):
        self.trained.append((row, epochs))
        return row / 300 - (epochs == 12), float(epochs)

    def regret(self, row):
        return 299.0 - row


@pytest.mark.parametrize("name", ["hpbandster_hyperband", "hpbandster_bohb", "hyperband+random"])
def test_brackets_are_those_of_hpbandster(name):
    table = Table()
    trace = search(name, table, 0, 16 * 12 + 200 + 2 * 200 - 1)
    assert [epochs for _, epochs in table.trained] == [12] * 16 + [200] * 3
    promoted = table.trained[16][0]
    assert promoted == max(row for row, _ in table.trained[:16])
    assert trace[0] == (16 * 12 + 200, 299.0 - promoted)
    assert len({row for row, _ in table.trained}) > 5


@pytest.mark.parametrize("name", ["hpbandster_random", "random", "tpe"])
def test_who_knows_no_brackets_trains_in_full(name):
    table = Table()
    trace = search(name, table, 0, 10 * 200 - 1)
    assert Counter(epochs for _, epochs in table.trained) == {200: 10}
    regrets = [regret for _, regret in trace]
    assert regrets == sorted(regrets, reverse=True)
    assert regrets[-1] == 299.0 - max(row for row, _ in table.trained)


def test_a_pruned_trial_pays_for_its_short_training_alone():
    table = Table()
    search("pruner+random", table, 0, 20_000)
    short, long = (Counter(e for _, e in table.trained)[epochs] for epochs in table.epochs)
    assert 0 < long < short
