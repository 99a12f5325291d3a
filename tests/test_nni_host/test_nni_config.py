import json
import queue
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nni
import pytest
import yaml
from ConfigSpace import ConfigurationSpace
from nni.experiment.config import ExperimentConfig
from nni.runtime.tuner_command_channel import CommandType
from nni.tools.package_utils import create_customized_class_instance

from nas_plugins import NasPluginsError, SearchSpace, UnsupportedSpaceError, spaces
from nas_plugins import nni as host
from nas_plugins.cli import main as nas_plugins_main
from nas_plugins.nni import (
    ArchitectureTuner,
    LearningCurveAssessor,
    architecture_of,
    from_nni,
    records,
    supernet_trial,
    trial,
    write_config,
)
from nas_plugins.nni.__main__ import main
from nas_plugins.nni.compat import write_loopback
from nas_plugins.nni.hyperband import MendedHyperband
from nas_plugins.spaces import SpaceNameError
from nas_plugins.strategies import StrategyNameError

EXAMPLES = Path(__file__).parents[2] / "examples" / "nni"


def tuner_of(path):
    """The tuner that NNI makes from a config."""
    config = ExperimentConfig.load(path).canonical_copy()
    return create_customized_class_instance(config.json()["tuner"]), config


def test_nni_takes_the_config_and_the_trial_its_command(tmp_path):
    options = {"channels": 4, "num_cells": 1}
    path = write_config(
        "nas_bench_201",
        tmp_path / "new",
        space_options=options,
        seed=5,
        epochs=2,
        strategy_options={"population_size": 5, "sample_size": 2},
        max_trials=7,
        trial_concurrency=3,
        working_directory=tmp_path,
    )
    tuner, config = tuner_of(path)
    assert isinstance(tuner, ArchitectureTuner)
    tuner.update_search_space(config.search_space)
    assert tuner._ready().population_size == 5
    assert tuner._ready().seed == 5
    assert "--seed 5" in config.trial_command
    space = spaces.load("nas_bench_201", **options)
    assert from_nni(config.search_space).config_space == space.config_space
    assert (config.max_trial_number, config.trial_concurrency) == (7, 3)
    assert (config.trial_gpu_number, config.training_service.platform) == (0, "local")
    python, _, module, *arguments = shlex.split(config.trial_command)
    assert (python, module) == (sys.executable, "nas_plugins.nni.trial")
    parsed = trial.trial_parser("").parse_args(arguments)
    assert (parsed.space, parsed.space_options, parsed.epochs) == ("nas_bench_201", options, 2)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yml")), ids=lambda p: p.name)
def test_the_provided_configs_are_what_they_say(path):
    tuner, config = tuner_of(path)
    tuner.update_search_space(config.search_space)
    _, _, module, *arguments = shlex.split(config.trial_command)
    parsers = {
        "nas_plugins.nni.trial": trial.trial_parser(""),
        "nas_plugins.nni.supernet_trial": supernet_trial.supernet_parser(),
    }
    parsed = parsers[module].parse_args(arguments)
    space = spaces.load(parsed.space, **parsed.space_options)
    assert tuner._ready().space.config_space == space.config_space


def test_every_documented_command_writes_an_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [host.__doc__, (EXAMPLES.parents[1] / "docs" / "nni.md").read_text()]
    texts += [path.read_text() for path in EXAMPLES.glob("*.yml")]
    commands = {
        c
        for text in texts
        for c in re.findall(r"^\W*nas-plugins (nni-config .*)", text.replace("\\\n", ""), re.M)
    }
    assert len(commands) == 7
    for command in commands:
        *_, directory = arguments = shlex.split(command)
        assert not nas_plugins_main(arguments)
        assert Path(directory, "config.yml").is_file()


def test_the_provided_configs_come_with_the_generated_guard(tmp_path):
    guard = EXAMPLES / "loopback.cjs"
    assert guard.read_bytes() == write_loopback(tmp_path).read_bytes()
    generated = write_config("nas_bench_201", tmp_path).read_text().splitlines()
    for path in EXAMPLES.glob("*.yml"):
        lines = path.read_text().splitlines()
        at = lines.index(generated[1])
        assert lines[at + 1].replace("$PWD/examples/nni", str(tmp_path)) == generated[2]


@pytest.mark.parametrize("mode", ["maximize", "minimize"])
def test_an_assessor_stops_trials_as_the_tuner_ranks_them(tmp_path, mode):
    _, config = tuner_of(
        write_config(
            "nas_bench_201",
            tmp_path,
            epochs=30,
            trial_command="true",
            optimize_mode=mode,
            assessor="learning_curve",
            assessor_options={"interval": 3, "bounds": [0, 2]},
        )
    )
    assessor = create_customized_class_instance(config.json()["assessor"])
    assert isinstance(assessor, LearningCurveAssessor)
    assert (assessor._rule.horizon, assessor._rule.interval) == (30, 3)
    sign = 1 if mode == "maximize" else -1
    assert sorted(sign * bound for bound in assessor._rule.model.bounds) == [0, 2]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"assessor": "curve"}, ValueError, "unknown assessor 'curve'; .*'learning_curve'"),
        ({"assessor": "learning_curve", "epochs": 4}, ValueError, "min_epochs is 4 and horizon 4"),
        ({"assessor": "learning_curve", "assessor_options": {"wait": 1}}, TypeError, "wait"),
    ],
)
def test_an_assessor_that_cannot_be_is_refused_at_once(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        write_config("nas_bench_201", tmp_path, **{"epochs": 30, **options})


@pytest.fixture
def alone(monkeypatch):
    """An advisor made here looks for no manager."""
    monkeypatch.setattr(
        "nni.runtime.msg_dispatcher_base.dispatcher_env_vars",
        SimpleNamespace(NNI_TUNER_COMMAND_CHANNEL="ws://_unittest_hyperband", NNI_MODE="create"),
    )


def test_hyperband_takes_the_tuners_place(tmp_path, alone):
    options = {"channels": 4, "num_cells": 1}
    path = write_config(
        "nas_bench_201", tmp_path, space_options=options, hyperband=3, epochs=9, seed=4
    )
    config = ExperimentConfig.load(path).canonical_copy()
    space = spaces.load("nas_bench_201", **options)
    drawn = []
    for _ in range(2):
        tuner = create_customized_class_instance(config.json()["tuner"])
        tuner.handle_update_search_space(config.search_space)
        drawn.append([tuner._get_one_trial_job()["parameters"] for _ in range(3)])
    assert drawn[0] == drawn[1]  # the seed's
    for parameters in drawn[0]:
        assert parameters.pop("TRIAL_BUDGET") == 1
        architecture_of(space, parameters)
    # NNI 3.0 compares these ids, which are text, with a number.
    assert not tuner.is_created_in_previous_exp("0-2_0_0")
    tuner.recovered_max_param_id = 3
    assert tuner.is_created_in_previous_exp(2)


def test_hyperband_promotes_though_the_next_request_follows_at_once(alone, monkeypatch):
    """NNI 3.0 lets a request overtake the end of the training before it."""
    advisor = MendedHyperband(R=2, eta=2)
    sent: queue.Queue = queue.Queue()
    monkeypatch.setattr(advisor, "send", lambda command, data: sent.put(data))
    handle, commands = advisor.handle_trial_end, queue.Queue()
    monkeypatch.setattr(advisor, "handle_trial_end", lambda data: (time.sleep(0.2), handle(data)))
    monkeypatch.setattr(
        advisor, "_channel", SimpleNamespace(_receive=commands.get, disconnect=lambda: None)
    )
    running = threading.Thread(target=advisor.run, daemon=True)
    running.start()
    commands.put((CommandType.Initialize, nni.dump({"n": {"_type": "randint", "_value": [0, 9]}})))
    sent.get(timeout=60)
    trials = []
    for score in (0.25, 0.75, None):
        commands.put((CommandType.RequestTrialJobs, "1"))
        trials.append(nni.load(sent.get(timeout=60)))
        if score is not None:
            number = trials[-1]["parameter_id"]
            told = {"parameter_id": number, "trial_job_id": number, "sequence": 0}
            final = nni.dump({**told, "type": "FINAL", "value": nni.dump(score)})
            commands.put((CommandType.ReportMetricData, final))
            end = {
                "trial_job_id": number,
                "event": "SUCCEEDED",
                "hyper_params": nni.dump(trials[-1]),
            }
            commands.put((CommandType.TrialEnd, nni.dump(end)))
    commands.put((CommandType.Terminate, None))
    running.join()
    assert [trial["parameters"]["TRIAL_BUDGET"] for trial in trials] == [1, 1, 2]
    assert trials[2]["parameters"]["n"] == trials[1]["parameters"]["n"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"hyperband": 1}, "hyperband is 1; expected an eta of at least 2"),
        ({"hyperband": 3, "trial_concurrency": 2}, "trial_concurrency is 2; expected 1"),
        ({"hyperband": 3, "epochs": 9, "assessor": "learning_curve"}, "no strategy, supernet"),
        ({"hyperband": 3, "epochs": 9, "strategy": "random"}, "no strategy, supernet"),
    ],
)
def test_what_does_not_go_with_hyperband_is_refused(tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        write_config("nas_bench_201", tmp_path, **options)


def test_gpus(tmp_path):
    _, config = tuner_of(write_config("nas_bench_201", tmp_path, trial_gpus=1))
    assert config.trial_gpu_number == 1
    assert config.training_service.use_active_gpu is False


def test_a_space_of_the_users_own_file_is_found_from_the_trials_directory(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from ConfigSpace import ConfigurationSpace\nfrom nas_plugins import SearchSpace\n"
        "def space():\n    return SearchSpace(ConfigurationSpace({'a': ['x', 'y']}))\n"
    )
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(write_config("mine.py:space", "out").read_text())
    assert f"{tmp_path}/mine.py:space" in config["trialCommand"]


def test_what_nobody_can_run_is_refused_at_once(tmp_path):
    space = SearchSpace(ConfigurationSpace({"a": ["x", "y"]}))
    with pytest.raises(StrategyNameError, match="unknown strategy 'x'; expected one of .*'random'"):
        write_config("nas_bench_201", tmp_path / "c", strategy="x")
    with pytest.raises(StrategyNameError, match="no option 'popsize'.*'population_size'"):
        write_config("nas_bench_201", tmp_path / "c", strategy_options={"popsize": 3})
    options = {"population_size": 5, "sample_size": 9}
    with pytest.raises(ValueError, match="sample_size is 9 and population_size 5"):
        write_config("nas_bench_201", tmp_path / "c", strategy_options=options)
    with pytest.raises(SpaceNameError, match="unknown space 'nb201'"):
        write_config("nb201", tmp_path / "c")
    with pytest.raises(ValueError, match="optimize_mode is 'max'"):
        write_config("nas_bench_201", tmp_path / "c", optimize_mode="max")
    with pytest.raises(ValueError, match="the trial here reports an accuracy"):
        write_config("nas_bench_201", tmp_path / "c", optimize_mode="minimize")
    with pytest.raises(ValueError, match="data, limits would be for the trial here"):
        write_config(
            space, tmp_path / "c", trial_command="true", data="cifar10", limits={"bits": 1e6}
        )
    with pytest.raises(UnsupportedSpaceError, match="give the space by name"):
        write_config(space, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert write_config(space, tmp_path / "c", trial_command="true").is_file()


def test_an_unknown_experiment_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["report", "nope"]) == 2
    assert "no experiment 'nope'" in capsys.readouterr().err
    (tmp_path / "db").mkdir()
    assert main(["report", str(tmp_path)]) == 2
    assert "nni.sqlite does not exist" in capsys.readouterr().err


def test_importing_the_host_loads_no_framework():
    code = (
        "import sys, nas_plugins.nni as n; n.write_config, n.report, n.to_nni, n.report_score;"
        "print([m for m in ('torch', 'pytorch_lightning', 'optuna', 'hpbandster')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_nni_the_install_line_is_named():
    code = "import sys; sys.modules['nni'] = None; import nas_plugins.nni"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "pip install 'nas-plugins[nni]'" in done.stderr


def test_a_trial_outside_nni_trains_the_default_architecture(tmp_path, monkeypatch):
    import nni

    reported, curve = [], []
    monkeypatch.setattr(nni, "report_intermediate_result", curve.append)
    monkeypatch.setattr(nni, "report_final_result", reported.append)
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path))
    trial.main(
        [
            "--space",
            "nas_bench_201",
            "--epochs",
            "1",
            "--data-fraction",
            "0.05",
            "--space-options",
            json.dumps({"channels": 2, "num_cells": 1}),
            "--accelerator",
            "cpu",
        ]
    )
    (metric,) = reported
    assert metric["architecture"] == dict(spaces.load("nas_bench_201").default())
    assert metric["default"] == metric["val_acc"]
    assert curve == [{key: metric[key] for key in ("default", "architecture")}]
    assert (tmp_path / "architecture.svg").read_text().startswith("<?xml")
    assert list(tmp_path.glob("checkpoints/*/*.ckpt"))


def test_a_trial_begins_with_the_weights_of_the_nearest(tmp_path, monkeypatch):
    import nni

    from nas_plugins.rebuild import read_tensors

    monkeypatch.setattr(nni, "report_intermediate_result", lambda metric: None)
    monkeypatch.setattr(nni, "report_final_result", lambda metric: None)
    first = spaces.load("nas_bench_201").default()
    architectures = iter([first, first.replace(**{"cell/3<-0": "nor_conv_1x1"})])
    monkeypatch.setattr(trial, "receive_architecture", lambda space: next(architectures))
    for name in ("first", "second"):
        monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / name))
        trial.main(
            ["--space", "nas_bench_201", "--epochs", "1", "--data-fraction", "0.05"]
            + ["--space-options", '{"channels": 2, "num_cells": 1}', "--accelerator", "cpu"]
            + ["--inherit", str(tmp_path)]
        )
    (first,) = tmp_path.glob("first/checkpoints/*/*.ckpt")
    (second,) = tmp_path.glob("second/checkpoints/*/*.ckpt")
    state = read_tensors(second)["callbacks"]["_Heritage"]["taken"]
    assert state["checkpoint"] == str(first)


def test_a_trial_that_fails_says_which_architecture_it_was(tmp_path, monkeypatch):
    import nni

    reported = []
    monkeypatch.setattr(nni, "report_final_result", reported.append)
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="optimizer"):
        trial.main(
            [
                "--space",
                "nas_bench_201",
                "--module-options",
                '{"optimizer": "none"}',
                "--space-options",
                '{"channels": 2, "num_cells": 1}',
                "--accelerator",
                "cpu",
            ]
        )
    assert reported[0]["architecture"] == dict(spaces.load("nas_bench_201").default())
    assert "optimizer" in reported[0]["error"]


def test_targets_and_limits_reach_the_trial_and_its_metric(tmp_path, monkeypatch):
    import nni

    from nas_plugins.estimators.latency_table import LatencyTable
    from nas_plugins.estimators.objectives import InfeasibleError, mnasnet_reward

    table = LatencyTable({}, constant_ms=4.0)
    table.write(tmp_path / "table.json")
    path = write_config(
        "nas_bench_201",
        tmp_path / "experiment",
        space_options={"channels": 2, "num_cells": 1},
        epochs=1,
        targets={"latency_ms": 2.0},
        limits={"parameters": 100_000},
        latency_table=tmp_path / "table.json",
    )
    _, config = tuner_of(path)
    _, _, _, *arguments = shlex.split(config.trial_command)
    arguments += ["--data-fraction", "0.05", "--accelerator", "cpu"]
    reported = []
    monkeypatch.setattr(nni, "report_intermediate_result", lambda metric: None)
    monkeypatch.setattr(nni, "report_final_result", reported.append)
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path))
    trial.main(arguments)
    with pytest.raises(InfeasibleError, match="parameters is"):
        trial.main([*arguments, "--limits", '{"parameters": 9}'])
    metric, failure = reported
    assert metric["accuracy"] == metric["val_acc"]
    assert metric["latency_ms"] == 4.0
    assert 9 < metric["parameters"] < 100_000
    assert metric["default"] == mnasnet_reward(metric["accuracy"], metric, {"latency_ms": 2.0})
    assert "parameters is" in failure["error"]
    with pytest.raises(ValueError, match="no cost 'latency_ms'; .* it needs a latency table"):
        write_config("nas_bench_201", tmp_path, targets={"latency_ms": 2.0})


def test_an_export_holds_whole_trainings_only(tmp_path, monkeypatch, capsys):
    """Not what an assessor stopped, nor Hyperband's short ones."""
    value = {"default": 0.9, "architecture": {"op": "a"}}
    common = {"status": "SUCCEEDED", "score": 0.9, "architecture": {"op": "a"}, "error": None}
    rows = [
        {**common, "trial": name, "partial": partial, "value": {**value, **epochs}, "parameter": {}}
        for name, partial, epochs in [
            ("stopped", True, {"epochs": 9}),
            ("short", False, {"epochs": 3}),
            ("whole", False, {"epochs": 9}),
        ]
    ]
    monkeypatch.setattr("nas_plugins.nni.__main__.report", lambda experiment: list(rows))
    monkeypatch.setattr(records, "experiment_directory", lambda experiment: tmp_path)
    monkeypatch.setattr(records, "minimizes", lambda directory: False)
    assert main(["export", "x", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["trial"] for row in found] == ["whole"]
    assert main(["report", "x"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped")


def test_hyperband_is_not_resumed(alone, monkeypatch):
    resumes = SimpleNamespace(NNI_MODE="resume")
    monkeypatch.setattr("nas_plugins.nni.hyperband.dispatcher_env_vars", resumes)
    with pytest.raises(NasPluginsError, match="cannot be resumed: its brackets are not stored"):
        MendedHyperband(R=2, eta=2)


@pytest.mark.parametrize("mode", ["maximize", "minimize"])
def test_trainings_without_a_score_are_the_worst_of_their_rung(mode, alone, monkeypatch):
    advisor = MendedHyperband(mode, R=4, eta=2)
    monkeypatch.setattr(advisor, "send", lambda *_: None)
    advisor.handle_update_search_space({"n": {"_type": "randint", "_value": [0, 99]}})
    advisor.credit = 0
    first = [advisor._get_one_trial_job() for _ in range(4)]
    told = first[2]["parameter_id"]
    advisor.brackets["0-2"].set_config_perf(0, told, 0, 0.5)
    for job in first:
        advisor._handle_trial_end(job["parameter_id"])
    promoted = [advisor._get_one_trial_job()["parameters"] for _ in range(2)]
    assert [p["TRIAL_BUDGET"] for p in promoted] == [2, 2]
    assert promoted[0]["n"] == first[2]["parameters"]["n"]
