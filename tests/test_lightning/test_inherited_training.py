"""Children that start from a supernet's path, or from the nearest child."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from ConfigSpace import ConfigurationSpace, Float

from lightning_modules import (
    ChildClassifier,
    DigitsDataModule,
    NearestChild,
    SearchDataModule,
    SupernetClassifier,
    train_child,
)
from lightning_modules.inheritance import inherit_from, weights_in
from lightning_modules.isolation import isolated
from nas_plugins import Architecture, ArchitectureError, Budget, UnsupportedSpaceError
from nas_plugins.rebuild import CheckpointError
from nas_plugins.spaces import load

BRIEF = Budget(epochs=1, data_fraction=0.2)


@pytest.fixture(scope="module")
def search_space():
    return load("nas_bench_201", channels=4, num_cells=1, in_channels=1)


@pytest.fixture(scope="module")
def supernet(search_space, tmp_path_factory):
    """Checkpoint of a supernet that has learned a little."""
    path = tmp_path_factory.mktemp("supernet") / "supernet.ckpt"
    return search(search_space, path, epochs=4)


def search(space, path, epochs):
    with isolated(quiet=True):
        torch.manual_seed(0)
        module = SupernetClassifier(space, "uniform", learning_rate=0.1)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, SearchDataModule(DigitsDataModule(batch_size=16)))
        trainer.save_checkpoint(path)
    return path


class Start(pl.Callback):
    """The weights before the first step."""

    def on_train_start(self, trainer, pl_module):
        self.weights = {k: v.clone() for k, v in pl_module.network.state_dict().items()}


def train(space, architecture, data, **options):
    options.setdefault("budget", BRIEF)
    return train_child(space, architecture, data, accelerator="cpu", **options)


def changed(architecture, edge, operation):
    return Architecture({**architecture, f"cell/{edge}": operation})


# -- from a supernet ------------------------------------------------------------------------


def test_a_child_starts_from_its_path(search_space, architecture, digits, supernet):
    start = Start()
    result = train(search_space, architecture, digits, inherit=supernet, callbacks=[start])
    module = SupernetClassifier.load_from_checkpoint(supernet, network=search_space)
    path = module.supernet.path_state_dict(architecture)
    assert start.weights.keys() == path.keys()
    assert all(torch.equal(value, path[key]) for key, value in start.weights.items())
    assert result.inherited == {"checkpoint": str(supernet), "share": 1.0}


def test_inherited_weights_are_a_head_start(search_space, architecture, digits, supernet):
    inherited = train(search_space, architecture, digits, inherit=supernet)
    anew = train(search_space, architecture, digits)
    assert inherited.score > anew.score + 0.1
    assert anew.inherited is None


def test_the_same_call_gives_the_same_score(search_space, architecture, digits, supernet):
    scores = {train(search_space, architecture, digits, inherit=supernet).score for _ in range(2)}
    assert len(scores) == 1


def test_decisions_of_training_do_not_hinder(search_space, architecture, digits, supernet):
    joint = search_space.join(ConfigurationSpace({"rate": Float("train/learning_rate", (0.01, 1))}))
    found = train(
        joint,
        {**architecture, "train/learning_rate": 0.1},
        digits,
        inherit=str(supernet),
    )
    assert found.inherited["share"] == 1.0


def test_what_has_no_path_or_no_weights_is_named(
    search_space, architecture, digits, supernet, tmp_path
):
    with pytest.raises(ArchitectureError, match="elsewhere"):
        weights_in(supernet, search_space, {"elsewhere": 1})
    wide = load("nas_bench_201", channels=6, num_cells=1, in_channels=1)
    child = wide.build(architecture)
    for key in ("classifier.weight", "classifier.bias"):
        assert key in child.state_dict()
    found = inherit_from(supernet, child, search_space, architecture)
    assert 0 < found.share < 0.1  # what does not depend on the width
    torch.save({"hyper_parameters": {}, "state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no weights to inherit"):
        train(search_space, architecture, digits, inherit=tmp_path / "other.ckpt")
    with pytest.raises(FileNotFoundError):
        train(search_space, architecture, digits, inherit=tmp_path / "absent.ckpt")
    supernet_bytes = supernet.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(supernet_bytes[: len(supernet_bytes) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt"):
        train(search_space, architecture, digits, inherit=tmp_path / "cut.ckpt")


def test_paths_that_are_no_children_are_refused(digits, tmp_path):
    space = load("darts", channels=4, num_cells=3, in_channels=1)
    path = tmp_path / "pc_darts.ckpt"
    with isolated(quiet=True):
        module = SupernetClassifier(space, "pc_darts")
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(module)
        module.trainer = trainer
        trainer.callbacks.append(module.search)
        trainer.save_checkpoint(path)
    with pytest.raises(UnsupportedSpaceError, match="PCDARTS"):
        weights_in(path, space, space.default())


# -- resuming -------------------------------------------------------------------------------


def test_what_was_inherited_is_part_of_a_trainings_identity(
    search_space, architecture, digits, supernet, tmp_path
):
    where = {"directory": tmp_path / "children"}
    anew = train(search_space, architecture, digits, **where)
    inherited = train(search_space, architecture, digits, inherit=supernet, **where)
    assert inherited.checkpoint.parent != anew.checkpoint.parent
    again = train(search_space, architecture, digits, inherit=supernet, **where)
    assert again.checkpoint == inherited.checkpoint
    assert again.metrics == inherited.metrics
    assert again.inherited == inherited.inherited  # kept, though nothing was copied now
    copied = tmp_path / "renamed.ckpt"
    copied.write_bytes(supernet.read_bytes())
    assert train(search_space, architecture, digits, inherit=copied, **where).checkpoint == (
        inherited.checkpoint
    )
    other = search(search_space, tmp_path / "other.ckpt", epochs=1)
    assert train(search_space, architecture, digits, inherit=other, **where).checkpoint != (
        inherited.checkpoint
    )


def test_a_longer_training_goes_on_from_the_shorter(
    search_space, architecture, digits, supernet, tmp_path
):
    options = {"schedule": "constant", "inherit": supernet}
    long = Budget(epochs=2, data_fraction=0.2)
    unbroken = train(search_space, architecture, digits, budget=long, **options)
    train(search_space, architecture, digits, directory=tmp_path, **options)
    continued = train(
        search_space, architecture, digits, budget=long, directory=tmp_path, **options
    )
    assert continued.metrics == unbroken.metrics
    assert continued.curve == unbroken.curve


# -- from another child ---------------------------------------------------------------------


def test_a_mutation_starts_from_its_parent(search_space, architecture, digits, tmp_path):
    parent = NearestChild(tmp_path)
    first = train(search_space, architecture, digits, directory=tmp_path, inherit=parent)
    assert first.inherited is None  # nobody was there
    mutated, start = changed(architecture, "3<-0", "skip_connect"), Start()
    second = train(
        search_space,
        mutated,
        digits,
        directory=tmp_path,
        inherit=parent,
        callbacks=[start],
    )
    assert second.inherited["checkpoint"] == str(first.checkpoint)
    trained = ChildClassifier.load_from_checkpoint(first.checkpoint).network.state_dict()
    shared = [k for k, v in start.weights.items() if k in trained and trained[k].shape == v.shape]
    assert all(torch.equal(start.weights[key], trained[key]) for key in shared)
    assert 0.5 < second.inherited["share"] <= 1


def test_a_training_goes_on_with_the_parent_it_began_with(
    search_space, architecture, digits, tmp_path
):
    """Though a nearer one was trained meanwhile."""
    parent = NearestChild(tmp_path)
    options = {"directory": tmp_path, "inherit": parent, "schedule": "constant"}
    first = train(search_space, architecture, digits, **options)
    far = changed(changed(architecture, "1<-0", "none"), "3<-1", "skip_connect")
    second = train(search_space, far, digits, **options)
    near = changed(far, "2<-0", "none")
    train(search_space, near, digits, **options)
    assert parent(far) != first.checkpoint
    longer = Budget(epochs=2, data_fraction=0.2)
    continued = train(search_space, far, digits, budget=longer, **options)
    assert continued.inherited == second.inherited
    assert continued.curve[0] == second.score


def test_the_longest_training_of_the_nearest_counts(search_space, architecture, digits, tmp_path):
    for epochs in (2, 1):
        train(
            search_space,
            architecture,
            digits,
            budget=Budget(epochs=epochs, data_fraction=0.2),
            directory=tmp_path / "deep" / "down",
        )
    near = changed(architecture, "1<-0", "none")
    assert NearestChild(tmp_path)(near).name == "epochs_2.ckpt"
    assert NearestChild(tmp_path)(architecture) is None
    assert NearestChild(tmp_path / "absent")(near) is None


def test_any_function_may_choose(search_space, architecture, digits, supernet, tmp_path):
    asked = []

    def choose(child):
        asked.append(child)
        return supernet

    options = {"directory": tmp_path, "inherit": choose}
    result = train(search_space, architecture, digits, **options)
    assert asked == [architecture]
    assert result.inherited["checkpoint"] == str(supernet)
    train(search_space, architecture, digits, **options)
    assert asked == [architecture]  # finished before: nobody is asked


def test_nothing_global_is_drawn(search_space, architecture, digits, supernet):
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    train(search_space, architecture, DigitsDataModule(), inherit=supernet)
    assert (torch.rand(1).item(), np.random.rand()) == expected
