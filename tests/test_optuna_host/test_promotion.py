"""Successive halving whose promoted trainings go on from their checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
import pytorch_lightning as pl
import torch
from optuna.trial import TrialState

from lightning_modules import DigitsDataModule, train_child
from lightning_modules.callbacks import OptunaPruningCallback
from nas_plugins import Architecture, Budget, spaces
from nas_plugins.optuna import PromotePruned, RandomArchitectureSampler, architecture_of, suggest

optuna.logging.set_verbosity(optuna.logging.ERROR)

BUDGET = Budget(epochs=4, data_fraction=0.1)
CHOICES = ["none", "skip_connect", "nor_conv_1x1", "avg_pool_3x3"]
PROMISE = {"none": 0.5, "skip_connect": 0.6, "nor_conv_1x1": 0.55, "avg_pool_3x3": 0.2}


@pytest.fixture(scope="module")
def space():
    return spaces.load("nas_bench_201", channels=2, num_cells=1, in_channels=1)


@pytest.fixture(scope="module")
def data():
    return DigitsDataModule(batch_size=64)


def architecture(space, choice) -> Architecture:
    return space.default().replace(**{"cell/1<-0": choice, "cell/3<-0": "nor_conv_1x1"})


class Scripted(pl.Callback):
    """Logs what is promised instead of a score, and counts the epochs that are trained."""

    def __init__(self, choice: str, trained: list[str]) -> None:
        self.choice, self.trained = choice, trained

    def on_validation_epoch_end(self, trainer, pl_module):
        late = self.choice == "nor_conv_1x1" and trainer.current_epoch > 1
        pl_module.log("promise", 0.9 if late else PROMISE[self.choice])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.trained.append(self.choice)


def test_a_trial_that_is_promoted_late_goes_on_where_it_was_pruned(space, data, tmp_path):
    trained: list[str] = []
    results = {}

    def train(chosen, **options):
        return train_child(space, chosen, data, budget=BUDGET, accelerator="cpu", **options)

    def objective(trial):
        chosen = suggest(trial, space)
        callbacks = [
            Scripted(chosen["cell/1<-0"], trained),
            OptunaPruningCallback(trial, monitor="promise"),
        ]
        results[trial.number] = train(chosen, directory=tmp_path, callbacks=callbacks)
        return results[trial.number].metrics["promise"]

    study = optuna.create_study(
        direction="maximize",
        sampler=RandomArchitectureSampler(space, seed=0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    )
    for choice in CHOICES:
        study.enqueue_trial(dict(architecture(space, choice)))
    study.optimize(objective, n_trials=5, callbacks=[PromotePruned(2)])
    states = [trial.state.name for trial in study.trials]
    # Of [.5, .6, .55] the best is in the better half, of [.5, .6, .55, .2] the best two.
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    promoted = study.trials[4]
    chosen = architecture(space, "nor_conv_1x1")
    assert architecture_of(promoted, space) == chosen
    assert list(promoted.intermediate_values) == [0, 1, 2, 3]
    # Nothing was trained twice: two epochs before it was pruned, and two after.
    assert trained.count("nor_conv_1x1") == 4
    assert len(trained) == 4 + 4 + 2 + 2 + 2
    assert promoted.user_attrs["epochs_saved"] == results[4].epochs_saved == 2
    assert "epochs_saved" not in study.trials[0].user_attrs
    # And it is the training that it would have been without a break.
    unbroken = train(chosen, directory=tmp_path / "unbroken")
    assert results[4].curve == unbroken.curve
    found, expected = (
        torch.load(result.checkpoint, weights_only=True)["state_dict"]
        for result in (results[4], unbroken)
    )
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def study_of(curves) -> tuple[optuna.Study, Callable[[optuna.Trial], float]]:
    """Trials that reported these curves, and what they did."""
    study = optuna.create_study(
        direction="minimize",
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    )
    for number in range(len(curves)):
        study.enqueue_trial({"number": number})

    def objective(trial):
        curve = curves[trial.suggest_int("number", 0, 99)]
        done = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
        for step in range(done, len(curve)):
            trial.report(curve[step], step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return curve[-1]

    study.optimize(objective, n_trials=len(curves))
    return study, objective


def test_the_best_half_of_the_first_rung_goes_on_in_the_end():
    ends = [0.5, 0.4, 0.45, 0.9, 0.44, 0.8, 0.7, 0.6]
    study, objective = study_of([[1.0, end, end] for end in ends])
    promote = PromotePruned(2)
    promote(study, study.trials[-1])
    while study.get_trials(states=(TrialState.WAITING,)):
        study.optimize(objective, n_trials=1, callbacks=[promote])
    reached = {t.params["number"] for t in study.trials if "completed_rung_1" in t.system_attrs}
    assert reached == {i for i, end in enumerate(ends) if end <= 0.5}


def test_nothing_is_promoted_twice_and_nothing_below_the_cut():
    study, _ = study_of([[1.0, 0.1], [1.0, 0.3], [1.0, 0.2], [1.0, 0.4]])
    promote = PromotePruned(2)
    for _ in range(3):
        promote(study, study.trials[-1])
    waiting = [t for t in study.trials if t.state is TrialState.WAITING]
    assert [t.params["number"] for t in waiting] == [2]
    assert waiting[0].intermediate_values == {0: 1.0, 1: 0.2}


def test_other_pruners_and_factors_are_refused():
    study = optuna.create_study(pruner=optuna.pruners.HyperbandPruner())
    with pytest.raises(ValueError, match="a HyperbandPruner; expected a SuccessiveHalvingPruner"):
        PromotePruned()(study, None)
    with pytest.raises(ValueError, match="reduction_factor is 1"):
        PromotePruned(1)
