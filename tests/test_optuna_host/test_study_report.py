"""A study becomes a page."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

from nas_plugins import spaces
from nas_plugins.cli import SETTINGS, main
from nas_plugins.estimators.cost import cost_of
from nas_plugins.optuna import distributions, suggest
from nas_plugins.optuna.report import results_of, write_study_report

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE = spaces.load("nas_bench_201", channels=2, num_cells=1)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    architecture = suggest(trial, SPACE)
    trial.set_user_attr("parameters", 10 * trial.number)
    trial.set_user_attr("machine", "a")
    trial.set_user_attr("cached", True)
    if trial.number == 2:
        raise optuna.TrialPruned
    if trial.number == 3:
        raise ValueError("broken")
    losses = sum(choice == "none" for choice in architecture.values())
    return (float("inf") if trial.number == 4 else losses), -losses


def study_of(storage: object = None, n_trials: int = 6) -> optuna.Study:
    study = optuna.create_study(
        study_name="two objectives",
        storage=storage,  # type: ignore[arg-type]
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.optimize(objective, n_trials=n_trials, catch=(ValueError,))
    return study


def test_trials_are_results() -> None:
    study = study_of()
    study.add_trial(create_trial(values=[1.0, 2.0]))  # of another space
    study.ask()
    found = results_of(study, SPACE)
    assert [result.number for result in found] == [0, 1, 2, 3, 4, 5]
    assert [r.note for r in found] == ["", "", "pruned", "fail", "no finite score", ""]
    assert [r.is_scored for r in found] == [True, True, False, False, False, True]
    assert found[1].scores == tuple(study.trials[1].values)
    assert [result.costs for result in found] == [{"parameters": 10 * i} for i in range(6)]


def test_costs_are_counted_once_for_each_architecture() -> None:
    study = optuna.create_study()
    value = dict.fromkeys(SPACE.decisions, "none")
    for _ in range(3):
        study.add_trial(create_trial(params=value, distributions=distributions(SPACE), value=1.0))
    asked = []

    def cost(architecture):
        asked.append(architecture)
        return cost_of(SPACE, architecture, (3, 8, 8)).to_dict()

    found = results_of(study, SPACE, cost=cost)
    assert len(asked) == 1
    assert [result.costs["parameters"] for result in found] == [found[0].costs["parameters"]] * 3


def test_names_are_given_or_the_metric_names(tmp_path: Path) -> None:
    study = study_of()
    page = write_study_report(study, SPACE, tmp_path / "r.html")
    assert "<title>two objectives</title>" in page.read_text("utf-8")
    assert '{"name":"objective 0","maximize":false}' in page.read_text("utf-8")
    study.set_metric_names(["loss", "gain"])
    write_study_report(study, SPACE, page)
    assert '{"name":"gain","maximize":true}' in page.read_text("utf-8")
    with pytest.raises(ValueError, match="expected 2, as many as study"):
        write_study_report(study, SPACE, page, objectives=["loss"])


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_command_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = str(tmp_path / "study")
    if kind == "sqlite":
        where = f"sqlite:///{where}"
        study_of(where)
    else:
        study_of(JournalStorage(JournalFileBackend(where)))
    page = tmp_path / "r.html"
    space = ["--space", "nas_bench_201", "--space-option", "channels=2"]
    space += ["--space-option", "num_cells=1"]
    shape = ["--image-shape", "3,8,8", "--objective", "loss", "--objective", "gain"]
    assert main(["report", "--storage", where, *space, *shape, str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text("utf-8")
    assert "multiply_adds" in text
    command = "--space nas_bench_201 --space-option channels=2 --space-option num_cells=1"
    assert f'"spaceArguments":"{command}"' in text
    assert main(["report", "--storage", where, "--study", "other", *space, str(page)]) == 2
    assert "there are ['two objectives']" in capsys.readouterr().err


def test_the_space_that_the_study_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"sqlite:///{tmp_path}/study"
    page = tmp_path / "r.html"
    study = study_of(where)
    assert main(["report", "--storage", where, str(page)]) == 2
    assert "does not say which space it searches; give --space" in capsys.readouterr().err
    noted = {"space": "nas_bench_201", "space_options": {"channels": 2, "num_cells": 1}}
    study.set_user_attr(SETTINGS, noted)
    assert main(["report", "--storage", where, str(page)]) == 0
    assert json.dumps("--space nas_bench_201 --space-option channels=2")[:-1] in page.read_text()
    assert main(["report", "--storage", str(tmp_path / "absent"), str(page)]) == 2
    assert "no journal" in capsys.readouterr().err


def test_a_very_large_number_is_a_cost_like_others(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    trial.set_user_attr("parameters", 2**70)
    suggest(trial, SPACE)
    study.tell(trial, 0.5)
    assert write_study_report(study, SPACE, tmp_path / "page.html").is_file()
