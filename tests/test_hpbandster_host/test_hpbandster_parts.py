"""Generator, brackets, cures and worker, one by one; workers are threads here."""

from __future__ import annotations

import json
import logging
import math
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("hpbandster", reason="the hpbandster extra is not installed")

import serpent
from ConfigSpace import Categorical, ConfigurationSpace, Constant, EqualsCondition, Integer
from hpbandster.core.nameserver import NameServer
from hpbandster.core.worker import Worker
from hpbandster.optimizers import BOHB, H2BO, HyperBand

from nas_plugins import (
    Architecture,
    ArchitectureError,
    Budget,
    ScoreError,
    SearchSpace,
    UnsupportedSpaceError,
    strategies,
)
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.estimators.objectives import InfeasibleError
from nas_plugins.estimators.worth import Worth
from nas_plugins.hpbandster import (
    ArchitectureConfigGenerator,
    ArchitectureOptimizer,
    ArchitectureWorker,
    mended,
)
from nas_plugins.hpbandster.compat import NameServerError, plain
from nas_plugins.hpbandster.worker import epochs
from nas_plugins.spaces import load

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def space():
    config_space = ConfigurationSpace()
    config_space.add(
        [Categorical("op", ["conv", "pool"]), Categorical("skip", [True, False])],
        Integer("depth", (1, 3)),
        Integer("width", (1, 8)),
    )
    config_space.add(EqualsCondition(config_space["width"], config_space["op"], "conv"))
    return SearchSpace(config_space)


def job(config, *, loss=None, budget=9.0, id=(0, 0, 0)):
    result = None if loss is None else {"loss": loss, "info": {}}
    exception = "it failed" if loss is None else None
    return SimpleNamespace(
        id=id, kwargs={"config": config, "budget": budget}, result=result, exception=exception
    )


# -- plain values -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.str_("conv"), "conv"),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        ((1, np.int64(2)), (1, 2)),
        ({"a": [np.float32(0.5), None]}, {"a": [0.5, None]}),
        (Architecture({"op": "conv"}), {"op": "conv"}),
        (Path("a") / "b", "a/b"),
    ],
)
def test_plain_values_pass_the_wire_and_the_log(value, expected):
    got = plain(value)
    assert got == expected
    assert type(got) is type(expected)
    assert serpent.loads(serpent.dumps(got)) == expected
    json.dumps(got)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.longdouble(1), {"a": object()}])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(TypeError, match="expected strings, numbers"):
        plain(value)


# -- generator --------------------------------------------------------------------------


class Told(strategies.RandomSearch):
    """Keeps what it is told."""

    def _reset(self):
        self.told = []

    def _observe(self, observation):
        self.told.append(observation)


def test_a_lower_loss_is_a_higher_score(space):
    generator = ArchitectureConfigGenerator(Told(space), max_budget=9)
    good, bad, failed = (generator.get_config(9)[0] for _ in range(3))
    generator.new_result(job(bad, loss=0.9))
    generator.new_result(job(good, loss=0.25))
    generator.new_result(job(failed))
    assert [dict(o.architecture) for o in generator.strategy.told] == [bad, good, failed]
    assert [o.score for o in generator.strategy.told] == [pytest.approx(0.1), 0.75, None]
    assert [o.budget for o in generator.strategy.told] == [None, None, None]


@pytest.mark.parametrize(
    ("observe", "expected"),
    [("all", [(0.5, 1.0), (0.25, 3.0), (0.75, None)]), ("largest", [(0.75, None)])],
)
def test_promoted_runs_are_told_with_their_budget(space, observe, expected):
    generator = ArchitectureConfigGenerator(Told(space), max_budget=9, observe=observe)
    config, _ = generator.get_config(1)
    for loss, budget in [(0.5, 1.0), (0.75, 3.0), (0.25, 9.0 * (1 - 1e-15))]:
        generator.new_result(job(config, loss=loss, budget=budget))
    assert [(o.score, o.budget) for o in generator.strategy.told] == expected


def test_proposals_are_numbered_over_the_whole_study(space):
    direct = strategies.create("random", space, seed=3)
    generator = ArchitectureConfigGenerator("random", space, seed=3)
    for number in range(3):
        config, info = generator.get_config(1)
        assert Architecture(config) == direct.ask(number)
        assert info == {"number": number, "architecture_id": Architecture(config).id}
    resumed = ArchitectureConfigGenerator("random", space, seed=3)
    for n in (2, 0, 1):  # a warm start, in order of completion
        resumed.new_result(job(dict(direct.ask(n)), loss=0.5, id=(-1, 0, n)))
    assert Architecture(resumed.get_config(1)[0]) == direct.ask(3)


class Asked(strategies.RandomSearch):
    """Keeps how many proposals it hears are under way."""

    pending = ()

    def ask(self, number=None, attempt=0, *, pending=None):
        self.pending = (*self.pending, pending)
        return super().ask(number, attempt, pending=pending)


@pytest.mark.parametrize("observe", ["all", "largest"])
def test_what_had_a_result_is_not_under_way(space, observe):
    """However often it is told: once for each rung, or not at all."""
    generator = ArchitectureConfigGenerator(Asked(space), max_budget=9, observe=observe)
    configs = [generator.get_config(1)[0] for _ in range(3)]
    for budget in (1, 3):
        generator.new_result(job(configs[0], loss=0.5, budget=budget, id=(0, 0, 0)))
    generator.get_config(1)
    generator.new_result(job(configs[1], budget=1, id=(0, 0, 1)))
    generator.get_config(1)
    assert generator.strategy.pending == (0, 1, 2, 2, 2)


def test_an_earlier_result_may_be_of_a_smaller_space():
    today = ConfigurationSpace({"op": ["conv", "pool", "skip"]})
    today.add(ConfigurationSpace({"op2": ["absent", "conv"]})["op2"])
    generator = ArchitectureConfigGenerator(Told(SearchSpace(today)))
    generator.new_result(job({"op": "pool"}, loss=0.5, id=(-1, 0, 0)))
    told = [dict(o.architecture) for o in generator.strategy.told]
    assert told == [{"op": "pool", "op2": "absent"}]
    with pytest.raises(ArchitectureError, match="lacks a choice at 'op2'"):
        generator.new_result(job({"op": "pool"}, loss=0.5, id=(0, 0, 1)))


def test_bad_generators_say_why(space):
    other = SearchSpace(ConfigurationSpace({"op": ["a", "b"]}), name="other")
    with pytest.raises(UnsupportedSpaceError, match="pass space="):
        ArchitectureConfigGenerator("random")
    with pytest.raises(UnsupportedSpaceError, match="searches space 'other'"):
        ArchitectureConfigGenerator(strategies.create("random", other), space)
    with pytest.raises(ValueError, match="'largest' with a max_budget"):
        ArchitectureConfigGenerator("random", space, observe="largest")
    with pytest.raises(ArchitectureError, match="has label 'op2'"):
        ArchitectureConfigGenerator("random", space).new_result(job({"op2": "a"}, loss=0.5))


# -- master -----------------------------------------------------------------------------


@pytest.fixture
def place():
    server = NameServer(run_id="test", host="127.0.0.1", port=0)
    host, port = server.start()
    assert host == "127.0.0.1"
    before = set(threading.enumerate())
    yield {"run_id": "test", "nameserver": host, "nameserver_port": port}
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]
    server.shutdown()
    assert not left


@pytest.fixture
def optimizer(place, tmp_path):
    """Makes masters, and shuts them down."""
    made = []

    def make(cls=ArchitectureOptimizer, *args, **options):
        made.append(cls(*args, **place, working_directory=tmp_path, **options))
        return made[-1]

    yield make
    for master in made:
        master.shutdown(shutdown_workers=True)


def brackets(master, number):
    iterations = [master.get_next_iteration(i, {}) for i in range(number)]
    return [(list(i.num_configs), [round(float(b), 9) for b in i.budgets]) for i in iterations]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            "hyperband",
            [([9, 3, 1], [1, 3, 9]), ([3, 1], [3, 9]), ([3], [9]), ([9, 3, 1], [1, 3, 9])],
        ),
        ("successive_halving", [([9, 3, 1], [1, 3, 9])] * 4),
        ("full", [([1], [9])] * 4),
    ],
)
def test_schedules(optimizer, space, schedule, expected):
    assert brackets(optimizer(strategy="random", space=space, schedule=schedule), 4) == expected


@pytest.mark.parametrize("max_budget", [3, 9, 27, 81])
def test_brackets_are_those_of_hpbandster(optimizer, space, max_budget):
    ours = optimizer(strategy="random", space=space, max_budget=max_budget)
    theirs = optimizer(
        mended(HyperBand), configspace=space.config_space, min_budget=1, max_budget=max_budget
    )
    assert brackets(ours, 6) == brackets(theirs, 6)
    assert ours.config["budgets"] == theirs.config["budgets"]


@pytest.mark.parametrize(
    ("least", "most", "eta", "rungs"),
    [(1, 243, 3, 6), (0.1, 0.9, 3, 3), (1, 1000, 10, 4), (1, 8, 3, 2)],
)
def test_no_rung_is_lost_to_rounding(optimizer, space, least, most, eta, rungs):
    master = optimizer(strategy="random", space=space, min_budget=least, max_budget=most, eta=eta)
    assert len(master.budgets) == rungs
    assert master.budgets[-1] == most
    assert master.budgets[0] >= least * (1 - 1e-9)


@pytest.mark.parametrize("wrong", [{"min_budget": 10}, {"eta": 1}, {"schedule": "some"}])
def test_bad_brackets_say_why(space, wrong):
    with pytest.raises(ValueError, match="expected"):
        ArchitectureOptimizer(space=space, run_id="test", **wrong)


def test_without_a_name_server_there_is_an_error_and_no_thread(space):
    before = threading.active_count()
    with pytest.raises(NameServerError, match="no name server answers at 127.0.0.1:1 "):
        ArchitectureOptimizer(space=space, run_id="test", nameserver_port=1)
    assert threading.active_count() == before


def test_a_master_that_cannot_be_mended_leaves_no_thread(place):
    config_space = ConfigurationSpace()
    config_space.add(Constant("fixed", "only"))
    with pytest.raises(UnsupportedSpaceError, match="no model for 'fixed', a Constant"):
        mended(H2BO)(configspace=config_space, min_budget=1, max_budget=9, **place)


def test_h2bo_takes_a_configuration_that_is_run_again(optimizer, space):
    generator = optimizer(mended(H2BO), configspace=space.config_space).config_generator
    first, second = ({"op": "conv", "skip": s, "depth": 1, "width": 2} for s in (True, False))
    for config in (first, second, first):
        generator.new_result(job(config, loss=0.5))
    assert generator.losses == {9.0: [[0.5, 0.5], [0.5]]}


def test_bohb_takes_ordered_choices_also_as_its_first_argument(optimizer):
    rate = Categorical("rate", [0.1, 0.2, 0.4], ordered=True)
    config_space = ConfigurationSpace()
    config_space.add(rate)
    master = optimizer(mended(BOHB), config_space, min_budget=1, max_budget=9)
    config, _ = master.config_generator.get_config(9)
    assert config["rate"] in rate.sequence


def test_mending_twice_is_mending_once():
    assert mended(mended(HyperBand)) is mended(HyperBand)
    assert mended(ArchitectureOptimizer) is ArchitectureOptimizer


class Careless(Worker):
    """Somebody else's worker."""

    loss = 0.5

    def compute(self, config_id, config, budget, working_directory):
        assert type(budget) is float
        return {"loss": self.loss, "info": {}}


@pytest.fixture
def careless(place):
    def start(loss):
        worker = Careless(**place, host="127.0.0.1", logger=logging.getLogger("hpbandster"))
        worker.loss = loss
        worker.run(background=True)

    return start


@pytest.mark.parametrize("loss", [None, math.nan, math.inf, "low"])
def test_a_run_without_a_number_for_loss_has_failed(optimizer, careless, space, loss):
    careless(loss)
    master = optimizer(strategy=Told(space), schedule="full", max_budget=np.float64(2))
    result = master.run(n_iterations=2)
    assert [r.loss for r in result.get_all_runs()] == [None, None]
    assert all("expected a finite number" in r.error_logs for r in result.get_all_runs())
    assert [o.score for o in master.config_generator.strategy.told] == [None, None]


class Broken(strategies.RandomSearch):
    def _observe(self, observation):
        raise ArithmeticError("singular matrix")


def test_an_error_on_the_callback_thread_is_raised_by_run(optimizer, careless, space):
    careless(0.5)
    master = optimizer(strategy=Broken(space), schedule="full")
    with pytest.raises(ArithmeticError, match="singular matrix"):
        master.run(n_iterations=3)


class Exhausted(strategies.RandomSearch):
    def _propose(self, number, rng):
        if number == 1:
            raise StopIteration("nothing left to propose")
        return super()._propose(number, rng)


def test_an_error_of_a_proposal_is_raised_by_run(optimizer, careless, space):
    careless(0.5)
    master = optimizer(strategy=Exhausted(space), schedule="full")
    with pytest.raises(StopIteration, match="nothing left"):
        master.run(n_iterations=3)
    late = threading.Thread(target=master.fail, args=(RuntimeError("late"),), daemon=True)
    late.start()
    late.join(5)
    assert not late.is_alive()  # the lock was given back


def test_warm_start_tells_in_order_of_completion(optimizer, careless, space):
    careless(0.5)
    first = optimizer(strategy=Told(space), max_budget=3)
    result = first.run(n_iterations=2)
    told = first.config_generator.strategy.told
    first.shutdown()
    second = optimizer(strategy=Told(space), max_budget=3, previous_result=result)
    assert second.config_generator.strategy.told == told
    assert len(told) == 6


# -- worker -----------------------------------------------------------------------------


def test_worker_returns_plain_values(space, tmp_path):
    def evaluate(architecture, budget):
        assert budget == Budget(epochs=3)
        return np.float32(0.75), {"val_acc": np.float64(0.75), "confusion": np.eye(2)}

    worker = ArchitectureWorker(space, run_id="test", evaluate=evaluate)
    config = {"op": np.str_("conv"), "skip": np.bool_(True), "depth": np.int64(2), "width": 1}
    result = worker.compute((0, 0, 1), config, 3.0, str(tmp_path))
    assert result["loss"] == 0.25
    assert type(result["loss"]) is float
    assert result["info"].pop("seconds") >= 0
    assert result["info"] == {
        "architecture": {"op": "conv", "skip": True, "depth": 2, "width": 1},
        "architecture_id": Architecture(config).id,
        "metrics": {"val_acc": 0.75, "confusion": [[1.0, 0.0], [0.0, 1.0]]},
    }
    assert serpent.loads(serpent.dumps(result)) == result


def test_worker_raises_what_hpbandster_reports(space, tmp_path):
    def compute(config, evaluate):
        worker = ArchitectureWorker(space, run_id="test", evaluate=evaluate)
        return worker.compute((0, 0, 0), config, 1.0, str(tmp_path))

    legal = {"op": "pool", "skip": True, "depth": 1}
    with pytest.raises(ScoreError, match="is nan"):
        compute(legal, lambda architecture, budget: math.nan)
    with pytest.raises(RuntimeError, match="called sys.exit"):
        compute(legal, lambda architecture, budget: sys.exit(1))
    with pytest.raises(ArchitectureError, match="'width'"):
        compute({**legal, "op": "conv"}, lambda architecture, budget: 0.5)


def test_worker_hands_on_where_weights_come_from(tmp_path):
    from lightning_modules import DigitsDataModule, NearestChild

    space = load("nas_bench_201", channels=2, num_cells=1)
    training = {"accelerator": "cpu", "inherit": NearestChild(tmp_path)}
    worker = ArchitectureWorker(
        space, run_id="test", data=DigitsDataModule(data_fraction=0.1), training=training
    )
    first = worker.compute((0, 0, 0), space.default(), 1.0, str(tmp_path))
    near = {**space.default(), "cell/3<-0": "nor_conv_1x1"}
    second = worker.compute((0, 0, 1), near, 1.0, str(tmp_path))
    promoted = worker.compute((0, 0, 1), near, 2.0, str(tmp_path))
    assert first["info"]["inherited"] is None
    assert second["info"]["inherited"]["checkpoint"] == first["info"]["checkpoint"]
    assert promoted["info"]["inherited"] == second["info"]["inherited"]


def test_worker_weighs_and_limits_what_a_child_costs(tmp_path):
    from lightning_modules import DigitsDataModule

    space = load("nas_bench_201", channels=2, num_cells=1)
    worth = Worth(
        targets={"latency_ms": 2.0},
        limits={"parameters": 4_000},
        table=LatencyTable({}, constant_ms=4.0),
    )
    worker = ArchitectureWorker(
        space,
        run_id="test",
        data=DigitsDataModule(data_fraction=0.1),
        training={"accelerator": "cpu"},
        worth=pickle.loads(pickle.dumps(worth)),
    )
    result = worker.compute((0, 0, 0), space.default(), 1.0, str(tmp_path))
    metrics = result["info"]["metrics"]
    assert metrics["latency_ms"] == 4.0
    assert metrics["parameters"] <= 4_000
    assert 1 - result["loss"] == pytest.approx(metrics["val_acc"] * 2**-0.07)
    large = dict.fromkeys(space.decisions, "nor_conv_3x3")
    with pytest.raises(InfeasibleError, match="parameters is"):
        worker.compute((0, 0, 1), large, 1.0, str(tmp_path))


def test_worker_leaves_logging_alone(space):
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    ArchitectureWorker(space, run_id="test")
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before


@pytest.mark.parametrize(("budget", "expected"), [(0.1, 1), (1.0, 1), (2.9999999, 3), (27.0, 27)])
def test_budgets_are_epochs(budget, expected):
    assert epochs(budget) == Budget(epochs=expected)


# -- walls ------------------------------------------------------------------------------

OTHERS = ("optuna", "nni", "pytorch_lightning", "lightning", "lightning_modules")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_nothing_else_is_needed():
    done = python(
        f"import sys; [sys.modules.__setitem__(name, None) for name in {OTHERS}]\n"
        "import nas_plugins.hpbandster as host\n"
        "[getattr(host, name) for name in host.__all__]\n"
        "assert 'torch' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_absence_names_the_install_line():
    done = python("import sys; sys.modules['hpbandster'] = None\nimport nas_plugins.hpbandster")
    assert "MissingExtraError" in done.stderr
    assert "pip install 'nas-plugins[hpbandster]'" in done.stderr
