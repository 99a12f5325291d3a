"""Training a child: budget, decisions of training, reproducibility, resuming."""

from __future__ import annotations

import logging
import random
import threading
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from ConfigSpace import ConfigurationSpace
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import TensorDataset

from lightning_modules import ChildClassifier, DataError, DatasetDataModule, train_child
from lightning_modules.training import ChildResult
from nas_plugins import Architecture, Budget, SearchSpace, UnsupportedSpaceError
from nas_plugins.rebuild import CheckpointError
from nas_plugins.spaces import load

SHORT = Budget(epochs=1, data_fraction=0.2)


def train(space, architecture, data, **options) -> ChildResult:
    options.setdefault("budget", SHORT)
    return train_child(space, architecture, data, accelerator="cpu", **options)


class Dropping(nn.Module):
    """Draws random numbers in training, which a resumed training has to draw again."""

    def __init__(self, choose, num_classes=10):
        super().__init__()
        act = choose.layer("act", {"relu": nn.ReLU, "tanh": nn.Tanh})
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), act, nn.Dropout(0.3), nn.Linear(32, num_classes)
        )

    def forward(self, x):
        return self.layers(x)


class Interrupt(Exception):
    pass


class StopAfter(pl.Callback):
    """What a kill after some epochs looks like from the files it leaves."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epochs:
            raise Interrupt


class Batches(pl.Callback):
    def __init__(self) -> None:
        self.num = 0
        self.learning_rates: list[float] = []

    def on_train_batch_end(self, trainer, *args):
        self.num += 1

    def on_train_batch_start(self, trainer, *args):
        self.learning_rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_learns_the_digits(space, architecture, digits):
    result = train(space, architecture, digits, budget=Budget(epochs=5), test=True)
    assert result.score > 0.85
    assert result.metrics["test_acc"] > 0.85
    assert result.score == result.metrics["val_acc"] == result.curve[-1]
    assert len(result.curve) == 5
    assert result.curve[0] < result.score
    assert set(result.metrics) == {"val_acc", "val_loss", "train_loss", "test_acc", "test_loss"}
    assert result.checkpoint is None
    assert result.seconds > 0


def test_same_seed_same_score_and_another_seed_another(space, architecture, digits):
    results = [train(space, architecture, digits, seed=seed) for seed in (3, 3, 4)]
    assert results[0].metrics == results[1].metrics
    assert results[0].metrics != results[2].metrics


def test_threads_do_not_disturb_each_other(space, architecture, digits):
    alone = [train(space, architecture, digits, seed=seed) for seed in (0, 1)]
    together: dict[int, ChildResult] = {}

    def run(seed: int) -> None:
        together[seed] = train(space, architecture, digits, seed=seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed].metrics for seed in (0, 1)] == [result.metrics for result in alone]


def test_leaves_the_process_as_it_was(space, architecture, digits):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    before = logger.level, list(warnings.filters)
    train(space, architecture, digits)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert (logger.level, list(warnings.filters)) == before
    assert digits.trainer is None


def test_leaves_the_process_as_it_was_after_a_failure(space, architecture, digits):
    torch.manual_seed(3)
    expected = torch.rand(1).item()
    torch.manual_seed(3)
    with pytest.raises(Interrupt):
        train(space, architecture, digits, callbacks=[StopAfter(0)])
    assert torch.rand(1).item() == expected


def test_is_silent_and_writes_nothing(space, architecture, digits, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(space, architecture, digits, callbacks=[Batches()])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [str(w.message) for w in caught] == []
    assert list(tmp_path.iterdir()) == []


def test_budget_reaches_data_and_network(space, architecture, digits):
    batches = Batches()
    budget = Budget(epochs=2, data_fraction=0.25, width=0.5, num_cells=2)
    seen = Seen()
    train(space, architecture, digits, budget=budget, callbacks=[batches, seen])
    size = len(digits.part("train"))
    assert batches.num == 2 * -(-round(size * 0.25) // 64)
    assert seen.child.hparams["network_options"] == {
        "channels": 2, "num_cells": 2, "num_classes": 10, "in_channels": 1
    }  # fmt: skip
    assert seen.child.network.stem[0].out_channels == 2


class Seen(pl.Callback):
    """Keeps the module that was trained."""

    def on_fit_start(self, trainer, pl_module):
        self.child = pl_module
        self.data = trainer.datamodule
        self.clip = trainer.gradient_clip_val


def test_darts_clips_gradients(space, architecture, digits):
    seen = Seen()
    train(space, architecture, digits, callbacks=[seen])
    assert seen.clip == 5.0


def test_decisions_of_training_override_options(space, architecture, digits):
    training = {
        "train/learning_rate": 0.3,
        "train/weight_decay": 0.002,
        "train/schedule": "constant",
        "train/batch_size": 16,
        "train/loss": "focal",
        "train/initialisation": "orthogonal",
    }
    joint = space.join(ConfigurationSpace({k: [v] for k, v in training.items()}))
    seen = Seen()
    both = Architecture({**architecture, **training})
    train(joint, both, digits, callbacks=[seen], learning_rate=0.1, optimizer="adamw")
    hparams = seen.child.hparams
    assert {k: hparams[k.removeprefix("train/")] for k in training if "batch" not in k} == {
        k: v for k, v in training.items() if "batch" not in k
    }
    assert hparams["optimizer"] == "adamw"
    assert seen.data.batch_size == 16
    assert digits.batch_size == 64
    assert seen.child.architecture == both
    assert seen.child.hparams["input_shape"] == (1, 8, 8)


def test_every_choice_of_the_joint_space_is_understood():
    joint = load("joint", channels=2, num_cells=1)
    for decision in joint.decisions.values():
        if decision.label.startswith("train/") and decision.label != "train/batch_size":
            for choice in decision.all_choices(points=2):
                option = {decision.label.removeprefix("train/"): choice}
                child = ChildClassifier(joint, joint.default(), **option)
                assert child.hparams[next(iter(option))] == choice


def test_unknown_decision_of_training_is_refused(space, architecture, digits):
    joint = space.join(ConfigurationSpace({"train/lr": [0.1]}))
    with pytest.raises(UnsupportedSpaceError, match=r"'train/lr'.*'learning_rate'"):
        train(joint, Architecture({**architecture, "train/lr": 0.1}), digits)


def test_other_data_modules_are_refused(space, architecture):
    with pytest.raises(DataError, match=r"a LightningDataModule; .*ImageData.*DatasetDataModule"):
        train(space, architecture, pl.LightningDataModule())


@pytest.mark.parametrize(
    ("option", "cure"),
    [
        ({"callbacks": []}, "callbacks="),
        ({"max_epochs": 2}, r"budget=Budget\(epochs="),
        ({"check_val_every_n_epoch": 2}, "expected validation in every epoch"),
        ({"limit_val_batches": 0}, "expected validation in every epoch"),
    ],
)
def test_trainer_options_with_an_argument_of_their_own_are_refused(
    space, architecture, digits, option, cure
):
    with pytest.raises(ValueError, match=cure):
        train(space, architecture, digits, trainer_options=option)


def test_unknown_option_is_refused(space, architecture, digits):
    with pytest.raises(TypeError, match="learning_rat"):
        train(space, architecture, digits, learning_rat=0.1)


def test_network_without_the_data_s_channels_is_named(digits):
    space = SearchSpace.from_network(Rigid)
    with pytest.raises(DataError, match=r"shape \(1, 8, 8\).*expects 3 channels"):
        train(space, space.default(), digits)


def test_network_with_too_few_classes_is_named(digits):
    space = SearchSpace.from_network(Rigid, channels=1)
    with pytest.raises(DataError, match=r"output of shape \(1, 7\).*10 classes"):
        train(space, space.default(), digits)


class Rigid(nn.Module):
    def __init__(self, choose, channels=3):
        super().__init__()
        act = choose.layer("act", {"relu": nn.ReLU, "tanh": nn.Tanh})
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3), act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)
        )

    def forward(self, x):
        return self.layers(x)


def test_labels_beyond_the_classes_are_named(space, architecture):
    images = [(torch.zeros(1, 8, 8), label) for label in (0, 1, 2, 5) * 4]
    data = DatasetDataModule(images, num_classes=3, validation_fraction=0.5)
    with pytest.raises(DataError, match=r"label 5.*3 classes"):
        train(space, architecture, data)


# -- checkpoints ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dropping() -> SearchSpace:
    return SearchSpace.from_network(Dropping)


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_resumed_training_equals_unbroken_one(dropping, digits, tmp_path):
    architecture = dropping.default()
    budget = Budget(epochs=4, data_fraction=0.3)
    options = {"budget": budget, "seed": 5}
    unbroken = train(dropping, architecture, digits, directory=tmp_path / "a", **options)
    with pytest.raises(Interrupt):
        train(
            dropping, architecture, digits,
            directory=tmp_path / "b", callbacks=[StopAfter(2)], **options,
        )  # fmt: skip
    batches = Batches()
    resumed = train(
        dropping, architecture, digits,
        directory=tmp_path / "b", callbacks=[batches], **options,
    )  # fmt: skip
    assert batches.num == 2 * len(digits.prepared_for(data_fraction=0.3).train_dataloader())
    assert resumed.curve == unbroken.curve
    assert resumed.metrics == unbroken.metrics
    expected, got = weights(unbroken.checkpoint), weights(resumed.checkpoint)
    assert all(torch.equal(expected[k], got[k]) for k in expected)


def test_finished_training_is_not_repeated(space, architecture, digits, tmp_path):
    first = train(space, architecture, digits, directory=tmp_path)
    batches = Batches()
    second = train(space, architecture, digits, directory=tmp_path, callbacks=[batches])
    assert batches.num == 0
    assert second.epochs_saved == 1
    assert (second.score, second.metrics, second.curve) == (
        first.score,
        first.metrics,
        first.curve,
    )
    assert second.checkpoint == first.checkpoint


@pytest.mark.parametrize("fixed", [{"schedule": "constant"}, {"schedule_epochs": 3}])
def test_promotion_continues_the_shorter_training(dropping, digits, tmp_path, fixed):
    architecture = dropping.default()
    straight = train(dropping, architecture, digits, budget=SHORT.replace(epochs=3), **fixed)
    train(dropping, architecture, digits, directory=tmp_path, **fixed)
    batches = Batches()
    promoted = train(
        dropping, architecture, digits, budget=SHORT.replace(epochs=3),
        directory=tmp_path, callbacks=[batches], **fixed,
    )  # fmt: skip
    assert batches.num == 2 * len(digits.prepared_for(data_fraction=0.2).train_dataloader())
    assert promoted.curve == straight.curve
    assert promoted.metrics == straight.metrics
    assert (straight.epochs_saved, promoted.epochs_saved) == (0, 1)


def test_promotion_takes_up_the_longer_schedule(dropping, digits, tmp_path):
    train(dropping, dropping.default(), digits, directory=tmp_path)
    batches = Batches()
    train(
        dropping, dropping.default(), digits, budget=SHORT.replace(epochs=2),
        directory=tmp_path, callbacks=[batches],
    )  # fmt: skip
    # Halfway of a cosine that starts at the digits' 0.1, not at the end of the shorter one.
    assert batches.learning_rates[0] == pytest.approx(0.05)


def test_fewer_epochs_than_before_train_afresh(dropping, digits, tmp_path):
    budget = SHORT.replace(epochs=2)
    train(dropping, dropping.default(), digits, budget=budget, directory=tmp_path)
    short = train(dropping, dropping.default(), digits, directory=tmp_path)
    assert short.metrics == train(dropping, dropping.default(), digits).metrics


def test_one_directory_serves_a_whole_search(space, architecture, digits, tmp_path):
    other = architecture.replace(**{"cell/3<-2": "nor_conv_1x1"})
    first = train(space, architecture, digits, directory=tmp_path)
    paths = {first.checkpoint}
    for change in (
        {"architecture": other},
        {"seed": 1},
        {"learning_rate": 0.05},
        {"budget": SHORT.replace(width=0.5)},
        {"budget": SHORT.replace(data_fraction=0.3)},
        {"data": digits.prepared_for(batch_size=32)},
    ):
        arguments = {"architecture": architecture, "data": digits, **change}
        result = train(space, directory=tmp_path, **arguments)
        assert result.metrics != first.metrics
        paths.add(result.checkpoint)
    assert len(paths) == 7
    assert all(path.is_file() for path in paths)


def test_options_of_the_trainer_tell_trainings_apart(space, architecture, digits, tmp_path):
    def trained(**options) -> ChildResult:
        return train(space, architecture, digits, directory=tmp_path, trainer_options=options)

    short, full = trained(limit_train_batches=1), trained()
    assert short.checkpoint.parent != full.checkpoint.parent
    assert short.metrics["train_loss"] != full.metrics["train_loss"]
    logged = trained(limit_train_batches=1, logger=CSVLogger(tmp_path / "log"))
    assert logged.checkpoint == short.checkpoint


def test_edited_network_does_not_take_up_old_weights(digits, tmp_path):
    def edition(hidden: int):
        def network(choose):
            act = choose.layer("act", {"relu": nn.ReLU, "tanh": nn.Tanh})
            return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), act, nn.Linear(hidden, 10))

        return SearchSpace.from_network(network)

    spaces = [edition(8), edition(16)]
    paths = {train(s, s.default(), digits, directory=tmp_path).checkpoint for s in spaces}
    assert len(paths) == 2


def test_truncated_checkpoint_names_file_and_cure(space, architecture, digits, tmp_path):
    path = train(space, architecture, digits, directory=tmp_path).checkpoint
    path.write_bytes(path.read_bytes()[:-2000])
    for read in (
        lambda: train(space, architecture, digits, directory=tmp_path),
        lambda: ChildClassifier.load_from_checkpoint(path),
    ):
        with pytest.raises(CheckpointError, match=r"epochs_1\.ckpt.*[Dd]elete it"):
            read()


@pytest.mark.parametrize("option", [{"max_steps": 1}, {"max_time": {"seconds": 0}}])
def test_a_training_that_ends_before_its_first_score_is_named(space, architecture, digits, option):
    with pytest.raises(ValueError, match="ended before an epoch was validated, with trainer_opt"):
        train(space, architecture, digits, trainer_options=option)


class Sigmoid(Dropping):
    """The same weights by the same name, and another network."""

    def forward(self, x):
        return super().forward(x).sigmoid()


Sigmoid.__qualname__ = Dropping.__qualname__


def test_a_corrected_network_or_data_is_trained_anew(tmp_path):
    wrong = TensorDataset(torch.zeros(60, 1, 8, 8), torch.arange(60) % 10)
    right = TensorDataset(torch.rand(60, 1, 8, 8), torch.arange(60) % 10)
    made = []
    for network, images in ((Dropping, wrong), (Dropping, right), (Sigmoid, right)):
        space = SearchSpace.from_network(network)
        data = DatasetDataModule(images, right, batch_size=20)
        made.append(train(space, space.default(), data, directory=tmp_path))
    assert [result.epochs_saved for result in made] == [0, 0, 0]
    assert len({result.checkpoint for result in made}) == 3
    again = train(space, space.default(), data, directory=tmp_path)
    assert (again.checkpoint, again.score) == (made[-1].checkpoint, made[-1].score)


def test_images_that_are_drawn_anew_do_not_keep_a_training_from_going_on(tmp_path):
    class Noise(TensorDataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image + torch.rand(()), label

    images = Noise(torch.rand(60, 1, 8, 8), torch.arange(60) % 10)
    space = SearchSpace.from_network(Dropping)
    results = [
        train(space, space.default(), DatasetDataModule(images, images), directory=tmp_path)
        for _ in range(2)
    ]
    assert results[0].checkpoint == results[1].checkpoint


def test_a_training_option_without_its_prefix_is_named(digits):
    space = SearchSpace.from_network(Dropping).join(ConfigurationSpace({"learning_rate": (0.1, 1)}))
    with pytest.warns(UserWarning, match="its label would be 'train/learning_rate'"):
        train(space, space.default(), digits)
