"""Real experiments: ``nnictl``, its manager, the tuner's process and the trials'."""

import json
import time

import pytest
import yaml
from cheap_trial import score_of
from ConfigSpace import ConfigurationSpace
from nni_host import EXAMPLES, Host

from lightning_modules import DigitsDataModule, train_child
from nas_plugins import Architecture, Budget, SearchSpace, spaces, strategies
from nas_plugins.nni import ArchitectureTuner, report, to_nni, write_config
from nas_plugins.nni.__main__ import main

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

OPTIONS = {"population_size": 4, "sample_size": 2}


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.stop()


def cheap_space():
    return SearchSpace(ConfigurationSpace({f"d{i}": ["a", "b", "c", "d"] for i in range(4)}))


def cheap_config(host, space, jitter_s, **options):
    command = f"python -m cheap_trial {jitter_s}"
    return write_config(space, host.home / "config", trial_command=command, **options)


def test_every_score_stands_with_its_architecture_at_four_trials_at_once(host, capsys):
    """16 trials that start and end in disorder, which NNI's own table mixes up."""
    space = cheap_space()
    config = cheap_config(
        host, space, 0.5, max_trials=16, trial_concurrency=4, strategy_options=OPTIONS
    )
    experiment = host.create(config)
    host.wait_done(500)
    jobs = host.get("trial-jobs")
    directory = str(host.directory(experiment))
    rows = report(directory)
    assert len(rows) == 16
    for row in rows:
        assert row["status"] == "SUCCEEDED"
        assert row["score"] == score_of(Architecture(row["architecture"]))
    ours = {row["trial"]: row["parameter"] for row in rows}
    wrong = sum(
        json.loads(job["hyperParameters"][0])["parameters"] != ours[job["trialJobId"]]
        for job in jobs
    )
    # An export starts another experiment with the same, true history.
    export = host.home / "export.json"
    assert main(["export", directory, str(export)]) == 0
    tuner = ArchitectureTuner(history=str(export), **OPTIONS)
    tuner.update_search_space(to_nni(space))
    assert [o.score for o in tuner.history] == [score_of(o.architecture) for o in tuner.history]
    assert len(tuner.history) == 16
    capsys.readouterr()
    assert main(["report", directory]) == 0
    assert (
        capsys.readouterr().out.splitlines()[0].split()[0]
        == max(rows, key=lambda row: row["score"])["trial"]
    )
    print(f"NNI's own table has {16 - wrong} of 16 right")


def test_stop_and_resume_lose_and_double_nothing(host):
    """One trial at a time, stopped in the middle of the third."""
    space = cheap_space()
    config = cheap_config(host, space, 0.5, max_trials=5, seed=2, strategy="random")
    experiment = host.create(config)
    directory = host.directory(experiment)
    host.wait(lambda: len(host.results(experiment)) >= 2, 300, "at two results")
    host.nnictl("stop", experiment)
    before = len(host.results(experiment))
    assert 2 <= before < 5
    host.start("resume", experiment)
    host.wait_done(400)
    log = (directory / "log" / "dispatcher.log").read_text()
    assert f"Resumed with {before} results" in log
    assert "ERROR" not in log
    # Proposals of a random search depend on their number alone: none is missing or twice.
    rows = report(str(directory))
    strategy = strategies.create("random", space, seed=2)
    assert [row["architecture"] for row in rows] == [dict(strategy.ask(i)) for i in range(5)]
    assert len({row["trial"] for row in rows}) == 5
    # Resumed once more, the tuner knows all five; NNI's own import command takes our export.
    export = host.home / "export.json"
    main(["export", str(directory), str(export)])
    host.nnictl("experiment", "import", experiment, "--filename", export)
    host.nnictl("stop", experiment)
    tuner = ArchitectureTuner("random", seed=2)
    tuner.get_checkpoint_path = lambda: str(directory / "checkpoint")
    tuner.load_checkpoint()
    tuner.update_search_space(to_nni(space))
    assert [o.score for o in tuner.history] == [row["score"] for row in rows]
    assert tuner.generate_parameters(1) == dict(strategy.ask(5))


def test_the_assessor_stops_what_will_not_be_better(host):
    space = SearchSpace(ConfigurationSpace({"end": [0.9, 0.3, 0.2, 0.95]}))
    config = write_config(
        space,
        host.home / "config",
        trial_command="python -m curve_trial 30 300",
        strategy="grid",
        max_trials=4,
        epochs=30,
        assessor="learning_curve",
        assessor_options={"min_epochs": 12, "interval": 15},
    )
    experiment = host.create(config)
    host.wait_done(500)
    rows = {row["parameter"]["end"]: row for row in report(str(host.directory(experiment)))}
    # NNI has two names for a trial that it killed; which of them it writes is left to chance.
    assert {end: row["status"] == "SUCCEEDED" for end, row in rows.items()} == {
        0.9: True, 0.3: False, 0.2: False, 0.95: True
    }  # fmt: skip
    for end in (0.3, 0.2):
        assert rows[end]["status"] in ("EARLY_STOPPED", "USER_CANCELED")
        assert rows[end]["score"] == end * (1 - 0.6 * 15**-0.7)  # after half of the epochs


def test_what_hyperband_promotes_goes_on_from_its_checkpoint(host):
    options = {"channels": 2, "num_cells": 1}
    config = write_config(
        "nas_bench_201",
        host.home / "config",
        space_options=options,
        hyperband=2,
        epochs=2,
        max_trials=3,
    )
    changed = yaml.safe_load(config.read_text())
    changed["trialCommand"] += " --data-fraction 0.1 --accelerator cpu"
    changed["trialCommand"] += ' --module-options \'{"schedule": "constant"}\''
    config.write_text(yaml.safe_dump(changed))
    experiment = host.create(config)
    host.wait_done(500)
    rows = report(str(host.directory(experiment)))
    runs = [
        (row["architecture"], row["value"]["epochs"], row["value"]["epochs_saved"]) for row in rows
    ]
    # Hyperband's first bracket: two architectures for one epoch, the better one for two.
    assert [run[1:] for run in runs[:3]] == [(1, 0), (1, 0), (2, 1)]
    best = max(rows[:2], key=lambda row: row["score"])
    assert rows[2]["architecture"] == best["architecture"]
    # Each epoch of each architecture was trained, and reported, once.
    trained = sum(epochs - saved for _, epochs, saved in runs)
    reports = [m for m in host.get("metric-data") if m["type"] == "PERIODICAL"]
    assert len(reports) == trained
    # The unbroken training, under the schedule that does not depend on the length, is the same.
    space = spaces.load("nas_bench_201", **options)
    unbroken = train_child(
        space,
        rows[2]["architecture"],
        DigitsDataModule(),
        budget=Budget(epochs=2, data_fraction=0.1),
        accelerator="cpu",
        schedule="constant",
    )
    assert rows[2]["score"] == unbroken.score


def test_the_digits_example_trains_reports_and_draws(host):
    config = yaml.safe_load((EXAMPLES / "digits.yml").read_text())
    config["maxTrialNumber"] = 3
    config["trialConcurrency"] = 2
    config["trialCommand"] += " --data-fraction 0.1 --epochs 2"
    copy = host.home / "digits.yml"
    copy.write_text(yaml.safe_dump(config))
    (host.home / config["searchSpaceFile"]).write_bytes(
        (EXAMPLES / config["searchSpaceFile"]).read_bytes()
    )
    experiment = host.create(copy)
    host.wait_done(500)
    rows = report(str(host.directory(experiment)))
    space = spaces.load("nas_bench_201")
    assert len(rows) == 3
    for row in rows:
        assert Architecture(row["architecture"]) in space
        assert 0 <= row["score"] <= 1
        assert row["value"]["val_acc"] == row["score"]
        (folder,) = host.directory(experiment).glob(f"environments/*/trials/{row['trial']}")
        assert list(folder.rglob("architecture.svg"))
    metrics = host.get("metric-data")
    assert sum(metric["type"] == "PERIODICAL" for metric in metrics) == 6


def test_an_unknown_strategy_in_a_config_is_named_where_nnictl_points_to(host):
    config = cheap_config(host, cheap_space(), 0.1)
    changed = yaml.safe_load(config.read_text())
    changed["tuner"]["classArgs"]["strategy"] = "evolution"
    config.write_text(yaml.safe_dump(changed))
    experiment = host.create(config)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        log = host.nnictl("log", "stderr", experiment, check=False)
        if "StrategyNameError" in log:
            break
        time.sleep(0.5)
    assert "unknown strategy 'evolution'; expected one of" in log
    assert "'regularized_evolution'" in log
