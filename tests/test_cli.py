"""The command line: help, each command, and errors that say what to do."""

import argparse
import json
import sqlite3
import time
import types

import optuna
import pytest

from nas_plugins.cli import INTERRUPTED, _parser, main, named_values
from nas_plugins.errors import NasPluginsError

COMMANDS = ("search", "report", "draw", "export", "space", "latency", "nni-config")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert command in capsys.readouterr().out
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    for action in commands.choices[command]._actions:
        assert action.help, f"{action.option_strings or action.dest} has no help"


def test_space_prints_size_decisions_and_an_example(capsys):
    assert main(["space", "--space", "nas_bench_201", "--space-option", "channels=4"]) == 0
    printed = capsys.readouterr().out
    assert "15,625 architectures of 6 decisions" in printed
    assert "cell/3<-2" in printed
    example = json.loads(printed[printed.index("{") :])
    assert len(example) == 6


def test_space_lists_all_and_prints_json(capsys):
    from nas_plugins import SearchSpace
    from nas_plugins.spaces import REGISTRY

    main(["space", "--list"])
    assert capsys.readouterr().out.split() == sorted(REGISTRY)
    main(["space", "--json"])
    assert SearchSpace.from_json(capsys.readouterr().out).size == 15_625


def test_draw_writes_a_picture(tmp_path, capsys):
    main(["space"])
    printed = capsys.readouterr().out
    architecture = tmp_path / "architecture.json"
    architecture.write_text(printed[printed.index("{") :])
    picture = tmp_path / "cell.svg"
    assert main(["draw", str(architecture), str(picture)]) == 0
    assert picture.read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["space", "--space", "nowhere"], "unknown space 'nowhere'; expected one of"),
        (["space", "--space-option", "channels"], "option 'channels' has no value"),
        (["space", "--space-option", "depth=3"], "has no option 'depth'"),
        (["draw", "absent.json", "x.svg"], "no architecture file absent.json"),
        (["search", "--strategy", "magic"], "unknown strategy 'magic'"),
        (["search", "--data", "cifar10"], "none was given"),
        (["search", "--data-fraction", "2"], "data_fraction is 2"),
        (["search", "--strategy-option", "population_size=0"], "population_size 0"),
        (["search", "--strategy-option", "population_size=x"], "does not take options"),
        (["space", "--space-option", "num_cells=x"], "does not take options"),
        (["report", "--storage", "sqlite:///absent.db", "x.html"], "no database absent.db"),
        (["report", "--storage", "mysql://nowhere/x", "x.html"], "cannot be opened"),
        (["search", "--storage", "nonsense://x"], "cannot be opened"),
        (["nni-config", "c", "--data", "nope"], "unknown data 'nope'"),
        (["nni-config", "c", "--gpus", "-1"], "trial_gpus is -1; expected 0 or more"),
        (["nni-config", "c", "--ranked", "3"], "--ranked is for --supernet"),
        (["nni-config", "c", "--supernet-epochs", "3"], "--supernet-epochs is for --supernet"),
        (["nni-config", "c", "--assessor-option", "a=1"], "--assessor-option is for --assessor"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("nas-plugins: ")
    assert words in error
    assert "Traceback" not in error


def test_an_architecture_of_another_space_is_refused(tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text('{"depth": 3}')
    assert main(["draw", str(path), str(tmp_path / "x.svg")]) == 2
    assert "label 'depth', which space 'nas_bench_201' has not" in capsys.readouterr().err


def test_option_values_are_json_where_they_can_be():
    assert named_values(["a=3", "b=true", "c=x", 'd="3"']) == {
        "a": 3, "b": True, "c": "x", "d": "3",
    }  # fmt: skip
    with pytest.raises(NasPluginsError, match="expected NAME=VALUE"):
        named_values(["a"])


def test_search_takes_any_space_and_refuses_other_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ["search", "--space", "chain", "--space-option", "channels=4", "--trials", "1",
             "--epochs", "1", "--final-epochs", "1", "--data-fraction", "0.2",
             "--strategy", "random", "--no-baseline"]  # fmt: skip
    assert main(short) == 0
    assert "best of 1 architectures" in capsys.readouterr().out
    assert main([*short, "--seed", "9"]) == 2
    assert "was made with seed=0, now it is 9" in capsys.readouterr().err


def test_nni_config_names_space_data_and_strategy(tmp_path, capsys):
    directory = tmp_path / "experiment"
    arguments = ["nni-config", str(directory), "--space-option", "channels=4", "--trials", "3",
                 "--concurrency", "2", "--data", "cifar10",
                 "--data-dir", str(tmp_path)]  # fmt: skip
    assert main(arguments) == 0
    assert f"nnictl create --config {directory / 'config.yml'}" in capsys.readouterr().out
    config = (directory / "config.yml").read_text()
    assert f"--data cifar10 --data-dir {tmp_path}" in " ".join(config.split())
    assert "maxTrialNumber: 3" in config
    assert main([*arguments, "--limit", "bits=8e6"]) == 0
    config = (directory / "config.yml").read_text()
    assert "--limits" in config
    assert "8000000.0" in config
    assert main([*arguments, "--strategy", "magic"]) == 2
    assert "unknown strategy 'magic'" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["mnist", "nowhere.at_all:images"])
def test_unknown_data_is_named(data, capsys, tmp_path):
    assert main(["search", "--data", data, "--directory", str(tmp_path)]) == 2
    assert data in capsys.readouterr().err


def test_a_trial_that_crashed_is_not_counted(tmp_path, monkeypatch):
    import nas_plugins.cli.search as search

    def fails(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "train_child", fails)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            main(["search", "--trials", "1"])


def test_a_study_without_a_best_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--trials", "1", "--limit", "parameters=1"]) == 2
    assert "was completed, so there is no best architecture" in capsys.readouterr().err


def test_interrupted_search_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    import nas_plugins.cli.search as search

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "train_child", interrupted)
    assert main(["search", "--trials", "1"]) == INTERRUPTED
    assert "run the same command again" in capsys.readouterr().err
    with sqlite3.connect(tmp_path / "runs" / "search" / "study.db") as database:
        # Not a failure: its proposal is made again once this process is gone.
        assert database.execute("select state from trials").fetchall() == [("RUNNING",)]


def test_search_finds_draws_exports_and_resumes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ["search", "--trials", "2", "--epochs", "1", "--final-epochs", "1",
             "--space-option", "channels=4", "--data-fraction", "0.3"]  # fmt: skip
    assert main(short) == 0
    printed = capsys.readouterr().out
    assert "best of 2 architectures" in printed
    assert "a random search of the same budget" in printed
    (best,) = (tmp_path / "runs" / "search").glob("best-*")
    assert (best / "architecture.svg").is_file()
    page = (tmp_path / "runs" / "search" / "report.html").read_text("utf-8")
    assert '"costs":["multiply_adds","parameters"]' in page
    assert (best / "exported" / "architecture.json").is_file()

    from nas_plugins.export import load_exported

    assert not load_exported(best / "exported").training
    storage = "sqlite:///runs/search/study.db"  # holds the baseline's study as well
    assert main(["report", "--storage", storage, "page.html"]) == 0
    other = ["report", "--storage", storage, "--space", "darts", "page.html"]
    assert main(other) == 2
    assert "none of the 2 trials of study 'regularized_evolution'" in capsys.readouterr().err
    short[2] = "3"
    assert main([*short, "--no-baseline"]) == 0
    assert "after 2 trials" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "runs" / "search" / "study.db") as database:
        (count,) = database.execute(
            "select count(*) from trials where study_id = 1 and state = 'COMPLETE'"
        ).fetchone()
    assert count == 3


def test_latency_writes_a_table_and_its_error(tmp_path, capsys, monkeypatch):
    import nas_plugins.cli.latency as command
    from nas_plugins.estimators.latency_table import LatencyTable
    from nas_plugins.spaces import load

    path = tmp_path / "table.json"
    short = ["latency", "--space-option", "channels=2", "--space-option", "num_cells=1",
             "--image-size", "8", "--repeats", "2", "--check", "3", "--device", "cpu"]  # fmt: skip
    for how, busy in ((["--rounds", "1"], True), (["--fit", "40"], False)):
        clock = types.SimpleNamespace(
            perf_counter=time.perf_counter,
            process_time=(lambda: 0.0) if busy else time.perf_counter,
        )
        monkeypatch.setattr(command, "time", clock)
        assert main([*short, *how, str(path)]) == 0
        printed = capsys.readouterr().out
        assert "3 other architectures take" in printed
        assert "Kendall" in printed
        assert ("other work had the CPU for 100% of the time" in printed) == busy
        table = LatencyTable.read(path)
        space = load("nas_bench_201", channels=2, num_cells=1)
        assert {label: set(table[label]) for label in table} == {
            label: set(decision.choices) for label, decision in space.decisions.items()
        }
        assert table.conditions["input_shape"] == [3, 8, 8]
        assert table.conditions["options"]["channels"] == 2
    assert main([*short, str(tmp_path / "nowhere" / "table.json")]) == 2
    assert "no directory" in capsys.readouterr().err


def test_search_weighs_and_limits_what_it_finds(tmp_path, capsys, monkeypatch):
    from nas_plugins.estimators.cost import cost_of
    from nas_plugins.estimators.latency_table import LatencyTable
    from nas_plugins.spaces import load

    monkeypatch.chdir(tmp_path)
    space = load("nas_bench_201", channels=4, num_cells=1, in_channels=1)
    milliseconds = {"none": 0.0, "skip_connect": 0.0}
    LatencyTable(
        {
            label: {choice: milliseconds.get(choice, 1.0) for choice in decision.choices}
            for label, decision in space.decisions.items()
        },
        constant_ms=1.0,
    ).write(tmp_path / "table.json")
    limit = 6_000
    short = ["search", "--trials", "4", "--epochs", "1", "--final-epochs", "1", "--no-baseline",
             "--space-option", "channels=4", "--data-fraction", "0.2", "--strategy", "random",
             "--latency-table", "table.json", "--target", "latency_ms=3",
             "--limit", f"parameters={limit}"]  # fmt: skip
    assert main(short) == 0
    printed = capsys.readouterr().out
    assert "(reward)" in printed
    assert "ms" in printed
    with sqlite3.connect(tmp_path / "runs" / "search" / "study.db") as database:
        states = [state for (state,) in database.execute("select state from trials")]
    assert set(states) == {"COMPLETE", "PRUNED"}

    import optuna

    from nas_plugins.optuna import architecture_of

    study = optuna.load_study(study_name="random", storage="sqlite:///runs/search/study.db")
    table = LatencyTable.read("table.json")
    for trial in study.trials:
        architecture = architecture_of(trial, space)
        small = cost_of(space, architecture, (1, 8, 8)).parameters <= limit
        assert (trial.state.name == "COMPLETE") == small
        if small:
            latency = trial.user_attrs["latency_ms"]
            assert latency == table.of(architecture)
            images = trial.value / (latency / 3) ** -0.07 * 359
            assert images == pytest.approx(round(images), abs=1e-3)  # of the 359 for validation
    assert main([*short, "--target", "parameters=9"]) == 2
    assert "was made with targets={'latency_ms': 3}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "latency_ms=3"], "no cost 'latency_ms'; expected one of"),
        (["--limit", "bits=0"], "bits is 0; expected a number above 0"),
        (["--limit", "parameters=few"], "parameters is 'few'"),
        (["--latency-table", "absent.json"], "absent.json is no latency table"),
    ],
)
def test_targets_and_limits_that_mean_nothing(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *arguments]) == 2
    assert words in capsys.readouterr().err


OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, choose, in_channels=1, num_classes=10):
        super().__init__()
        act = choose.layer("act", {"relu": nn.ReLU, "tanh": nn.Tanh})
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), act, nn.Linear(8, num_classes))

    def forward(self, x):
        return self.layers(x)
"""


def test_a_network_in_a_file_is_searched_to_the_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(OWN)
    (tmp_path / "own_data.py").write_text(
        "from lightning_modules import DigitsDataModule as data\n"
    )
    short = ["search", "--space", "own_net.py:Net", "--data", "own_data.py:data", "--trials", "1",
             "--epochs", "1", "--final-epochs", "1", "--no-baseline"]  # fmt: skip
    assert main(short) == 0
    assert "test accuracy after 1 epochs" in capsys.readouterr().out
    (checkpoint,) = (tmp_path / "runs" / "search").glob("best-*/*/epochs_1.ckpt")
    export = ["export", str(checkpoint), "out", "--space", "own_net.py:Net"]
    assert main([*export, "--format", "state_dict"]) == 0
    assert (tmp_path / "out" / "architecture.json").is_file()


def test_two_processes_make_as_many_trials_as_were_asked_for(tmp_path, monkeypatch):
    """Another one has finished the last while this one trained."""
    import nas_plugins.cli.search as search

    monkeypatch.chdir(tmp_path)
    real, storage = search.train_child, "sqlite:///runs/search/study.db"
    done = []

    def train(space, architecture, *arguments, **options):
        done.append(architecture)
        if len(done) == 1:
            study = optuna.load_study(study_name="random", storage=storage)
            running = study.trials[0]
            other = optuna.trial.create_trial(
                value=0.1,
                params=running.params,
                distributions=running.distributions,
                user_attrs=running.user_attrs,
            )
            study.add_trials([other, other])
        return real(space, architecture, *arguments, **options)

    monkeypatch.setattr(search, "train_child", train)
    short = ["search", "--space", "chain", "--space-option", "channels=4", "--trials", "3",
             "--epochs", "1", "--final-epochs", "1", "--data-fraction", "0.2",
             "--strategy", "random", "--no-baseline"]  # fmt: skip
    assert main(short) == 0
    assert len(done) == 2  # one trial, and the final training


def test_a_database_without_its_scheme_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.create_study(study_name="a", storage="sqlite:///s.db")
    assert main(["report", "--storage", "s.db", "x.html"]) == 2
    assert "expected its URL, sqlite:///s.db" in capsys.readouterr().err
    optuna.create_study(study_name="b", storage="sqlite:///s.db")
    assert main(["report", "--storage", "sqlite:///s.db", "x.html"]) == 2
    assert "give --study, of ['a', 'b']" in capsys.readouterr().err
