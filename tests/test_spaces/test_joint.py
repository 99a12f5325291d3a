"""An architecture and its training in one space."""

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from lightning_modules import DigitsDataModule, train_child
from lightning_modules.recipe import INITIALISATIONS, LOSSES, SCHEDULES
from nas_plugins import Budget, UnsupportedSpaceError
from nas_plugins.spaces import SpaceNameError, load
from nas_plugins.spaces.joint import joint, training_hyperparameters
from nas_plugins.spaces.nas_bench_201 import nas_bench_201


@pytest.fixture
def space():
    return joint("nas_bench_201", channels=2, num_cells=1)


def test_has_the_decisions_of_both(space):
    architecture = set(nas_bench_201().decisions)
    assert space.decisions.keys() - architecture == {
        "train/learning_rate",
        "train/weight_decay",
        "train/schedule",
        "train/batch_size",
        "train/loss",
        "train/label_smoothing",
        "train/initialisation",
    }
    assert architecture <= space.decisions.keys()


def test_smoothing_exists_with_its_loss_alone(space):
    rng = np.random.default_rng(0)
    for _ in range(50):
        a = space.sample(rng)
        assert ("train/label_smoothing" in a) == (a["train/loss"] == "label_smoothing")


def test_rates_are_drawn_on_a_log_scale(space):
    rng = np.random.default_rng(0)
    rates = np.log([space.sample(rng)["train/learning_rate"] for _ in range(2000)])
    low, high = np.log([1e-3, 0.3])
    assert abs(rates.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 2000)


def test_builds_the_network_as_if_alone(space):
    rng = np.random.default_rng(0)
    architecture = space.sample(rng)
    alone = {k: v for k, v in architecture.items() if k.startswith("cell/")}
    other = nas_bench_201(channels=2, num_cells=1).build(alone)
    assert space.build(architecture).state_dict().keys() == other.state_dict().keys()


def test_joins_a_space_of_ones_own_with_hyperparameters_of_ones_own():
    training = training_hyperparameters(losses=["cross_entropy"], schedules=["cosine"])
    assert "train/label_smoothing" not in training
    space = joint(nas_bench_201(), training=training)
    assert space.decisions["train/loss"].num_choices == 1
    with pytest.raises(UnsupportedSpaceError, match="both have"):
        joint(nas_bench_201(), training=ConfigurationSpace({"cell/1<-0": ["a"]}))


def test_options_go_to_the_named_space():
    assert load("joint", space="chain", channels=4).options["channels"] == 4
    with pytest.raises(SpaceNameError, match="'chain' has no option 'colour'"):
        load("joint", space="chain", colour="red")


@pytest.mark.parametrize("loss", ["cross_entropy", "label_smoothing", "focal"])
def test_every_loss_trains_a_child(loss):
    space = joint("nas_bench_201", channels=2, num_cells=1, in_channels=1)
    given = {**dict.fromkeys(nas_bench_201().decisions, "skip_connect"), "train/loss": loss}
    architecture = space.sample(np.random.default_rng(0), given=given)
    result = train_child(
        space,
        architecture,
        DigitsDataModule(),
        budget=Budget(data_fraction=0.1),
        accelerator="cpu",
    )
    assert 0 <= result.score <= 1


def test_every_name_is_known_to_the_training():
    decisions = training_hyperparameters()
    assert set(decisions["train/loss"].choices) <= LOSSES.keys()
    assert set(decisions["train/schedule"].choices) <= SCHEDULES.keys()
    assert set(decisions["train/initialisation"].choices) <= INITIALISATIONS.keys()
