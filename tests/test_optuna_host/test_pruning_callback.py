"""Pruning by Optuna in a real Trainer, on one process and inside DDP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import pytorch_lightning as pl
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pruned_in_ddp import Scripted
from torch.multiprocessing import ProcessRaisedException
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.callbacks import OptunaPruningCallback
from nas_plugins import NasPluginsError

optuna.logging.set_verbosity(optuna.logging.ERROR)

SCRIPT = Path(__file__).with_name("pruned_in_ddp.py")
DATA = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)


def fit(callback: OptunaPruningCallback, curve: list[float]) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=len(curve),
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scripted(curve), DATA, DATA)
    return trainer


def objective(trial: optuna.Trial) -> float:
    curve = [0.5, 0.7, 0.9] if trial.number == 0 else [0.6, 0.4, 0.9]
    return float(fit(OptunaPruningCallback(trial), curve).callback_metrics["val_acc"])


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
def test_reports_each_epoch_and_prunes(kind: str, tmp_path: Path) -> None:
    storage: Any = {
        "memory": lambda: None,
        "sqlite": lambda: f"sqlite:///{tmp_path}/study.db",
        "journal": lambda: JournalStorage(JournalFileBackend(str(tmp_path / "log"))),
    }[kind]()
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    study = optuna.create_study(direction="maximize", storage=storage, pruner=pruner)
    study.optimize(objective, n_trials=2)
    complete, pruned = study.trials
    # Not once more for the sanity check before training.
    assert complete.intermediate_values == pytest.approx({0: 0.5, 1: 0.7, 2: 0.9})
    assert pruned.state is TrialState.PRUNED
    assert pruned.intermediate_values == pytest.approx({0: 0.6, 1: 0.4})


def test_validation_outside_fit_reports_nothing() -> None:
    study = optuna.create_study()
    callback = OptunaPruningCallback(study.ask())
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False
    )
    trainer.validate(Scripted([0.1]), DATA, verbose=False)
    assert study.trials[0].intermediate_values == {}


def test_without_a_trial_nothing_is_pruned() -> None:
    trainer = fit(OptunaPruningCallback(None), [0.1, 0.2])
    assert float(trainer.callback_metrics["val_acc"]) == pytest.approx(0.2)


def test_a_metric_that_is_not_logged_is_named() -> None:
    callback = OptunaPruningCallback(optuna.create_study().ask(), "accuracy")
    with pytest.raises(ValueError, match=r"'accuracy', which is not logged.*'val_acc'"):
        fit(callback, [0.1])


def test_what_optuna_refuses_is_raised() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(NotImplementedError, match="multi-objective"):
        fit(OptunaPruningCallback(study.ask()), [0.1])


def test_the_others_learn_that_the_first_process_failed() -> None:
    """What a process sees whose first process could not report."""
    callback = OptunaPruningCallback(None)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.state.fn = pl.trainer.states.TrainerFn.FITTING
    trainer._logger_connector._callback_metrics["val_acc"] = torch.tensor(0.5)
    trainer.strategy.broadcast = lambda verdict: (None, "OSError('disk full')")
    with pytest.raises(NasPluginsError, match="could not report to Optuna: OSError"):
        callback.on_validation_end(trainer, None)


def test_a_study_in_memory_cannot_follow_into_processes_that_fit_starts() -> None:
    callback = OptunaPruningCallback(optuna.create_study().ask())
    callback._pid = -1  # as in a process that was started by fit
    with pytest.raises(NasPluginsError, match="in the memory of the process that called fit"):
        fit(callback, [0.1])


def test_other_failures_of_a_process_stay_what_they_are() -> None:
    callback = OptunaPruningCallback(None)
    failure = ProcessRaisedException("Traceback: ValueError: no TrialPruned here", 0, 1)
    callback.on_exception(None, None, failure)


# -- two processes ----------------------------------------------------------------------

PRUNED = {
    "outcomes": [["complete", 0.8], ["pruned", "val_acc is 0.4 after epoch 1"]],
}
REPORTS = [[[0, 0.6], [1, 0.7], [2, 0.8]], [[0, 0.6], [1, 0.4]]]


def _start(
    mode: str, storage: str, output: Path, *more: str, **environment: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), mode, storage, str(output), *more],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def _check(output: Path) -> None:
    result = json.loads(output.with_suffix(".0").read_text())
    assert result["outcomes"] == PRUNED["outcomes"]
    for found, expected in zip(result["reports"], REPORTS, strict=True):
        assert dict(found) == pytest.approx(dict(expected))


@pytest.mark.host
def test_every_process_runs_the_script(tmp_path: Path) -> None:
    """As under torchrun, with a study in the first one's memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    output = tmp_path / "out"
    processes = [
        _start("external", "", output, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=500) for process in processes] == [0, 0]
    _check(output)
    assert json.loads(output.with_suffix(".1").read_text()) == PRUNED  # raised there as well


@pytest.mark.host
@pytest.mark.parametrize(
    ("start_method", "url"),
    [
        ("fork", "sqlite:///{}/study.db"),
        pytest.param("spawn", "journal:{}/study.log", marks=pytest.mark.slow),
    ],
)
def test_fit_starts_the_processes(start_method: str, url: str, tmp_path: Path) -> None:
    process = _start(start_method, url.format(tmp_path), tmp_path / "out")
    assert process.wait(timeout=500) == 0
    _check(tmp_path / "out")


@pytest.mark.host
def test_several_objectives_in_processes_that_fit_starts(tmp_path: Path) -> None:
    process = _start("fork", f"sqlite:///{tmp_path}/study.db", tmp_path / "out", "size")
    assert process.wait(timeout=500) == 0
    result = json.loads((tmp_path / "out.0").read_text())
    pruned = ["pruned", "the objectives are ['0.4', '7'] after 2 epochs"]
    assert result["outcomes"] == [["complete", 0.8], pruned]
    whole, stopped = (dict(report) for report in result["reports"])
    assert [list(whole), list(stopped)] == [[1, 2, 3], [1, 2]]
    assert stopped[2] == pytest.approx([0.4, 7.0])


@pytest.mark.parametrize("interval", [0.5, 1.0])
def test_an_epoch_is_reported_by_its_last_validation(interval: float) -> None:
    """Optuna keeps the first report of a step."""

    class Early(Scripted):
        def on_validation_epoch_end(self) -> None:
            amid = self.trainer.fit_loop.batch_idx == 0
            self.log("val_acc", self.curve[self.current_epoch] - 0.3 * amid)

    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[OptunaPruningCallback(study.ask())],
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, val_check_interval=interval,
    )  # fmt: skip
    trainer.fit(Early([0.5, 0.7]), DATA, DATA)
    assert study.trials[0].intermediate_values == pytest.approx({0: 0.5, 1: 0.7})
