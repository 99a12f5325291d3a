"""Experiments whose first trial trains a supernet."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import nni
import numpy as np
import pytest
import torch
import yaml
from nni_host import Host
from test_nni_tuner import Experiment, score_of

from lightning_modules import SupernetClassifier
from nas_plugins import Architecture, UnsupportedSpaceError, spaces
from nas_plugins.mutators import MutatorNameError
from nas_plugins.nni import (
    SupernetFirst,
    SupernetTuner,
    architecture_of,
    report,
    supernet_trial,
    to_nni,
    write_config,
)
from nas_plugins.nni.__main__ import main
from nas_plugins.nni.metric import SUPERNET, final_metric
from nas_plugins.nni.supernet_tuner import SupernetFailedError
from nas_plugins.prior import Prior
from nas_plugins.strategies import create

TINY = {"channels": 4, "num_cells": 1}
SPACE = spaces.load("nas_bench_201")


def ranking(num=4):
    rng = np.random.default_rng(1)
    return Prior([(1 / (i + 1), SPACE.sample(rng)) for i in range(num)])


class Manager:
    """NNI's side of the tuner's conversation."""

    def __init__(self, tuner):
        self.tuner, self.sent = tuner, {}

    def request(self, *ids):
        found = self.tuner.generate_multiple_parameters([*ids], st_callback=self.sent.__setitem__)
        self.sent.update(zip(ids, found, strict=False))
        return len(found)

    def result(self, parameter_id, value):
        # Blank parameters are what NNI has once it was told that there are no more trials.
        self.tuner.receive_trial_result(parameter_id, "", value, trial_job_id=f"t{parameter_id}")
        self.tuner.trial_end(parameter_id, True)


def started(**options):
    tuner = SupernetTuner("darts", 3, **{"strategy": "random", "seed": 5, **options})
    tuner.update_search_space(to_nni(SPACE))
    return tuner


def test_requests_wait_for_the_supernet_whose_best_come_first():
    manager, prior = Manager(started()), ranking()
    assert manager.request(0, 1, 2) == 1
    assert manager.sent == {0: {SUPERNET: "darts"}}
    manager.result(0, {SUPERNET: prior.to_dict()})
    assert manager.request(3, 4) == 2
    best = [dict(architecture) for _, architecture in prior.scores[:3]]
    assert [manager.sent[i] for i in (1, 2, 3)] == best
    assert manager.sent[4] == dict(create("random", SPACE, seed=5).ask(3))
    for i in (2, 4, 1, 3):
        architecture = architecture_of(SPACE, manager.sent[i])
        manager.result(i, final_metric(architecture, score_of(architecture)))
    told = manager.tuner.history
    assert [o.architecture for o in told] == [Architecture(manager.sent[i]) for i in (2, 4, 1, 3)]
    assert [o.score for o in told] == [score_of(o.architecture) for o in told]


def test_a_supernet_that_fails_ends_the_experiment_and_says_why():
    manager = Manager(started())
    manager.request(0)
    with pytest.raises(SupernetFailedError, match="failed: RuntimeError: out of memory"):
        manager.result(0, {"error": "RuntimeError: out of memory"})
    with pytest.raises(SupernetFailedError, match="without a word"):
        manager.tuner.trial_end(0, False)


class Resumed(Experiment):
    def tuner(self, monkeypatch):
        monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(self.directory / "checkpoint"))
        tuner = SupernetTuner("darts", 3, "random", seed=5)
        tuner.load_checkpoint()
        tuner.update_search_space(to_nni(SPACE))
        return tuner


def test_resume_knows_what_the_supernet_found(tmp_path, monkeypatch):
    experiment, prior = Resumed(tmp_path, SPACE), ranking()
    value = {SUPERNET: prior.to_dict()}
    experiment.submit("s", {SUPERNET: "darts"})
    experiment.metric("s", value)
    experiment.event("s", "SUCCEEDED")
    best = prior.scores[0][1]
    experiment.submit("c", dict(best))
    experiment.metric("c", final_metric(best, 0.5))
    experiment.event("c", "SUCCEEDED")
    tuner = experiment.tuner(monkeypatch)
    tuner.import_data([{"parameter": {SUPERNET: "darts"}, "value": nni.dump(value)}])
    assert [(o.architecture, o.score) for o in tuner.history] == [(best, 0.5)]
    manager = Manager(tuner)
    assert manager.request(0) == 1
    assert manager.sent[0] == dict(prior.scores[1][1])


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_resume_while_the_supernet_is_trained(status, tmp_path, monkeypatch):
    experiment, prior = Resumed(tmp_path, SPACE), ranking()
    experiment.submit("s", {SUPERNET: "darts"})
    experiment.event("s", status)
    tuner = experiment.tuner(monkeypatch)
    tuner.import_data([])
    manager = Manager(tuner)
    if status == "FAILED":  # NNI does not repeat it, so it is asked for again
        assert manager.request(0, 1) == 1
        assert manager.sent == {0: {SUPERNET: "darts"}}
        return
    assert manager.request(0, 1) == 0
    value = {SUPERNET: prior.to_dict()}
    tuner.import_data([{"parameter": {SUPERNET: "darts"}, "value": value}])
    assert [manager.sent[i] for i in (0, 1)] == [dict(a) for _, a in prior.scores[:2]]


def test_the_tuner_needs_no_torch():
    code = "import sys, nas_plugins.nni.supernet_tuner; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Trials:
    """The two kinds of trial, in this process."""

    def __init__(self, directory, monkeypatch):
        self.directory, self.reported = directory / "x7", []
        monkeypatch.setenv("NNI_EXP_ID", "x7")
        monkeypatch.setattr(nni, "report_intermediate_result", lambda _: None)
        monkeypatch.setattr(nni, "report_final_result", self.reported.append)
        self._patch = monkeypatch

    def run(self, parameters, *arguments, trial="t"):
        self._patch.setattr(nni, "get_next_parameter", lambda: parameters)
        output = self.directory / "environments" / "local-env" / "trials" / trial
        self._patch.setenv("NNI_OUTPUT_DIR", str(output))
        always = ["--space", "nas_bench_201", "--space-options", json.dumps(TINY), "--epochs", "1"]
        always += ["--data-fraction", "0.1", "--accelerator", "cpu", "--num-ranked", "2"]
        supernet_trial.main([*always, "--supernet-epochs", "2", *arguments])
        return self.reported[-1]


@pytest.mark.parametrize("mutator", ["gdas", "uniform", "pc_darts"])
def test_the_first_trial_ranks_and_leaves_a_supernet(mutator, tmp_path, monkeypatch):
    trials = Trials(tmp_path, monkeypatch)
    options = ["--mutator", mutator]
    options += ["--mutator-options", '{"num_candidates": 3}'] if mutator == "uniform" else []
    value = trials.run({SUPERNET: mutator}, *options)
    prior = Prior.of(value[SUPERNET])
    folder = trials.directory / "supernet"
    assert prior == Prior.from_json(folder / "prior.json")
    assert (folder / "alphas.svg").is_file() == (mutator != "uniform")
    module = SupernetClassifier.load_from_checkpoint(folder / "last.ckpt")
    assert len(module.search.history) == 2
    # A trial that repeats it loads what was trained, and says the same.
    assert trials.run({SUPERNET: mutator}, *options, trial="again") == value


def test_children_inherit_the_supernets_weights_where_asked(tmp_path, monkeypatch):
    trials = Trials(tmp_path, monkeypatch)
    value = trials.run({SUPERNET: "gdas"}, "--mutator", "gdas")
    best = Prior.of(value[SUPERNET]).scores[0][1]
    supernet = SupernetClassifier.load_from_checkpoint(trials.directory / "supernet" / "last.ckpt")
    frozen = ["--mutator", "gdas", "--module-options", '{"learning_rate": 0.0}']
    found = {}
    for trial, flags in {"fresh": [], "inherited": ["--inherit-weights"]}.items():
        metric = trials.run(dict(best), *frozen, *flags, trial=trial)
        assert metric["architecture"] == dict(best)
        (path,) = trials.directory.glob(f"environments/*/trials/{trial}/checkpoints/*/*.ckpt")
        found[trial] = torch.load(path, weights_only=True)["state_dict"]
    for name, weight in supernet.child(best).network.named_parameters():
        assert torch.equal(found["inherited"][f"network.{name}"], weight)
    assert any(
        not torch.equal(found["fresh"][f"network.{name}"], weight)
        for name, weight in supernet.child(best).network.named_parameters()
    )


def test_a_supernet_trial_that_fails_reports_why(tmp_path, monkeypatch):
    trials = Trials(tmp_path, monkeypatch)
    with pytest.raises(MutatorNameError, match="'dart'"):
        trials.run({SUPERNET: "dart"}, "--mutator", "dart")
    assert "unknown mutator 'dart'" in trials.reported[-1]["error"]


def test_the_config_says_what_comes_first(tmp_path):
    first = SupernetFirst("darts", {"arch_lr": 0.1}, epochs=7, num_ranked=3, inherit_weights=True)
    path = write_config("nas_bench_201", tmp_path, supernet=first, strategy="random", max_trials=5)
    config = yaml.safe_load(path.read_text())
    assert config["maxTrialNumber"] == 6
    arguments = SimpleNamespace(**config["tuner"]["classArgs"])
    assert (arguments.mutator, arguments.num_ranked, arguments.strategy) == ("darts", 3, "random")
    *_, command = config["trialCommand"].partition("nas_plugins.nni.supernet_trial ")
    parsed = supernet_trial.supernet_parser().parse_args(shlex.split(command))
    assert (parsed.mutator, parsed.mutator_options) == ("darts", {"arch_lr": 0.1})
    assert (parsed.supernet_epochs, parsed.num_ranked, parsed.inherit_weights) == (7, 3, True)
    with pytest.raises(UnsupportedSpaceError, match="channels that 4 divides"):
        write_config(
            "nas_bench_201",
            tmp_path,
            space_options={"channels": 2},
            supernet=SupernetFirst("pc_darts"),
        )
    inheriting = SupernetFirst("pc_darts", inherit_weights=True)
    with pytest.raises(UnsupportedSpaceError, match="PCDARTS changes the supernet's paths"):
        write_config("nas_bench_201", tmp_path, supernet=inheriting)
    with pytest.raises(MutatorNameError, match="no option 'lr'"):
        write_config("nas_bench_201", tmp_path, supernet=SupernetFirst("darts", {"lr": 1}))
    (tmp_path / "table.py").write_text(
        "from ConfigSpace import ConfigurationSpace\nfrom nas_plugins import SearchSpace\n"
        "def space():\n    return SearchSpace(ConfigurationSpace({'a': ['x', 'y']}))\n"
    )
    with pytest.raises(UnsupportedSpaceError, match="has no network"):
        write_config(f"{tmp_path}/table.py:space", tmp_path, supernet=SupernetFirst("darts"))


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.stop()


@pytest.mark.host
@pytest.mark.timeout(600)
def test_children_are_those_that_the_supernet_ranks(host, capsys):
    """A real experiment: the supernet alone, then two children at once."""
    config = write_config(
        "nas_bench_201",
        host.home / "config",
        space_options=TINY,
        supernet=SupernetFirst("gdas", epochs=1, inherit_weights=True),
        max_trials=2,
        trial_concurrency=2,
        epochs=1,
    )
    experiment = host.create(config)
    host.wait_done(500)
    directory = host.directory(experiment)
    first, *children = report(str(directory))
    assert (first["status"], first["score"], first["error"]) == ("SUCCEEDED", None, None)
    prior = Prior.from_json(directory / "supernet" / "prior.json")
    best = {architecture for _, architecture in prior.scores[:2]}
    assert {Architecture(row["architecture"]) for row in children} == best
    assert all(0 <= row["score"] <= 1 for row in children)
    assert main(["report", str(directory)]) == 0
    assert '{"_supernet": "gdas"}' in capsys.readouterr().out.splitlines()[-1]
    assert main(["export", str(directory), str(host.home / "export.json")]) == 0
    assert "2 results" in capsys.readouterr().out
