import inspect
import math

import pytest
import pytorch_lightning as pl
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, Lightning, LightningModule, Trainer
from nni.nas.experiment import NasExperiment
from nni.nas.hub.pytorch import DARTS
from torch import nn

from lightning_modules import DigitsDataModule, SearchDataModule
from nas_plugins import Architecture, UnsupportedSpaceError, spaces
from nas_plugins.mutators import REGISTRY, MutatorNameError, mutator_class
from nas_plugins.nni import ArchitectureModelSpace, SupernetStrategy

TINY = {"channels": 4, "num_cells": 1, "in_channels": 1}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def digits():
    data = DigitsDataModule(batch_size=64, data_fraction=0.2)
    data.setup()
    return data


def classification(**options):
    options = {"max_epochs": 1, "enable_checkpointing": False, **QUIET, **options}
    return Classification(datamodule=digits(), num_classes=10, accelerator="cpu", **options)


def run(strategy, evaluator=None, space=None, resumes=None):
    model_space = space or ArchitectureModelSpace("nas_bench_201", **TINY)
    experiment = NasExperiment(model_space, evaluator or classification(), strategy, id=resumes)
    try:
        experiment.resume() if resumes else experiment.run()
    finally:
        experiment.stop()
    return experiment


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_mutator_searches_and_exports(name):
    sizes = {"num_candidates": 5, "num_samples": 2}
    known = inspect.signature(mutator_class(name)).parameters
    strategy = SupernetStrategy(name, seed=1, **{k: v for k, v in sizes.items() if k in known})
    experiment = run(strategy)
    space = spaces.load("nas_bench_201", **TINY)
    models = experiment.export_top_models(2)
    samples = experiment.export_top_models(2, formatter="dict")
    networks = experiment.export_top_models(2, formatter="instance")
    assert len(models) == len(samples) == len(networks) == 2
    mutator = strategy.search.mutator
    for sample, network in zip(samples, networks, strict=True):
        architecture = Architecture(sample)
        assert architecture in space
        keys = space.build(architecture).state_dict().keys()
        assert network.state_dict().keys() == keys
        if mutator.inherits_weights:
            path = mutator.supernet.path_state_dict(architecture)
            assert all(torch.equal(network.state_dict()[key], path[key]) for key in keys)
    if mutator.inherits_weights:
        scores = [model.metric for model in models]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
    else:
        assert [dict(a) for a in mutator.derive(2)] == samples
    assert strategy.search not in strategy.model_space.evaluator.trainer.callbacks


class Digits(LightningModule):
    """A module of one's own, with nothing but tensors in its checkpoints."""

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


class Stop(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("power cut")


def lightning(directory, *callbacks, epochs=2):
    data = SearchDataModule(DigitsDataModule(batch_size=64, data_fraction=0.2))
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[pl.callbacks.ModelCheckpoint(directory, save_last=True), *callbacks],
        **QUIET,
    )
    return Lightning(Digits(), trainer, datamodule=data)


def test_a_search_that_was_cut_off_resumes_where_it_was(tmp_path):
    def searched(name, *callbacks, resumes=None):
        torch.manual_seed(0)
        strategy = SupernetStrategy("darts", seed=2)
        run(strategy, lightning(tmp_path / name, *callbacks), resumes=resumes)
        return strategy

    with pytest.raises(RuntimeError, match="power cut"):
        searched("broken", Stop())
    (checkpoint,) = (tmp_path / "nni-experiments").glob("*/checkpoint")
    again = searched("broken", resumes=checkpoint.parent.name)
    whole = searched("whole")
    expected = whole.search.mutator.supernet.state_dict()
    found = again.search.mutator.supernet.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert again.search.history == whole.search.history
    assert len(again.search.history) == 2


def test_ranked_by_a_metric_of_ones_own():
    def negative_loss(logits, targets):
        return -nn.functional.cross_entropy(logits, targets)

    strategy = SupernetStrategy("uniform", num_candidates=4, metric=negative_loss)
    (model,) = run(strategy).export_top_models(1)
    assert -math.inf < model.metric < 0


class Splitting(Digits):
    """Brings the architecture's batches itself, so that no validation data is needed."""

    def architecture_dataloader(self):
        return digits().val_dataloader()


def test_without_validation_data_there_is_an_architecture_and_no_score():
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, **QUIET)
    evaluator = Lightning(Splitting(), trainer, train_dataloaders=digits().train_dataloader())
    (model,) = run(SupernetStrategy("gdas"), evaluator).export_top_models(1)
    assert model.metric is None
    assert Architecture(model.sample) in spaces.load("nas_bench_201", **TINY)


def test_decisions_can_be_fixed():
    strategy = SupernetStrategy("darts", fixed={"cell/1<-0": "skip_connect"})
    (sample,) = run(strategy).export_top_models(1, formatter="dict")
    assert sample["cell/1<-0"] == "skip_connect"


def test_what_cannot_be_searched_is_refused_before_anything_is_trained():
    with pytest.raises(MutatorNameError, match="unknown mutator 'dart'; expected one of"):
        SupernetStrategy("dart")
    with pytest.raises(MutatorNameError, match="no option 'lr'"):
        SupernetStrategy("darts", lr=0.1)
    with pytest.raises(TypeError, match="a FunctionalEvaluator; expected .*Lightning"):
        run(SupernetStrategy(), FunctionalEvaluator(print))
    hub = DARTS(width=4, num_cells=3, dataset="cifar")
    with pytest.raises(UnsupportedSpaceError, match="is a DARTS; expected an ArchitectureModel"):
        run(SupernetStrategy(), space=hub)
