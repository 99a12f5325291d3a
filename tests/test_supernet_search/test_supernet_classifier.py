"""The ready module: fit, validate, test, checkpoints, and the children it leaves."""

import pytest
import tiny_search
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_search import tiny_space, trainer

from lightning_modules import (
    ChildClassifier,
    DigitsDataModule,
    SearchDataModule,
    SupernetClassifier,
    train_supernet,
)
from lightning_modules.callbacks import ArchitectureSearch
from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.mutators import MutatorNameError
from nas_plugins.rebuild import CheckpointError


@pytest.fixture(scope="module")
def data():
    return DigitsDataModule(16, data_fraction=0.2)


def make(mutator="darts", space=None, **options):
    torch.manual_seed(0)
    mutator_options = {"arch_lr": 0.05} if mutator == "darts" else {}
    return SupernetClassifier(
        space or tiny_space(), mutator, mutator_options=mutator_options, **options
    )


def fit(module, data, **options):
    made = trainer(**{"max_epochs": 2, "limit_val_batches": 2, **options})
    made.fit(module, SearchDataModule(data))
    return made


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    """A search, its Trainer, and its checkpoint."""
    module = make()
    made = fit(module, data)
    path = tmp_path_factory.mktemp("search") / "end.ckpt"
    made.save_checkpoint(path)
    return module, made, path


def test_fit_logs_what_a_user_looks_for(fitted):
    module, made, _ = fitted
    logged = set(made.callback_metrics)
    assert {"train_loss", "train_acc", "val_loss", "val_acc", "alpha_entropy"} <= logged
    bar = set(made.progress_bar_metrics)
    assert {"train_loss_step", "train_acc_step", "alpha_entropy"} <= bar
    assert made.callback_metrics["alpha_entropy"] == pytest.approx(module.search.mutator.entropy())
    assert len(module.search.history) == 2
    assert [type(c) for c in made.callbacks].count(ArchitectureSearch) == 1


def test_recipe_is_that_of_darts(fitted):
    module, made, _ = fitted
    (group,) = made.optimizers[0].param_groups
    assert isinstance(made.optimizers[0], torch.optim.SGD)
    assert (group["momentum"], group["weight_decay"]) == (0.9, 3e-4)
    assert group["initial_lr"] == 0.025
    assert group["lr"] == pytest.approx(0.001)  # after the last epoch
    alphas = {id(p) for p in module.search.mutator.parameters()}
    assert alphas.isdisjoint(id(p) for p in module.parameters())


def test_the_schedule_follows_steps_where_they_end_the_search(data):
    made = fit(make(), data, max_epochs=None, max_steps=20)  # of 7 in an epoch
    (config,) = made.lr_scheduler_configs
    (factor,) = config.scheduler.lr_lambdas
    assert factor(2) > factor(3) == factor(4) == pytest.approx(0.001 / 0.025)


@pytest.mark.parametrize(("own", "expected"), [({}, 5.0), ({"gradient_clip_val": 0.5}, 0.5)])
def test_gradients_are_clipped(own, expected, data, monkeypatch):
    seen = []
    module = make()
    clip = module.clip_gradients

    def noting(optimizer, gradient_clip_val, gradient_clip_algorithm):
        seen.append((gradient_clip_val, gradient_clip_algorithm))
        clip(optimizer, gradient_clip_val, gradient_clip_algorithm)

    monkeypatch.setattr(module, "clip_gradients", noting)
    fit(module, data, max_steps=2, **own)
    assert seen == [(expected, "norm")] * 2


def test_validate_and_test_measure_the_supernet_as_it_stands(fitted, data):
    module, made, _ = fitted
    (validated,) = made.validate(module, data, verbose=False)
    module.search.mutator.open_for_weights(1.0)
    correct = total = 0
    with torch.no_grad():
        for images, labels in list(data.val_dataloader())[:2]:
            correct += int((module.eval()(images).argmax(1) == labels).sum())
            total += len(labels)
    assert validated["val_acc"] == pytest.approx(correct / total)
    (tested,) = made.test(module, data, verbose=False)
    assert set(tested) == {"test_loss", "test_acc"}


def test_the_derived_path_may_be_validated_instead(data):
    module = make(evaluate="derived")
    made = fit(module, data)
    (validated,) = made.validate(module, data, verbose=False)
    (best,) = module.search.derive()
    child = module.supernet.child(best).eval()
    with torch.no_grad():
        batches = list(data.val_dataloader())[:2]
        right = torch.cat([child(images).argmax(1) == labels for images, labels in batches])
    assert validated["val_acc"] == pytest.approx(float(right.float().mean()))


def test_a_loaded_search_stands_where_the_saved_one_did(fitted, data):
    module, _, path = fitted
    before = torch.random.get_rng_state()
    loaded = SupernetClassifier.load_from_checkpoint(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert loaded.search.derive(3) == module.search.derive(3)
    assert loaded.search.history == module.search.history
    images, _ = next(iter(data.val_dataloader()))
    module.search.mutator.open_for_weights(1.0)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), module.eval()(images))
    made = trainer(limit_val_batches=2)
    fresh = make()
    (validated,) = made.validate(fresh, data, ckpt_path=path, verbose=False)
    (expected,) = trainer(limit_val_batches=2).validate(module, data, verbose=False)
    assert validated == expected


def test_wrong_checkpoints_are_named(fitted, data, tmp_path):
    _, made, _ = fitted
    made.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    with pytest.raises(CheckpointError, match="save_weights_only"):
        SupernetClassifier.load_from_checkpoint(tmp_path / "weights.ckpt")
    torch.save({"hyper_parameters": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of SupernetClassifier"):
        SupernetClassifier.load_from_checkpoint(tmp_path / "other.ckpt")

    class Local(tiny_search.TinyNet):
        pass

    space = SearchSpace.from_network(Local)
    module = make(space=space)
    fit(module, data, max_steps=1).save_checkpoint(tmp_path / "local.ckpt")
    with pytest.raises(CheckpointError, match="network=space"):
        SupernetClassifier.load_from_checkpoint(tmp_path / "local.ckpt")
    assert SupernetClassifier.load_from_checkpoint(tmp_path / "local.ckpt", network=space)


def test_mid_epoch_checkpoints_are_written(data, tmp_path):
    keeper = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)
    made = trainer(keeper, max_epochs=1, enable_checkpointing=True, limit_val_batches=0)
    made.fit(make(), SearchDataModule(data))
    assert len(list(tmp_path.glob("*.ckpt"))) == made.global_step // 2


CHOICES = ("conv3", "conv1", "skip_connect", "pool")


# -- children ---------------------------------------------------------------------------------


def test_rank_scores_what_is_derived(fitted, data):
    module, _, _ = fitted
    ranked = module.rank(data, num=4)
    score = module.one_shot_score(data)
    assert {a for _, a in ranked} == set(module.search.derive(4))
    values = [value for value, _ in ranked]
    assert values == sorted(values, reverse=True)
    assert all(value == score(architecture) for value, architecture in ranked)


@pytest.mark.parametrize(
    "accelerator",
    [
        "cpu",
        pytest.param(
            "gpu",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ],
)
def test_rank_scores_where_the_supernet_was_trained(accelerator, data):
    module = train_supernet(
        tiny_space(norm=False), "uniform", data, epochs=1, accelerator=accelerator
    )
    assert module.device.type == "cpu"  # Lightning has taken it back
    child = module.one_shot_score(data).child(module.space.default())
    trained_on = "cuda" if accelerator == "gpu" else accelerator
    assert {p.device.type for p in child.parameters()} == {trained_on}
    assert 0 <= module.rank(data, num=1)[0][0] <= 1
    elsewhere = module.one_shot_score(data, device="meta").child(module.space.default())
    assert {p.device.type for p in elsewhere.parameters()} == {"meta"}


def test_methods_that_learn_weights_alone_are_ranked_too(data):
    module = make("uniform", tiny_space())
    module.search.mutator.num_candidates = 6
    fit(module, data, max_steps=3)
    ranked = module.rank(data, num=3)
    assert len({a for _, a in ranked}) == 3
    assert ranked[0][0] == max(value for value, _ in ranked)
    prior = module.prior(data, num=3)
    assert list(prior.scores[:3]) == ranked
    assert len(prior.scores) > 3
    assert set(prior.probabilities["cell/first"]) == {"conv3", "conv1", "skip_connect"}


def test_prior_holds_what_is_derived_and_what_was_sampled(fitted, data):
    module, _, _ = fitted
    prior = module.prior(data, num=3, num_sampled=4)
    scores = {architecture: score for score, architecture in prior.scores}
    assert set(module.search.derive(3)) < set(scores)
    best = module.search.derive()[0]
    assert scores[best] == module.one_shot_score(data)(best)
    # Of the mixture, "pool" is no choice of an architecture.
    first = dict(zip(CHOICES, module.search.mutator.probabilities()["cell/first"], strict=True))
    assert prior.probabilities["cell/first"]["conv1"] == pytest.approx(
        float(first["conv1"] / (1 - first["pool"]))
    )


def test_exported_child_has_the_same_accuracy_when_loaded(fitted, data, tmp_path):
    module, _, _ = fitted
    (value, best), *_ = module.rank(data, num=2)
    child = module.child(best, data=data)
    (before,) = trainer().validate(child, data, verbose=False)
    assert before["val_acc"] == pytest.approx(value)
    made = trainer()
    made.strategy.connect(child)
    made.save_checkpoint(tmp_path / "child.ckpt")
    loaded = ChildClassifier.load_from_checkpoint(tmp_path / "child.ckpt")
    (after,) = trainer().validate(loaded, data, verbose=False)
    assert after == before
    trainer(max_steps=1, limit_val_batches=0).fit(loaded, data)  # ready to be trained on


def test_inherited_and_fresh_weights(fitted):
    module, _, _ = fitted
    (best,) = module.search.derive()
    inherited = module.child(best).network.state_dict()
    path = module.supernet.path_state_dict(best)
    assert inherited.keys() == path.keys()
    assert all(torch.equal(value, path[name]) for name, value in inherited.items())
    assert all(value.data_ptr() != path[name].data_ptr() for name, value in inherited.items())
    fresh = module.child(best, inherit_weights=False, network_options={"channels": 8})
    assert fresh.network.stem.out_channels == 8
    with pytest.raises(UnsupportedSpaceError, match=r"network_options \['channels'\]"):
        module.child(best, network_options={"channels": 8})


def test_a_method_that_changes_paths_gives_no_weights(data):
    from nas_plugins import spaces

    space = spaces.load("darts", channels=4, num_cells=3, in_channels=1)
    module = make("pc_darts", space)
    (best,) = module.search.derive()
    with pytest.raises(UnsupportedSpaceError, match="inherit_weights=False"):
        module.child(best)
    with pytest.raises(UnsupportedSpaceError, match="changes the supernet's paths"):
        module.rank(data)
    prior = module.prior(data, num=2)
    assert prior.scores[0] == (0.0, best)
    assert module.child(best, inherit_weights=False)


def test_the_network_may_be_given_by_itself_or_by_name():
    for network in (tiny_search.TinyNet, "tiny_search:TinyNet"):
        module = SupernetClassifier(network, network_options={"channels": 3})
        assert module.supernet.network.stem.out_channels == 3
        assert module.space.options == {"channels": 3}
    fixed = SupernetClassifier(tiny_space(), fixed={"cell/first": "conv1"})
    assert "cell/first" not in fixed.supernet.gates


def test_wrong_methods_are_named():
    with pytest.raises(MutatorNameError, match="unknown mutator 'dart'"):
        SupernetClassifier(tiny_space(), "dart")
    with pytest.raises(MutatorNameError, match="no subclass of Mutator"):
        SupernetClassifier(tiny_space(), "torch.nn:Linear")


@pytest.mark.parametrize("execution", ["fused", "low_memory", "naive"])
def test_execution_is_the_supernets_and_saved(execution, tmp_path, data):
    module = make(execution=execution)
    assert module.supernet.execution == module.hparams["execution"] == execution
    made = fit(module, data, max_steps=1)
    made.save_checkpoint(tmp_path / "search.ckpt")
    again = SupernetClassifier.load_from_checkpoint(tmp_path / "search.ckpt")
    assert again.supernet.execution == execution
    other = SupernetClassifier.load_from_checkpoint(tmp_path / "search.ckpt", execution="naive")
    assert other.supernet.execution == "naive"


@pytest.mark.parametrize("mutator", ["enas", "uniform"])
def test_a_loaded_search_draws_what_the_saved_one_would(mutator, data, tmp_path):
    module = make(mutator)
    fit(module, data, max_epochs=1).save_checkpoint(tmp_path / "end.ckpt")
    loaded = SupernetClassifier.load_from_checkpoint(tmp_path / "end.ckpt", network=module.space)
    assert torch.equal(
        loaded.search.mutator.generator.get_state(), module.search.mutator.generator.get_state()
    )
    names = [a.id for a in module.search.derive(5, lambda a: 0.0)]
    assert [a.id for a in loaded.search.derive(5, lambda a: 0.0)] == names


def test_several_validation_loaders(data):
    module = make()
    data.setup()
    loaders = [data.val_dataloader(), data.test_dataloader()]
    results = trainer().validate(module, loaders, verbose=False)
    assert [sorted(result) for result in results] == [
        [f"val_acc/dataloader_idx_{i}", f"val_loss/dataloader_idx_{i}"] for i in range(2)
    ]
