import numpy as np
import optuna
import pytest
import pytorch_lightning as pl
import torch
from nni.assessor import AssessResult

from lightning_modules.callbacks import LearningCurveStopping
from nas_plugins import ScoreError
from nas_plugins.estimators.curve_families import FAMILIES, best_fit
from nas_plugins.estimators.curve_stopping import CurveStopping
from nas_plugins.estimators.learning_curve import CurveModel, Extrapolation
from nas_plugins.nni import LearningCurveAssessor
from nas_plugins.optuna import LearningCurvePruner

QUICK = CurveModel(num_steps=300, burn_in=100)


def curve(end, epochs=50, speed=0.7, noise=0.005, seed=0):
    x = np.arange(1, epochs + 1)
    clean = end - 0.6 * end * x**-speed
    return np.clip(clean + noise * np.random.default_rng(seed).standard_normal(epochs), 0, 1)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_family_is_fitted_to_its_own_curve(name):
    family = FAMILIES[name]
    epochs = np.arange(1.0, 31)
    truth = family.curve(epochs, *(p * 1.1 for p in family.start))
    found = best_fit(family, epochs, truth, 50.0)
    assert np.abs(family.curve(epochs, *found) - truth).max() < 1e-3


@pytest.mark.parametrize("end", [0.5, 0.9])
def test_the_end_is_foretold_from_the_first_third(end):
    whole = curve(end)
    belief = QUICK.extrapolate(whole[:17], 50)
    assert abs(belief.mean - whole[-1]) < max(0.03, 3 * belief.deviation)
    assert belief.probability_above(whole[-1] + 0.15) < 0.05
    assert belief.probability_above(whole[-1] - 0.15) > 0.95


def test_beliefs_get_surer_with_epochs():
    whole = curve(0.8)
    early, late = (QUICK.extrapolate(whole[:n], 50) for n in (5, 30))
    assert late.deviation < early.deviation


def test_the_same_seed_gives_the_same_and_numpys_generator_is_left_alone():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    first, second = (QUICK.extrapolate(curve(0.7)[:8], 50) for _ in range(2))
    assert np.array_equal(first.means, second.means)
    assert np.random.rand() == expected


def test_bounds_scale_and_shift():
    plain = QUICK.extrapolate(curve(0.7)[:10], 50)
    percent = CurveModel(num_steps=300, burn_in=100, bounds=(-100.0, 0.0))
    moved = percent.extrapolate(100 * curve(0.7)[:10] - 100, 50)
    assert moved.mean == pytest.approx(100 * plain.mean - 100, abs=1e-2)


def test_probability_is_that_of_a_normal_mixture():
    belief = Extrapolation(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert belief.mean == 0.5
    assert belief.deviation == pytest.approx(1.25**0.5)
    assert belief.probability_above(0.5) == pytest.approx(0.5)
    assert belief.probability_above(1.0) == pytest.approx((0.1586553 + 0.5) / 2)


@pytest.mark.parametrize(
    "values",
    [
        [0.8, 0.7, 0.6, 0.5, 0.45],
        [0.1, 0.1, 0.1, 0.1, 0.1],
        [0.1, 0.11, 0.09, 0.1, 0.095],
        [0.12, 0.1, 0.1, 0.13, 0.08, 0.11, 0.1, 0.1],
        [0.0, 0.0, 0.0, 0.0],
    ],
)
def test_what_falls_or_stands_still_is_not_believed_to_rise(values):
    belief = QUICK.extrapolate(values, 50)
    assert np.isfinite([belief.mean, belief.deviation]).all()
    if values[-1] <= 0.1:
        assert CurveStopping(50, min_epochs=len(values), model=QUICK).should_stop(values, 0.95)


def test_what_falls_is_explained_by_noise():
    falling = [0.8, 0.7, 0.6, 0.5, 0.45]
    belief = QUICK.extrapolate(falling, 50)
    rising = QUICK.extrapolate(falling[::-1], 50)
    assert belief.deviation > rising.deviation
    assert np.median(belief.deviations) > 3 * np.median(rising.deviations)
    assert np.mean(belief.deviations) > 0.08  # of the five values it is 0.13
    rule = CurveStopping(50, min_epochs=5, model=QUICK)
    assert not rule.should_stop(falling, 0.82)  # it may recover
    assert rule.should_stop([value - 0.4 for value in falling], 0.98)


class Known:
    """A model that is certain of an end."""

    def __init__(self, end):
        self.end, self.calls = end, 0

    def extrapolate(self, values, horizon):
        self.calls += 1
        return Extrapolation(np.array([self.end]), np.array([0.01]))


def test_the_rule():
    rule = CurveStopping(20, min_epochs=4, interval=3, model=Known(0.6))
    assert not rule.should_stop([0.1] * 4, None)  # nothing to beat
    assert not rule.should_stop([0.1] * 3, 0.9)  # too early
    assert rule.should_stop([0.1] * 4, 0.9)
    assert not rule.should_stop([0.1] * 5, 0.9)  # between two decisions
    assert rule.should_stop([0.1] * 7, 0.9)
    assert not rule.should_stop([0.1] * 4, 0.55)  # will be better
    assert not rule.should_stop([0.1, 0.95, 0.1, 0.1], 0.9)  # was better
    assert not rule.should_stop([0.1] * 22, 0.9)
    assert rule.model.calls == 3
    # Asked only now and then, it decides as soon as a decision is overdue, and once.
    assert rule.should_stop([0.1] * 9, 0.9, seen=6)
    assert not rule.should_stop([0.1] * 9, 0.9, seen=7)
    assert rule.should_stop([0.1, float("nan")], 0.9)  # no way back


@pytest.mark.parametrize(("horizon", "first"), [(5, 4), (17, 4), (30, 7), (285, 71)])
def test_nothing_is_decided_in_the_first_quarter(horizon, first):
    rule = CurveStopping(horizon, model=Known(0.1))
    stops = [rule.should_stop([0.1] * n, 0.9) for n in range(1, horizon)]
    assert stops == [n >= first for n in range(1, horizon)]


def test_what_cannot_be_extrapolated_is_named():
    with pytest.raises(ScoreError, match="the value 3.2; expected all in"):
        QUICK.extrapolate([0.1, 0.2, 3.2], 10)
    with pytest.raises(ScoreError, match="nan"):
        QUICK.extrapolate([0.1, 0.2, float("nan")], 10)
    with pytest.raises(ValueError, match="at least three values"):
        QUICK.extrapolate([0.1, 0.2], 10)
    with pytest.raises(ValueError, match="num_walkers is 20"):
        CurveModel(num_walkers=20)
    with pytest.raises(ValueError, match="min_epochs is 2"):
        CurveStopping(10, min_epochs=2)


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_optuna_prunes_what_will_not_be_better(direction, sign):
    bounds = (0.0, 1.0) if sign > 0 else (-1.0, 0.0)
    pruner = LearningCurvePruner(30, bounds=bounds, min_epochs=12, interval=50)
    study = optuna.create_study(direction=direction, pruner=pruner)
    ends = iter([0.9, 0.3, 0.95])

    def objective(trial):
        values = sign * curve(next(ends), epochs=30)
        for step, value in enumerate(values):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return values[-1]

    study.optimize(objective, n_trials=3)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert len(study.trials[1].intermediate_values) == 12


def test_nni_assesses_by_what_ended_well():
    assessor = LearningCurveAssessor(30, "minimize", (0.0, 1.0), min_epochs=12, interval=50)
    losses = {end: list(1 - curve(end, epochs=30)) for end in (0.3, 0.9)}
    assert assessor.assess_trial("a", losses[0.9]) is AssessResult.Good
    assessor.trial_end("a", True)
    history = [{"default": value, "other": 1} for value in losses[0.3][:12]]
    assert assessor.assess_trial("b", history) is AssessResult.Bad
    assessor.trial_end("b", False)
    assert assessor.assess_trial("c", losses[0.9][:12]) is AssessResult.Good
    # NNI skips a call where results came in disorder, here that at which a decision was due.
    assert assessor.assess_trial("d", losses[0.3][:11]) is AssessResult.Good
    assert assessor.assess_trial("d", losses[0.3][:13]) is AssessResult.Bad
    with pytest.raises(ValueError, match="optimize_mode is 'max'"):
        LearningCurveAssessor(30, "max")


class Rising(pl.LightningModule):
    def __init__(self, values):
        super().__init__()
        self.layer, self.values = torch.nn.Linear(1, 1), values

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", float(self.values[self.current_epoch]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize(("incumbent", "epochs"), [(0.9, 10), (0.2, 20)])
def test_lightning_ends_what_will_not_be_better(incumbent, epochs):
    callback = LearningCurveStopping(incumbent, min_epochs=10, interval=50)
    trainer = pl.Trainer(
        max_epochs=20,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    images = torch.utils.data.DataLoader(torch.zeros(1, 1))
    trainer.fit(Rising(curve(0.4, epochs=20)), images, images)
    assert len(callback.curve) == epochs
    assert callback.stopped == (epochs == 10)
    again = LearningCurveStopping(incumbent)
    again.load_state_dict(callback.state_dict())
    assert again.curve == callback.curve
