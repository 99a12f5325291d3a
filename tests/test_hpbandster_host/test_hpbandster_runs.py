"""Real searches: a name server and worker processes on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hpbandster", reason="the hpbandster extra is not installed")

from ConfigSpace import ConfigurationSpace, EqualsCondition
from hpbandster.core.result import logged_results_to_HBS_result
from hpbandster_toy import (
    always_dies,
    dies_once,
    little_data,
    meets_three_others,
    often_fails,
    toy_score,
    toy_space,
)

from lightning_modules import DataError, DigitsDataModule, train_child
from nas_plugins import Architecture, Budget, SearchSpace, UnsupportedSpaceError, strategies
from nas_plugins.drawing import Objective, Result, write_report
from nas_plugins.hpbandster import WorkerDiedError, run
from nas_plugins.spaces import load

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
EVOLUTION = {"population_size": 4, "sample_size": 2}


@pytest.fixture(scope="module")
def space():
    return toy_space()


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    before = set(threading.enumerate())
    yield
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]
    for thread in left:
        thread.join(5)
    assert not [t for t in left if t.is_alive()]


@pytest.fixture(scope="module")
def hyperband(space, tmp_path_factory):
    directory = tmp_path_factory.mktemp("hyperband") / "run"
    result = run(
        space, optimizer="hyperband", num_iterations=3, evaluate=toy_score, directory=directory
    )
    return directory, result


def check(space, result, *, failed=0):
    """Every run is of a legal architecture at its budget, and its loss has the right sign."""
    runs = result.get_all_runs()
    configs = result.get_id2config_mapping()
    assert sum(r.loss is None for r in runs) == failed
    for r in runs:
        architecture = space.validate(configs[r.config_id]["config"])
        if r.loss is not None:
            assert r.info["architecture"] == dict(architecture)
            expected = toy_score(architecture, Budget(epochs=round(r.budget)))
            assert 1 - r.loss == pytest.approx(expected, abs=1e-12)
    return runs


def sequence(result):
    """The architectures in the order in which they were proposed."""
    mapping = result.get_id2config_mapping()
    return [Architecture(mapping[key]["config"]) for key in sorted(mapping)]


def test_own_hyperband_has_numpy_budgets_and_does_not_hang(space, hyperband):
    directory, result = hyperband
    # Brackets of eta 3 over budgets 1, 3, 9: 9+3+1, 3+1, 3 runs.
    assert len(check(space, result)) == 20
    assert result.HB_config["budgets"] == [1.0, 3.0, 9.0]
    loaded = logged_results_to_HBS_result(str(directory))
    assert len(check(space, loaded)) == 20
    assert loaded.get_incumbent_id() == result.get_incumbent_id()


def test_a_page_of_the_search(space, hyperband, tmp_path):
    """As the documentation has it."""
    _, result = hyperband
    configs = result.get_id2config_mapping()
    runs = [r for r in result.get_all_runs() if r.loss is not None]
    largest = max(r.budget for r in runs)
    results = [
        Result(i, Architecture(configs[r.config_id]["config"]), (r.loss,))
        for i, r in enumerate(r for r in runs if r.budget == largest)
    ]
    assert len(results) == 1 + 1 + 3
    loss = Objective("loss", maximize=False)
    page = write_report(space, results, tmp_path / "search.html", objectives=[loss])
    assert all(result.architecture.id in page.read_text("utf-8") for result in results)


def test_own_bohb_warm_started_builds_its_model_from_the_earlier_run(space, hyperband):
    _, previous = hyperband
    result = run(
        space,
        optimizer="bohb",
        num_iterations=6,
        evaluate=toy_score,
        previous_result=previous,
        random_fraction=0.0,
    )
    assert len(check(space, result)) == 20 + 40
    picks = [c["config_info"] for k, c in result.get_id2config_mapping().items() if k[0] >= 0]
    assert len(picks) == 30
    assert sum(info["model_based_pick"] for info in picks) > 5


def batch_size_of(architecture, budget):
    return architecture["train/batch_size"] / 1000


def test_own_bohb_takes_ordered_choices():
    """Architectures with the hyper-parameters of their training, of which one is ordered."""
    space = load("joint", channels=4, num_cells=1)
    result = run(space, optimizer="bohb", num_iterations=4, evaluate=batch_size_of, seed=1)
    configs = result.get_id2config_mapping()
    runs = result.get_all_runs()
    assert len(runs) == 13 + 4 + 3 + 13
    for one in runs:
        architecture = space.validate(configs[one.config_id]["config"])
        assert 1 - one.loss == pytest.approx(architecture["train/batch_size"] / 1000)


def test_own_random_search_names_its_budgets(space):
    result = run(space, optimizer="random", num_iterations=2, evaluate=toy_score)
    assert {r.budget for r in check(space, result)} == {9}
    configs, losses = result.get_pandas_dataframe()
    assert len(configs) == len(losses) == 6


def b_is_better(architecture, budget):
    return (architecture["op"] == "b") / 2 + architecture["depth"] / 10


def test_own_h2bo_fits_its_model():
    # Few architectures, the good ones all without "width": where H2BO used to fail.
    config_space = ConfigurationSpace({"op": ["a", "b"], "depth": (1, 3), "width": (1, 2)})
    config_space.add(EqualsCondition(config_space["width"], config_space["op"], "a"))
    small = SearchSpace(config_space)
    result = run(small, optimizer="h2bo", num_iterations=4, evaluate=b_is_better)
    mapping = result.get_id2config_mapping()
    assert all(r.loss is not None for r in result.get_all_runs())
    assert any(c["config_info"]["model_based_pick"] for c in mapping.values())


def test_brackets_with_four_workers(space, tmp_path, monkeypatch):
    (tmp_path / "meeting").mkdir()
    monkeypatch.setenv("TOY_MEETING", str(tmp_path / "meeting"))
    result = run(
        space,
        num_iterations=3,
        num_workers=4,
        evaluate=meets_three_others,
        max_budget=np.float64(9),
        min_budget=np.int64(1),
        strategy_options=EVOLUTION,
        directory=tmp_path / "run",
    )
    runs = check(space, result)
    assert len(runs) == 20
    assert len({r.info["metrics"]["pid"] for r in runs}) == 4
    numbers = sorted(c["config_info"]["number"] for c in result.get_id2config_mapping().values())
    assert numbers == list(range(15))
    loaded = logged_results_to_HBS_result(str(tmp_path / "run"))
    assert len(check(space, loaded)) == 20
    # What was promoted is what was best.
    first = {r.config_id: r.loss for r in runs if r.config_id[0] == 0 and r.budget == 1}
    promoted = {r.config_id for r in runs if r.config_id[0] == 0 and r.budget == 3}
    assert sorted(map(first.get, promoted)) == sorted(first.values())[:3]


def test_sequence_is_the_strategys_own_and_resuming_continues_it(space, tmp_path):
    def search(num_iterations, **more):
        return run(
            space,
            schedule="full",
            num_iterations=num_iterations,
            num_workers=1,
            max_budget=2,
            seed=5,
            evaluate=toy_score,
            strategy_options=EVOLUTION,
            **more,
        )

    direct = strategies.create("regularized_evolution", space, seed=5, **EVOLUTION)
    expected = []
    for _ in range(14):
        expected.append(direct.ask())
        direct.tell(expected[-1], toy_score(expected[-1], Budget(epochs=2)))

    search(8, directory=tmp_path / "first")
    previous = logged_results_to_HBS_result(str(tmp_path / "first"))
    assert sequence(previous) == expected[:8]
    resumed = search(6, previous_result=previous)
    assert len(check(space, resumed)) == 14
    # The earlier runs have iteration -1, and so come first.
    assert sequence(resumed) == expected


def test_failing_children_are_failed_runs_and_workers_go_on(space, tmp_path):
    result = run(
        space,
        schedule="full",
        num_iterations=30,
        max_budget=1,
        evaluate=often_fails,
        directory=tmp_path / "run",
        strategy="random",
    )
    runs = result.get_all_runs()
    assert len(runs) == 30
    logs = "\n".join(r.error_logs for r in runs if r.loss is None)
    for cause in ("no memory left", "is nan; expected a finite number", "called sys.exit"):
        assert cause in logs
    succeeded = [r for r in runs if r.loss is not None]
    assert len(succeeded) < 28  # more failures than there are workers to lose
    # Failed runs do not spoil the next search.
    again = run(
        space,
        schedule="full",
        max_budget=1,
        evaluate=toy_score,
        previous_result=logged_results_to_HBS_result(str(tmp_path / "run")),
        strategy_options=EVOLUTION,
    )
    assert len(again.get_all_runs()) == 31


def test_a_worker_lost_on_the_way_costs_one_run(space, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_MARKER", str(tmp_path / "died"))
    result = run(
        space,
        schedule="full",
        num_iterations=6,
        max_budget=1,
        evaluate=dies_once,
        ping_interval=1,
    )
    check(space, result, failed=1)


def test_without_workers_the_search_ends(space):
    with pytest.raises(WorkerDiedError, match="exit code 7.*no worker is left"):
        run(space, num_workers=1, evaluate=always_dies)


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from hpbandster_toy import never_ends, toy_space\n"
        "from nas_plugins.hpbandster import run\n"
        "run(toy_space(), evaluate=never_ends)"
    )
    environment = {**os.environ, "TOY_MEETING": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid):
    """Not ended; a zombie has, though whoever adopted it (in a container) need not reap it."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return status.stdout.strip()[:1] not in ("", "Z")


def wait_until(condition):
    while not condition():  # the test's timeout ends it
        time.sleep(0.05)


def test_what_cannot_be_sent_to_a_worker_is_named(space):
    with pytest.raises(UnsupportedSpaceError, match="top level of a module"):
        run(space, evaluate=lambda architecture, budget: 0.5)


def test_results_are_not_overwritten(space, hyperband):
    directory, _ = hyperband
    with pytest.raises(FileExistsError):
        run(space, evaluate=toy_score, directory=directory)


@pytest.mark.timeout(300)
def test_without_a_directory_no_checkpoint_is_named():

    result = run(
        load("nas_bench_201", channels=4, num_cells=1, in_channels=1),
        optimizer="hyperband",
        num_workers=1,
        max_budget=1,
        training={"accelerator": "cpu", "trainer_options": {"limit_train_batches": 1}},
    )
    (only,) = result.get_all_runs()
    assert only.info["metrics"]["val_acc"] == pytest.approx(1 - only.loss)
    assert only.info["checkpoint"] is None


@pytest.mark.timeout(600)
def test_example_trains_real_children(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "hpbandster_search.py")]
    options = ["--max-budget", "3", "--channels", "4", "--directory", str(tmp_path / "run")]
    done = subprocess.run(command + options, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stderr
    assert "4 runs of 3 architectures" in done.stdout
    result = logged_results_to_HBS_result(str(tmp_path / "run"))
    best = result.get_runs_by_id(result.get_incumbent_id())
    assert [r.budget for r in best] == [1, 3]
    assert best[1].info["metrics"]["val_acc"] == pytest.approx(1 - best[1].loss)
    assert best[1].loss < 0.85  # chance is 0.9
    assert Path(best[1].info["checkpoint"]).is_file()


def test_promoted_children_go_on_from_their_checkpoints(tmp_path):
    space = load("nas_bench_201", channels=2, num_cells=1, in_channels=1)
    training = {"accelerator": "cpu", "schedule": "constant"}
    result = run(
        space,
        strategy="random",
        schedule="successive_halving",
        num_iterations=1,
        eta=2,
        max_budget=4,
        budget=little_data,
        training=training,
        directory=tmp_path,
    )
    runs = result.get_all_runs()
    assert sorted(r.budget for r in runs) == [1, 1, 1, 1, 2, 2, 4]
    # A run of 2 or 4 epochs has found half of them in its checkpoint.
    saved = {r.budget: r.info["epochs_saved"] for r in runs}
    assert saved == {1: 0, 2: 1, 4: 2}
    (longest,) = (r for r in runs if r.budget == 4)
    unbroken = train_child(
        space, longest.info["architecture"], DigitsDataModule(), budget=little_data(4), **training
    )
    assert longest.loss == 1 - unbroken.score
    metrics = longest.info["metrics"]
    assert {name: metrics[name] for name in unbroken.metrics} == unbroken.metrics


def test_mended_arguments_find_the_directory_free(space, tmp_path):
    with pytest.raises(UnsupportedSpaceError):
        run(space, evaluate=lambda architecture, budget: 0.5, directory=tmp_path / "run")
    run(space, evaluate=toy_score, max_budget=1, directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"data": "digits"}, DataError, "expected an ImageDataModule"),
        ({"training": {"lr": 0.1}}, TypeError, "training has 'lr'"),
        ({"num_iterations": 0}, ValueError, "num_iterations is 0"),
    ],
)
def test_what_every_child_would_fail_by_is_refused(space, options, error, text):
    with pytest.raises(error, match=text):
        run(space, **options)
