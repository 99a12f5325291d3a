"""The module itself, in a Trainer of the user's own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from lightning_modules import ChildClassifier, DataError, DigitsDataModule
from nas_plugins import Architecture, ArchitectureError, SearchSpace
from nas_plugins.operations import DropPath
from nas_plugins.rebuild import CheckpointError
from nas_plugins.spaces.nasnet import TINY as NASNET_TINY
from nas_plugins.spaces.nasnet import nasnet


def trainer(**options) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **{"max_epochs": 1, "log_every_n_steps": 1, **options},
    )  # fmt: skip


class Auxiliary(nn.Module):
    """Two outputs in training and a dropped path, as DARTS evaluates its cells."""

    def __init__(self, choose, num_classes=10):
        super().__init__()
        act = choose.layer("act", {"relu": nn.ReLU, "tanh": nn.Tanh})
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), act)
        self.path = DropPath()
        self.head, self.tower = nn.Linear(16, num_classes), nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.body(self.path(x))
        return (self.head(x), self.tower(x)) if self.training else self.head(x)


@pytest.fixture
def child(space, architecture) -> ChildClassifier:
    torch.manual_seed(0)
    return ChildClassifier(space, architecture, network_options={"in_channels": 1})


def test_one_batch_fit(child, digits):
    before = {k: v.clone() for k, v in child.network.named_parameters()}
    own = trainer(limit_train_batches=1, limit_val_batches=1)
    own.fit(child, datamodule=digits.prepared_for())
    assert set(own.callback_metrics) == {"train_loss", "val_loss", "val_acc"}
    after = dict(child.network.named_parameters())
    assert all(not torch.equal(before[k], after[k]) for k in before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_one_batch_fit_on_gpu(child):
    data = DigitsDataModule(crop_padding=1, cutout=0.25)
    own = pl.Trainer(
        accelerator="gpu", devices=1, logger=False, enable_checkpointing=False,
        max_epochs=1, limit_train_batches=1, limit_val_batches=1,
    )  # fmt: skip
    own.fit(child, datamodule=data)
    assert own.callback_metrics["train_loss"].isfinite()


def test_validation_accuracy_is_that_of_the_network(child, digits):
    data = digits.prepared_for()
    (logged,) = trainer().validate(child, datamodule=data, verbose=False)
    child.eval()
    correct = total = 0
    for images, labels in data.val_dataloader():
        correct += int((child(images).argmax(1) == labels).sum())
        total += len(labels)
    assert logged["val_acc"] == pytest.approx(correct / total)


def test_further_metrics(space, architecture, digits):
    child = ChildClassifier(
        space, architecture, network_options={"in_channels": 1},
        metrics={"top3": MulticlassAccuracy(10, top_k=3), "f1": MulticlassF1Score(10)},
    )  # fmt: skip
    own = trainer(limit_train_batches=2, limit_val_batches=3)
    own.fit(child, datamodule=digits.prepared_for())
    assert {"val_top3", "val_f1", "val_acc"} <= set(own.callback_metrics)
    assert own.callback_metrics["val_top3"] >= own.callback_metrics["val_acc"]


def test_auxiliary_loss_is_weighted(digits):
    space = SearchSpace.from_network(Auxiliary)
    batch = next(iter(digits.prepared_for().train_dataloader()))
    losses = {}
    for weight in (0.0, 0.4, 1.0):
        torch.manual_seed(0)
        child = ChildClassifier(space, space.default(), auxiliary_weight=weight)
        child.log = lambda *args, **options: None
        losses[weight] = child.training_step(batch, 0).item()
        if weight == 0.4:
            main, auxiliary = (nn.functional.cross_entropy(o, batch[1]) for o in child(batch[0]))
    assert losses[0.0] == pytest.approx(main.item())
    assert losses[0.4] == pytest.approx((main + 0.4 * auxiliary).item())
    assert losses[1.0] == pytest.approx((main + auxiliary).item())


def test_drop_path_grows_linearly(digits):
    space = SearchSpace.from_network(Auxiliary)
    child = ChildClassifier(space, space.default(), drop_path_probability=0.2)
    seen = []

    class Note(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(pl_module.network.path.probability)

    own = trainer(max_epochs=4, limit_train_batches=1, limit_val_batches=0, callbacks=[Note()])
    own.fit(child, datamodule=digits.prepared_for())
    assert seen == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_scheduled_drop_path_of_nasnet(digits):
    """Zoph et al. 2018: every path of a cell, with a probability that grows linearly."""
    space = nasnet(**{**NASNET_TINY, "in_channels": 1})
    wish = {label: "conv_1x1" for label in space.decisions if label.endswith("/operation")}
    child = ChildClassifier(space, space.complete(wish), drop_path_probability=0.4)
    paths, seen = [m for m in child.modules() if isinstance(m, DropPath)], []

    class Note(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append({path.probability for path in paths})

    own = trainer(max_epochs=2, limit_train_batches=1, limit_val_batches=0, callbacks=[Note()])
    own.fit(child, datamodule=digits.prepared_for())
    assert len(paths) == 3 * 2 * 2  # cells, blocks, sides
    assert seen == [{0.0}, {0.2}]


def test_wrong_images_are_refused_before_training(space, architecture, digits):
    child = ChildClassifier(space, architecture)  # three channels
    with pytest.raises(DataError, match=r"shape \(1, 8, 8\).*expects 3 channels"):
        trainer().fit(child, datamodule=digits.prepared_for())


@pytest.mark.parametrize(
    ("option", "value"),
    [("schedule", "linear"), ("loss", "hinge"), ("initialisation", "zero"), ("optimizer", "lbfgs")],
)
def test_unknown_names_are_named(space, architecture, option, value):
    with pytest.raises(ValueError, match=rf"{option} is '{value}'; expected one of \['"):
        ChildClassifier(space, architecture, **{option: value})


def test_architecture_of_another_space_is_refused(space):
    with pytest.raises(ArchitectureError, match="'act'"):
        ChildClassifier(space, {"act": "relu"})


# -- checkpoints ------------------------------------------------------------------------

FRESH = """
import sys, torch
from lightning_modules import ChildClassifier
child = ChildClassifier.load_from_checkpoint(sys.argv[1]).eval()
assert "nas_plugins.strategies" not in sys.modules
torch.save(child(torch.load(sys.argv[2])), sys.argv[3])
print(child.architecture.to_json())
"""


def test_checkpoint_needs_no_class_of_the_search(child, digits, tmp_path):
    path, images, logits = (tmp_path / name for name in ("child.ckpt", "images.pt", "logits.pt"))
    own = trainer(limit_train_batches=3)
    own.fit(child, datamodule=digits.prepared_for())
    own.save_checkpoint(path)
    torch.save(torch.rand(4, 1, 8, 8), images)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(path), str(images), str(logits)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Architecture.from_json(done.stdout) == child.architecture
    torch.testing.assert_close(torch.load(logits), child.eval()(torch.load(images)))


def saved(child: ChildClassifier, path) -> ChildClassifier:
    own = trainer()
    own.strategy.connect(child)
    own.save_checkpoint(path, weights_only=True)
    return child


def test_loading_restores_options_and_leaves_the_generator(space, architecture, tmp_path):
    child = saved(
        ChildClassifier(space, architecture, learning_rate=0.3, label_smoothing=0.1),
        tmp_path / "child.ckpt",
    )
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    loaded = ChildClassifier.load_from_checkpoint(tmp_path / "child.ckpt")
    assert torch.equal(torch.rand(1), expected)
    assert dict(loaded.hparams) == dict(child.hparams)
    assert loaded.architecture == architecture
    changed = ChildClassifier.load_from_checkpoint(tmp_path / "child.ckpt", learning_rate=0.5)
    assert changed.hparams["learning_rate"] == 0.5


def test_network_without_a_name_is_given_again(tmp_path):
    class Local(Auxiliary):
        pass

    space = SearchSpace.from_network(Local)
    child = saved(ChildClassifier(space, space.default()), tmp_path / "child.ckpt")
    with pytest.raises(CheckpointError, match=r"child\.ckpt names no network.*network=\.\.\."):
        ChildClassifier.load_from_checkpoint(tmp_path / "child.ckpt")
    loaded = ChildClassifier.load_from_checkpoint(tmp_path / "child.ckpt", network=Local)
    assert torch.equal(loaded.network.head.weight, child.network.head.weight)


def test_checkpoint_of_something_else_is_named(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"other\.ckpt holds no architecture"):
        ChildClassifier.load_from_checkpoint(path)


def test_a_training_that_counts_steps_alone(digits):
    space = SearchSpace.from_network(Auxiliary)
    child = ChildClassifier(space, space.default(), drop_path_probability=0.5)
    (path,) = (m for m in child.modules() if isinstance(m, DropPath))
    seen = []

    class Note(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(path.probability)

    own = trainer(max_epochs=-1, max_steps=8, limit_train_batches=2, callbacks=[Note()])
    own.fit(child, datamodule=digits.prepared_for())
    assert seen == [0.0, 0.0, 0.125, 0.125, 0.25, 0.25, 0.375, 0.375]
    assert own.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
