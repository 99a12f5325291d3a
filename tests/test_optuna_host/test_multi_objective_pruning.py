"""Early stopping in studies with two objectives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
import pytorch_lightning as pl
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pruned_in_ddp import Scripted
from test_pruning_callback import DATA

from benchmarks.early_stopping import CURVES, compare, hypervolume
from benchmarks.scale_optuna import retry_failed_trial
from lightning_modules.callbacks import OptunaMultiObjectivePruningCallback
from nas_plugins import SearchSpace
from nas_plugins.errors import ScoreError
from nas_plugins.estimators.moasha import MOASHA
from nas_plugins.optuna import (
    ArchitectureSampler,
    MultiObjectivePruner,
    intermediate_values,
    space_of,
)
from nas_plugins.optuna.history import StudyHistory

optuna.logging.set_verbosity(optuna.logging.ERROR)

EPOCHS = 9
PRUNER = MultiObjectivePruner(MOASHA(max_resource=EPOCHS, spare_front=True))


def values_of(width: int, kernel: int, epoch: int) -> tuple[float, float]:
    """Accuracy grows with the width and the epochs; even kernels are a waste."""
    accuracy = (1 - 1 / (1 + width)) * (1 - 0.5**epoch)
    return accuracy - 0.2 * (kernel % 2 == 0), float(width * kernel)


def objective(trial: optuna.Trial, pruner: MultiObjectivePruner = PRUNER) -> tuple[float, float]:
    width, kernel = trial.suggest_int("width", 1, 32), trial.suggest_int("kernel", 1, 6)
    for epoch in range(1, EPOCHS + 1):
        values = values_of(width, kernel, epoch)
        if pruner.should_prune(trial, values, step=epoch):
            raise optuna.TrialPruned
    return values


def study_with(sampler: Any = None, storage: Any = None) -> optuna.Study:
    sampler = sampler or optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(
        directions=["maximize", "minimize"], sampler=sampler, storage=storage
    )


@pytest.mark.parametrize("kind", ["memory", "journal"])
def test_trials_are_stopped_and_the_front_is_kept(kind: str, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    storage = None if kind == "memory" else JournalStorage(JournalFileBackend(log))
    study = study_with(storage=storage)
    study.optimize(objective, n_trials=30)
    stopped = [t for t in study.trials if t.state is TrialState.PRUNED]
    assert len(stopped) > 5
    assert all(trial.values is None for trial in stopped)
    whole = study_with()
    for trial in study.trials:  # what unbroken trainings give
        whole.enqueue_trial(trial.params)
    whole.optimize(lambda t: objective(t, MultiObjectivePruner(MOASHA(min_resource=99))), 30)
    front = {tuple(trial.values) for trial in whole.best_trials}
    assert {tuple(trial.values) for trial in study.best_trials} == front


def test_what_was_reported_is_read_back() -> None:
    study = study_with()
    trial = study.ask()
    assert not PRUNER.should_prune(trial, (0.5, 3), step=1)
    assert PRUNER.should_prune(trial, (math.nan, 3), step=3)
    reported = intermediate_values(study.trials[0])
    assert reported[1] == (0.5, 3.0)
    assert math.isnan(reported[3][0])
    assert list(reported) == [1, 3]


def test_a_trial_is_judged_once_at_a_rung() -> None:
    study = study_with()
    pruner = MultiObjectivePruner()
    first, second = study.ask(), study.ask()
    assert not pruner.should_prune(first, (0.5, 1.0), step=1)
    assert pruner.should_prune(second, (0.4, 2.0), step=1)
    assert not pruner.should_prune(second, (0.1, 2.0), step=2)  # between rungs
    assert not pruner.should_prune(first, (0.6, 1.0), step=4)  # the rung at 3, and the first there
    assert not pruner.should_prune(second, (0.9, 1.0), step=5)
    assert not pruner.should_prune(second, (0.1, 9.0), step=6)


def test_a_retried_trial_is_not_its_own_peer(tmp_path: Path) -> None:
    """It carries what the failed one wrote."""
    storage = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    study = study_with(storage=storage)
    pruner = MultiObjectivePruner()
    failed = study.ask()
    pruner.should_prune(failed, (0.9, 1.0), step=1)
    study.tell(failed, state=TrialState.FAIL)
    retry_failed_trial(study, study.trials[0])
    again = study.ask()
    assert again.number == 1
    assert not pruner.should_prune(again, (0.5, 2.0), step=1)  # the first at its rung
    other = study.ask()
    assert pruner.should_prune(other, (0.4, 3.0), step=1)


def test_as_many_values_as_objectives() -> None:
    trial = study_with().ask()
    with pytest.raises(
        ScoreError, match="trial 0 reports 1 values; expected one for each of the 2"
    ):
        PRUNER.should_prune(trial, [0.5], step=1)


def test_one_objective_is_fine_too() -> None:
    study = optuna.create_study(direction="minimize")
    first, second = study.ask(), study.ask()
    assert not PRUNER.should_prune(first, [0.5], step=1)
    assert PRUNER.should_prune(second, [0.6], step=1)


def search_space() -> SearchSpace:
    return space_of(
        {
            "width": optuna.distributions.IntDistribution(1, 32),
            "kernel": optuna.distributions.IntDistribution(1, 6),
        }
    )


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
        lambda: optuna.samplers.NSGAIISampler(seed=0, population_size=6),
        lambda: ArchitectureSampler("nsga2", search_space(), seed=0),
    ],
    ids=["tpe", "optuna_nsga2", "nsga2"],
)
def test_samplers_go_on_from_stopped_trials(sampler: Any) -> None:
    study = study_with(sampler())
    study.optimize(objective, n_trials=30)
    states = [trial.state for trial in study.trials]
    assert {TrialState.COMPLETE, TrialState.PRUNED} == set(states)
    told = StudyHistory(study._storage, study._study_id).read()
    assert len(told) == 30


@pytest.mark.host
def test_workers_compare_through_the_storage(tmp_path: Path) -> None:
    study = study_with(storage=f"sqlite:///{tmp_path}/study.db")
    study.optimize(objective, n_trials=24, n_jobs=2)
    at_first = [t.system_attrs.get("nas_plugins:rung:0") for t in study.trials]
    assert [entry[0] for entry in at_first] == list(range(24))  # each its own, none lost
    assert any(trial.state is TrialState.PRUNED for trial in study.trials)


# -- on recorded trainings --------------------------------------------------------------


def test_hypervolume_is_the_area() -> None:
    whole = [(0.5, 1.0), (1.0, math.e)]
    assert hypervolume(whole, whole) == pytest.approx(0.5)
    three = [*whole, (0.9, math.e**2)]
    assert hypervolume(three, three) == pytest.approx(1 * 1.0 + 1 * 0.5)
    assert hypervolume([(0.4, 1.0)], three) == pytest.approx(2 * 0.4)


def test_epochs_are_saved_and_the_front_is_kept() -> None:
    """Of 81 real trainings, as benchmarks/results has it for more orders of them."""
    rows = compare(json.loads(CURVES.read_text()), num_orders=5, seed=0)
    epochs = {row["rule"]: float(row["epochs"].rstrip("%")) for row in rows}
    kept = {row["rule"]: float(row["hypervolume"].rstrip("%")) for row in rows}
    assert epochs["none"] == kept["none"] == 100
    assert epochs["spare_front, eta 3"] < 60
    assert kept["spare_front, eta 3"] > 98
    assert epochs["published, eta 3"] < epochs["spare_front, eta 3"]


# -- Lightning --------------------------------------------------------------------------


def fit(trial: optuna.Trial | None, curve: list[float], size: float, rule: MOASHA) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=len(curve),
        accelerator="cpu",
        callbacks=[
            OptunaMultiObjectivePruningCallback(
                trial, MultiObjectivePruner(rule), monitor=["val_acc", size]
            )
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scripted(curve), DATA, DATA)
    return trainer


TRAININGS = [([0.5, 0.7, 0.9], 2.0), ([0.4, 0.3, 0.2], 3.0), ([0.4, 0.3, 0.2], 1.0)]


def test_a_fit_ends_when_its_trial_is_stopped() -> None:
    def trained(trial: optuna.Trial) -> tuple[float, float]:
        curve, size = TRAININGS[trial.number]
        trainer = fit(trial, curve, size, MOASHA(min_resource=2, spare_front=True))
        return float(trainer.callback_metrics["val_acc"]), size

    study = study_with()
    study.optimize(trained, n_trials=3)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]  # worse and larger; worse and smaller
    second = intermediate_values(study.trials[1])
    assert list(second) == [1, 2]
    assert second[2] == pytest.approx((0.3, 3.0))
    assert [trial.number for trial in study.best_trials] == [0, 2]


def test_a_training_that_is_over_is_not_stopped() -> None:
    study = study_with()
    rule = MOASHA(min_resource=3)
    for curve, size in TRAININGS[:2]:
        fit(study.ask(), curve, size, rule)
    assert all(3 in intermediate_values(trial) for trial in study.trials)


def test_without_a_trial_or_a_metric() -> None:
    fit(None, [0.1, 0.2], 1.0, MOASHA())
    callback = OptunaMultiObjectivePruningCallback(None, PRUNER, monitor=["loss", 1.0])
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="monitor is 'loss', which is not logged"):
        trainer.fit(Scripted([0.1]), DATA, DATA)


def test_a_trial_that_is_listed_late_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's proxy may list a trial after a later one; each is read by its own id."""
    study = study_with()
    first, second = study.ask(), study.ask()
    listed = [t for t in study.trials if t.number != first.number]
    monkeypatch.setattr(first.study, "get_trials", lambda **_: listed)
    monkeypatch.setattr(second.study, "get_trials", lambda **_: listed)
    pruner = MultiObjectivePruner()
    assert not pruner.should_prune(second, (0.5, 1.0), step=1)
