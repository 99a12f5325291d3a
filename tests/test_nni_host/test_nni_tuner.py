import json
import logging
import sqlite3
import subprocess
import sys

import nni
import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition
from nni.algorithms.hpo.medianstop_assessor import MedianstopAssessor
from nni.runtime import msg_dispatcher
from nni.runtime.tuner_command_channel import CommandType

from nas_plugins import Architecture, SearchSpace, spaces, strategies
from nas_plugins.nni import ArchitectureTuner, architecture_of, parameters_of, report, to_nni
from nas_plugins.nni.__main__ import main
from nas_plugins.nni.metric import failure_metric, final_metric
from nas_plugins.strategies import StrategyNameError

OPTIONS = {"population_size": 4, "sample_size": 2}


def conditional_space():
    space = ConfigurationSpace({"op": ["conv", "pool"], "k": [1, 3, 5], "n": (1, 9)})
    space.add(EqualsCondition(space["k"], space["op"], "conv"))
    return SearchSpace(space)


def score_of(architecture):
    return int(architecture.id, 16) / 16**12


def started(searched=None, **options):
    tuner = ArchitectureTuner(**{"strategy": "regularized_evolution", **OPTIONS, **options})
    tuner.update_search_space(json.loads(json.dumps(to_nni(searched or conditional_space()))))
    return tuner


class Experiment:
    """NNI's dispatcher and database around a tuner, without the processes."""

    def __init__(self, directory, space=None):
        self.space = space or conditional_space()
        self.directory = directory
        (directory / "db").mkdir(parents=True)
        (directory / "checkpoint").mkdir()
        self.db = sqlite3.connect(directory / "db" / "nni.sqlite", isolation_level=None)
        self.db.execute(
            "create table TrialJobEvent (timestamp integer, trialJobId text, event text, data text)"
        )
        self.db.execute(
            "create table MetricData "
            "(timestamp integer, trialJobId text, type text, sequence integer, data text)"
        )
        self.db.execute("create table ExperimentProfile (params text, revision integer)")
        self.clock = 0

    def tick(self):
        self.clock += 1
        return self.clock

    def submit(self, trial_id, parameters, source="algorithm"):
        packed = {"parameter_id": 0, "parameter_source": source, "parameters": parameters}
        self.event(trial_id, "RUNNING", packed)

    def event(self, trial_id, event, data=None):
        row = (self.tick(), trial_id, event, None if data is None else json.dumps(data))
        self.db.execute("insert into TrialJobEvent values (?, ?, ?, ?)", row)

    def metric(self, trial_id, value, kind="FINAL", sequence=0):
        row = (self.tick(), trial_id, kind, sequence, json.dumps(nni.dump(value)))
        self.db.execute("insert into MetricData values (?, ?, ?, ?, ?)", row)

    def resumed(self, monkeypatch, imported=(), **options):
        monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(self.directory / "checkpoint"))
        tuner = ArchitectureTuner(**{"strategy": "regularized_evolution", **OPTIONS, **options})
        tuner.load_checkpoint()
        tuner.update_search_space(to_nni(self.space))
        tuner.import_data(list(imported))
        return tuner


def drive(tuner, num, experiment=None, start=0):
    """Trials one after another, as NNI would run them; their architectures."""
    found = []
    for i in range(start, start + num):
        parameters = tuner.generate_parameters(i)
        architecture = architecture_of(tuner._ready().space, parameters)
        value = final_metric(architecture, score_of(architecture))
        if experiment is not None:
            experiment.submit(f"t{i}", parameters)
            experiment.metric(f"t{i}", value)
            experiment.event(f"t{i}", "SUCCEEDED")
        tuner.receive_trial_result(i, parameters, value, trial_job_id=f"t{i}")
        tuner.trial_end(i, True)
        found.append(architecture)
    return found


@pytest.mark.parametrize("name", sorted(strategies.REGISTRY))
def test_same_seed_same_architectures_as_the_strategy_itself(name):
    # What comes as NNI's JSON has no canonical form, which some strategies look at.
    space = SearchSpace(spaces.load("nas_bench_201").config_space)
    options = OPTIONS if name == "regularized_evolution" else {}
    tuner = ArchitectureTuner(name, seed=7, **options)
    tuner.update_search_space(json.loads(json.dumps(to_nni(space))))
    strategy = strategies.create(name, space, seed=7, **options)
    for architecture in drive(tuner, 20):
        assert architecture == strategy.ask()
        strategy.tell(architecture, score_of(architecture))


def test_a_space_by_name_is_searched_like_the_generated_one(tmp_path):
    space = spaces.load("nas_bench_201")
    (tmp_path / "space.json").write_text(space.to_json())
    expected = drive(started(space), 8)
    assert drive(started(space, space="nas_bench_201"), 8) == expected
    assert drive(started(space, space=str(tmp_path / "space.json")), 8) == expected
    with pytest.raises(ValueError, match="not that of 'nas_bench_201'"):
        started(space="nas_bench_201")


def test_a_users_own_search_space_gets_its_own_parameters_back():
    own = {
        "lr": {"_type": "loguniform", "_value": [1e-4, 1]},
        "op": {
            "_type": "choice",
            "_value": [{"_name": "a", "n": {"_type": "randint", "_value": [0, 9]}}, {"_name": "b"}],
        },
    }
    tuner = ArchitectureTuner("random")
    tuner.update_search_space(own)
    for i in range(20):
        parameters = tuner.generate_parameters(i)
        assert 1e-4 <= parameters["lr"] <= 1
        assert set(parameters["op"]) == (
            {"_name", "n"} if parameters["op"]["_name"] == "a" else {"_name"}
        )
        tuner.receive_trial_result(i, parameters, 0.5)  # a plain number, from a plain trial
    assert [o.score for o in tuner.history] == [0.5] * 20


def test_the_metric_is_believed_not_the_parameter_id():
    tuner = started()
    first, second = (tuner.generate_parameters(i) for i in range(2))
    measured = architecture_of(conditional_space(), second)
    assert first != second
    tuner.receive_trial_result(0, first, final_metric(measured, 0.9), trial_job_id="x")
    assert tuner.history[0].architecture == measured


def test_minimize_is_turned_once():
    tuner = started(optimize_mode="minimize")
    tuner.receive_trial_result(0, tuner.generate_parameters(0), {"default": 3.0})
    assert tuner.history[0].score == -3.0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "final metric is nan"),
        (float("inf"), "final metric is inf"),
        ({"default": float("-inf")}, "-inf"),
        ({"default": "0.5"}, "'0.5'"),
        ({"accuracy": 0.5}, "expected a finite number"),
        (True, "True"),
        (None, "None"),
    ],
)
def test_what_is_no_score_is_told_as_failed_and_named(value, reason, caplog):
    tuner = started()
    parameters = tuner.generate_parameters(0)
    with caplog.at_level(logging.WARNING, "nni.nas_plugins.tuner"):
        tuner.receive_trial_result(0, parameters, value, trial_job_id="x")
    (observation,) = tuner.history
    assert observation.score is None
    assert observation.architecture == architecture_of(conditional_space(), parameters)
    assert reason in caplog.text
    assert observation.architecture.id in caplog.text


def test_a_trial_that_reports_its_own_failure():
    tuner = started()
    tuner.generate_parameters(0)
    failed = Architecture({"op": "pool", "n": 2})
    tuner.receive_trial_result(0, {}, failure_metric(failed, "ValueError: no"), trial_job_id="x")
    assert [(o.architecture, o.score) for o in tuner.history] == [(failed, None)]


def test_a_trial_that_died_without_a_word_is_told_once_it_is_certain_which():
    tuner = started()
    proposed = [tuner.generate_parameters(i) for i in range(2)]
    tuner.trial_end(1, False)  # NNI's id may be wrong: it is trial 0 that died
    proposed.append(tuner.generate_parameters(2))
    assert not tuner.history
    for i in (1, 2):
        tuner.receive_trial_result(i, proposed[i], 0.1, trial_job_id=str(i))
        tuner.trial_end(i, True)
    tuner.generate_parameters(3)
    dead = architecture_of(conditional_space(), proposed[0])
    assert [o.score for o in tuner.history] == [0.1, 0.1, None]
    assert tuner.history[2].architecture == dead


def test_a_second_final_metric_of_a_trial_is_ignored():
    tuner = started()
    parameters = tuner.generate_parameters(0)
    for _ in range(2):
        tuner.receive_trial_result(0, parameters, 0.5, trial_job_id="x")
    assert len(tuner.history) == 1


def test_a_grid_ends():
    space = SearchSpace(ConfigurationSpace({"a": ["x", "y"], "b": [1, 2]}))
    tuner = ArchitectureTuner("grid")
    tuner.update_search_space(to_nni(space))
    # NNI's base class ends the list where NoMoreTrialError was raised.
    found = tuner.generate_multiple_parameters(list(range(9)))
    assert [architecture_of(space, p) for p in found] == list(space.enumerate())
    with pytest.raises(nni.NoMoreTrialError):
        tuner.generate_parameters(9)


def test_import_tells_each_result_once(caplog):
    space = conditional_space()
    tuner = started()
    rng = np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(3)]
    entries = [
        {"parameter": parameters_of(space, a), "value": 0.1 * i, "trialJobId": str(i)}
        for i, a in enumerate(architectures)
    ]
    entries[1]["value"] = final_metric(architectures[2], 0.7)  # NNI paired it wrongly
    tuner.import_data(entries)
    tuner.import_data(entries)
    assert [o.architecture for o in tuner.history] == [architectures[i] for i in (0, 2, 2)]
    tuner.import_data([{"parameter": {"zz": 1}, "value": 1.0}])
    assert len(tuner.history) == 3
    assert "another space" in caplog.text
    assert "'zz'" in caplog.text
    # Results of others take no proposal's number.
    strategy = strategies.create("regularized_evolution", space, **OPTIONS)
    strategy.replay(tuner.history)
    assert architecture_of(space, tuner.generate_parameters(0)) == strategy.ask(0)


def test_history_from_the_export_of_another_experiment(tmp_path):
    experiment = Experiment(tmp_path / "old")
    first = started()
    drive(first, 6, experiment)
    rows = report(str(experiment.directory))
    assert [row["score"] for row in rows] == [o.score for o in first.history]
    (tmp_path / "export.json").write_text(json.dumps(rows))
    second = started(history=str(tmp_path / "export.json"))
    assert second.history == first.history
    second.import_data(rows)  # what `nnictl experiment import` would send
    assert second.history == first.history


def test_results_of_a_space_that_has_grown_since(tmp_path, caplog):
    before = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "n": (1, 9)}))
    experiment = Experiment(tmp_path / "old", before)
    first = started(before)
    drive(first, 4, experiment)
    rows = report(str(experiment.directory))
    today = ConfigurationSpace({"op": ["conv", "pool", "skip"], "n": (1, 12)})
    today.add(ConfigurationSpace({"op2": ["absent", "conv"]})["op2"])
    grown = started(SearchSpace(today))
    grown.import_data(rows)
    assert [dict(o.architecture) for o in grown.history] == [
        {**o.architecture, "op2": "absent"} for o in first.history
    ]
    assert [o.score for o in grown.history] == [o.score for o in first.history]
    shrunk = started(SearchSpace(ConfigurationSpace({"op": ["skip", "identity"], "n": (1, 9)})))
    shrunk.import_data(rows)
    assert not shrunk.history
    assert "another space" in caplog.text


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_resume_goes_on_as_if_never_stopped(tmp_path, monkeypatch, cut):
    unbroken = started()
    expected = drive(unbroken, 12)
    experiment = Experiment(tmp_path / "e")
    drive(started(), cut, experiment)
    exported = [{"parameter": {}, "value": 0.0, "trialJobId": "?"}]  # NNI's own pairs: ignored
    resumed = experiment.resumed(monkeypatch, exported)
    assert resumed.history == unbroken.history[:cut]
    assert drive(resumed, 12 - cut, experiment, start=cut) == expected[cut:]
    again = experiment.resumed(monkeypatch)
    assert again.history == unbroken.history


def test_resume_repeats_what_was_cut_off_and_doubles_nothing(tmp_path, monkeypatch):
    experiment = Experiment(tmp_path / "e")
    tuner = started()
    drive(tuner, 2, experiment)
    # Two at once; NNI's rows have them the wrong way round, and one finishes.
    mine, other = tuner.generate_parameters(2), tuner.generate_parameters(3)
    finished = architecture_of(experiment.space, other)
    experiment.submit("t2", mine)
    experiment.submit("t3", other)
    experiment.metric("t2", final_metric(finished, 0.5))
    experiment.event("t2", "SUCCEEDED")
    failed = tuner.generate_parameters(4)
    experiment.submit("t4", failed)
    experiment.metric("t4", failure_metric(architecture_of(experiment.space, failed), "no"))
    experiment.event("t4", "FAILED")
    imported = [{"parameter": failed, "value": 0.25}]  # by the user, before the stop
    experiment.event("", "IMPORT_DATA", imported)

    resumed = experiment.resumed(monkeypatch, imported)
    scores = [o.score for o in resumed.history]
    assert scores[2:] == [0.5, None, 0.25]
    assert architecture_of(
        experiment.space, resumed.generate_parameters(1)
    ) == resumed._ready().ask(5)
    # NNI now runs t3 again, with what t2 has already finished, and hands it in as an import.
    value = final_metric(finished, 0.6)
    experiment.event("t3", "ADD_RESUMED")
    experiment.metric("t3", value)
    experiment.event("t3", "SUCCEEDED")
    resumed.import_data([{"parameter": other, "value": value}])
    assert [o.score for o in resumed.history] == scores
    assert [o.score for o in experiment.resumed(monkeypatch).history] == scores


def test_resume_takes_the_late_result_of_a_repeated_trial(tmp_path, monkeypatch):
    experiment = Experiment(tmp_path / "e")
    tuner = started()
    drive(tuner, 2, experiment)
    experiment.submit("t2", parameters := tuner.generate_parameters(2))
    resumed = experiment.resumed(monkeypatch)
    architecture = architecture_of(experiment.space, parameters)
    resumed.import_data([{"parameter": parameters, "value": final_metric(architecture, 0.5)}])
    assert resumed.history[2:] == [strategies.Observation(architecture, 0.5)]
    experiment.event("t2", "ADD_RESUMED")
    experiment.metric("t2", final_metric(architecture, 0.5))
    experiment.event("t2", "SUCCEEDED")
    rows = report(str(experiment.directory))
    resumed.import_data(rows)  # the experiment's own export: nothing new
    experiment.event("", "IMPORT_DATA", rows)
    assert len(resumed.history) == 3
    assert experiment.resumed(monkeypatch).history == resumed.history


def test_nnis_own_export_is_imported_live_on_resume_and_as_history(tmp_path, monkeypatch):
    """It holds each metric as JSON text, which only NNI's live import decodes."""
    space = conditional_space()
    found = [space.default(), Architecture({"op": "pool", "n": 2})]
    values = [final_metric(found[0], 0.5), 0.25]
    export = [
        {"parameter": dict(a), "value": nni.dump(v), "trialJobId": f"x{i}"}
        for i, (a, v) in enumerate(zip(found, values, strict=True))
    ]
    expected = [(found[0], 0.5), (found[1], 0.25)]
    experiment = Experiment(tmp_path / "e")
    experiment.event("", "IMPORT_DATA", export)
    (tmp_path / "export.json").write_text(json.dumps(export))
    live = started()
    live.import_data([{**entry, "value": nni.load(entry["value"])} for entry in export])
    history = started(history=str(tmp_path / "export.json"))
    for tuner in (live, experiment.resumed(monkeypatch), history):
        assert [(o.architecture, o.score) for o in tuner.history] == expected


@pytest.mark.parametrize("told", ["true", "false"])
def test_a_trial_that_an_assessor_stopped(told, tmp_path, monkeypatch):
    """NNI's dispatcher and its median rule stop it, and tell the tuner how far it was or not."""
    environment = msg_dispatcher.dispatcher_env_vars._replace(NNI_INCLUDE_INTERMEDIATE_RESULTS=told)
    monkeypatch.setattr(msg_dispatcher, "dispatcher_env_vars", environment)
    monkeypatch.setattr("nas_plugins.nni.tuner.dispatcher_env_vars", environment)
    monkeypatch.setattr(msg_dispatcher, "_next_parameter_id", 0)
    for name in ("_ended_trials", "_trial_history"):
        getattr(msg_dispatcher, name).clear()
    tuner, experiment, sent = ArchitectureTuner(**OPTIONS), Experiment(tmp_path / "e"), []
    dispatcher = msg_dispatcher.MsgDispatcher(
        "ws://_unittest_tuner_", tuner, MedianstopAssessor("maximize")
    )
    monkeypatch.setattr(dispatcher, "send", lambda command, data: sent.append((command, data)))
    monkeypatch.setattr(
        dispatcher, "enqueue_command", lambda _, data: dispatcher.handle_report_metric_data(data)
    )
    dispatcher.handle_initialize(to_nni(experiment.space))
    dispatcher.handle_request_trial_jobs(2)
    packed = [data for _, data in sent[1:]]

    def report_metric(i, kind, value):
        experiment.metric(f"t{i}", value, kind)
        message = {"parameter_id": i, "trial_job_id": f"t{i}", "type": kind, "sequence": 0}
        dispatcher.handle_report_metric_data({**message, "value": nni.dump(value)})

    for i, (score, end) in enumerate([(0.8, "SUCCEEDED"), (0.3, "EARLY_STOPPED")]):
        parameters = nni.load(packed[i])["parameters"]
        architecture = architecture_of(experiment.space, parameters)
        experiment.submit(f"t{i}", parameters)
        report_metric(i, "PERIODICAL", final_metric(architecture, score))
        if end == "SUCCEEDED":
            report_metric(i, "FINAL", final_metric(architecture, score))
        experiment.event(f"t{i}", end)
        data = {"trial_job_id": f"t{i}", "event": end, "hyper_params": packed[i]}
        dispatcher.handle_trial_end(data)
    assert CommandType.KillTrialJob in [command for command, _ in sent]
    resumed = experiment.resumed(monkeypatch)
    assert tuner.generate_parameters(2) == resumed.generate_parameters(2)
    assert tuner.history == resumed.history
    assert [o.score for o in tuner.history] == [0.8, 0.3 if told == "true" else None]
    row = report(str(experiment.directory))[1]
    assert (row["status"], row["score"]) == ("EARLY_STOPPED", 0.3)
    assert row["architecture"] == dict(architecture)


def test_a_trial_that_was_killed_has_the_last_score_it_reported(tmp_path):
    """NNI stores in disorder what comes quickly, and mostly calls such a trial cancelled."""
    experiment = Experiment(tmp_path / "e")
    architecture = experiment.space.default()
    experiment.submit("t", parameters_of(experiment.space, architecture))
    for sequence, score in [(0, 0.1), (2, 0.3), (1, 0.2)]:
        experiment.metric("t", final_metric(architecture, score), "PERIODICAL", sequence)
    experiment.event("t", "USER_CANCELED")
    (row,) = report(str(experiment.directory))
    assert (row["status"], row["score"]) == ("USER_CANCELED", 0.3)
    assert row["architecture"] == dict(architecture)


@pytest.mark.parametrize(
    ("params", "best_first"),
    [
        ({"tuner": {"classArgs": {"optimize_mode": "minimize"}}}, [0.1, 0.5, 0.9]),
        ({"tuner": {"classArgs": {"optimize_mode": "maximize"}}}, [0.9, 0.5, 0.1]),
        ({"tuner": {"name": "Random"}}, [0.9, 0.5, 0.1]),
        ({}, [0.9, 0.5, 0.1]),
    ],
)
def test_the_best_comes_first_as_the_experiment_means_it(params, best_first, tmp_path, capsys):
    experiment = Experiment(tmp_path / "e")
    for revision, shown in enumerate([{}, params]):
        row = (json.dumps(shown), revision)
        experiment.db.execute("insert into ExperimentProfile values (?, ?)", row)
    for i, score in enumerate([0.5, 0.1, 0.9]):
        experiment.submit(f"t{i}", {"op": "pool", "n": 1})
        experiment.metric(f"t{i}", score)
    experiment.submit("t3", {"op": "pool", "n": 2})
    assert main(["report", str(experiment.directory)]) == 0
    scores = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert scores == [*(f"{score:.4f}" for score in best_first), "-"]


def test_a_relative_directory_is_reported_like_an_absolute_one(tmp_path, monkeypatch):
    experiment = Experiment(tmp_path / "e")
    drive(started(), 2, experiment)
    monkeypatch.chdir(tmp_path)
    rows = report("e")
    assert rows == report(str(experiment.directory))
    assert [row["status"] for row in rows] == ["SUCCEEDED", "SUCCEEDED"]


def test_resume_after_the_search_space_was_changed(tmp_path, monkeypatch, caplog):
    experiment = Experiment(tmp_path / "e")
    drive(started(seed=1), 6, experiment)
    experiment.space = SearchSpace(ConfigurationSpace({"op": ["pool"], "n": (1, 9)}))
    resumed = experiment.resumed(monkeypatch)
    assert 0 < len(resumed.history) < 6
    assert {o.architecture["op"] for o in resumed.history} == {"pool"}
    assert "another space" in caplog.text
    resumed.generate_parameters(1)
    assert resumed._num_proposed == 7


def test_nnis_dispatcher_drives_the_tuner(monkeypatch):
    """Through NNI's own code: packing, final metrics, and the end of trials."""
    sent = []
    tuner = ArchitectureTuner(**OPTIONS)
    dispatcher = msg_dispatcher.MsgDispatcher("ws://_unittest_tuner_", tuner)
    monkeypatch.setattr(dispatcher, "send", lambda command, data: sent.append(data))
    monkeypatch.setattr(msg_dispatcher, "_next_parameter_id", 0)
    space = conditional_space()
    dispatcher.handle_initialize(to_nni(space))
    dispatcher.handle_request_trial_jobs(2)
    packed = [nni.load(data) for data in sent[1:]]
    architecture = architecture_of(space, packed[1]["parameters"])
    dispatcher.handle_report_metric_data(
        {
            "parameter_id": 1,
            "trial_job_id": "t",
            "type": "FINAL",
            "sequence": 0,
            "value": nni.dump(final_metric(architecture, 0.5)),
        }
    )
    dispatcher.handle_trial_end(
        {"trial_job_id": "t", "event": "SUCCEEDED", "hyper_params": sent[2]}
    )
    assert tuner.history == [strategies.Observation(architecture, 0.5)]


def test_a_changed_search_space_keeps_what_still_belongs():
    tuner = started()
    drive(tuner, 8)
    smaller = SearchSpace(ConfigurationSpace({"op": ["pool"], "n": (1, 9)}))
    kept = [o for o in tuner.history if o.architecture["op"] == "pool"]
    tuner.update_search_space(to_nni(smaller))
    assert tuner.history == kept
    assert tuner.generate_parameters(8)["op"] == "pool"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "evolution"}, "unknown strategy 'evolution'.*'regularized_evolution'"),
        ({"population": 3}, "no option 'population'.*population_size"),
    ],
)
def test_unknown_strategy_or_option_is_named_at_once(options, message):
    with pytest.raises(StrategyNameError, match=message):
        ArchitectureTuner(**options)


def test_unknown_mode():
    with pytest.raises(ValueError, match="'max'; expected maximize or minimize"):
        ArchitectureTuner(optimize_mode="max")


def test_the_tuner_needs_no_torch():
    """NNI gives it ten seconds to connect, on any machine."""
    code = (
        "import sys;"
        "from ConfigSpace import ConfigurationSpace;"
        "from nas_plugins import SearchSpace;"
        "from nas_plugins.nni import ArchitectureTuner, to_nni;"
        "tuner = ArchitectureTuner('regularized_evolution', population_size=2, sample_size=1);"
        "tuner.update_search_space(to_nni(SearchSpace(ConfigurationSpace({'a': ['x', 'y']}))));"
        "assert tuner.generate_parameters(0)['a'] in 'xy';"
        "print([m for m in ('torch', 'pytorch_lightning', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_resume_after_trials_that_died_without_a_word(tmp_path, monkeypatch):
    """They are told as failed where they were in the unbroken run, not at the end."""
    tuner, experiment = started(), Experiment(tmp_path / "e")
    drive(tuner, 2, experiment)
    for i in (2, 5):
        experiment.submit(f"t{i}", tuner.generate_parameters(i))
        experiment.event(f"t{i}", "FAILED")
        tuner.trial_end(i, False)
        drive(tuner, 2, experiment, start=i + 1)
    resumed = experiment.resumed(monkeypatch)
    assert [o.score is None for o in tuner.history] == [False, False, True, False, False, True] + [
        False,
        False,
    ]
    assert resumed.history == tuner.history
    assert resumed.generate_parameters(8) == tuner.generate_parameters(8)


def test_what_died_without_a_word_is_not_under_way(monkeypatch):
    tuner = started()
    first, second = tuner.generate_parameters(0), tuner.generate_parameters(1)
    assert first != second
    tuner.trial_end(0, False)
    strategy, asked = tuner._ready(), []

    def ask(number, pending):
        asked.append(pending)
        return strategy.space.default()

    monkeypatch.setattr(strategy, "ask", ask)
    tuner.generate_parameters(2)
    assert asked == [1]  # whichever of the two it is


def test_pending_trials_are_found_in_a_space_that_grew():
    small = SearchSpace(ConfigurationSpace({"op": ["a", "b"]}))
    large = SearchSpace(ConfigurationSpace({"op": ["a", "b", "c"], "n": (1, 3)}))
    tuner = started(small)
    parameters = tuner.generate_parameters(0)
    tuner.update_search_space(to_nni(large))
    value = final_metric(architecture_of(small, parameters), 0.5)
    tuner.receive_trial_result(0, parameters, value, trial_job_id="t0")
    ((architecture, score),) = [(o.architecture, o.score) for o in tuner.history]
    assert architecture in large
    assert score == 0.5
    assert not tuner._pending
