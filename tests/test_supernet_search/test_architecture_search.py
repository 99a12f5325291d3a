"""The callback: a search beside a training that does not notice."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from tiny_search import Classifier, images, loaders, tiny_space, trainer
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules import DataError
from lightning_modules.borrowed import LossError
from lightning_modules.callbacks import ArchitectureSearch
from lightning_modules.callbacks.architecture_search import SearchSetupError
from nas_plugins import UnsupportedSpaceError, mutators
from nas_plugins.mutators import Mutator


class Spy(Mutator):
    """Notes every step, takes gradients as an architecture step does, and changes nothing."""

    def __init__(self, supernet, module=None):
        super().__init__(supernet)
        self.alpha = nn.Parameter(torch.zeros(4))
        self.module = module
        self.steps, self.opened = [], []

    def architecture_step(self, loss, train_batch, valid_batch, weight_optimizer=None, reward=None):
        self.supernet.gates["cell/first"].mix(self.alpha.softmax(0))
        values = [loss(valid_batch), loss(train_batch)]
        values[0].backward()  # what reaches weights here has to be nobody's
        for parameter in self.supernet.parameters():
            parameter.grad = None
        self.steps.append((float(values[0].detach()), valid_batch, weight_optimizer))
        return {"arch_loss": self.steps[-1][0]}

    def _open_for_weights(self):
        self.supernet.mix_uniformly()
        self.opened.append(self.progress)

    def derive(self, num=1, evaluate=None):
        return [self.supernet.space.default()]


class Counting(Classifier):
    """Counts with a torchmetric and logs it, as many do."""

    def __init__(self, network):
        super().__init__(network)
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch, batch_idx):
        x, labels = batch
        logits = self(x)
        self.accuracy(logits, labels)
        self.log("train_acc", self.accuracy, on_epoch=True, on_step=False)
        self.log_dict({"a": 1.0, "b": batch_idx})
        return super().training_step(batch, batch_idx)


def supernet(**options):
    torch.manual_seed(0)
    return tiny_space(**options).supernet()


def fit(module, *callbacks, data=None, **options):
    made = trainer(*callbacks, **options)
    torch.manual_seed(1)
    made.fit(module, *(data or loaders()))
    return made


# -- the training does not notice ----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.05}, {"precision": "bf16-mixed"}],
    ids=["plain", "accumulated", "clipped", "bf16"],
)
def test_training_is_the_same_as_without_the_callback(options):
    plain = Counting(supernet(norm=False))
    without = fit(plain, max_epochs=2, **options)
    searched = Counting(supernet(norm=False))
    spy = Spy(searched.backbone["net"])
    within = fit(searched, ArchitectureSearch(spy), max_epochs=2, **options)
    assert len(spy.steps) == without.global_step == within.global_step
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, searched.state_dict()[name]), name
    assert without.optimizers[0].param_groups[0]["lr"] == within.optimizers[0].param_groups[0]["lr"]
    metrics = dict(within.callback_metrics)
    assert metrics.pop("search/arch_loss") == pytest.approx(spy.steps[-1][0])
    assert metrics == without.callback_metrics  # train_loss and train_acc among them


def test_gradients_outside_of_the_supernet_are_left_alone():
    module = Classifier(supernet())
    spy, seen = Spy(module.backbone["net"]), []

    class Watch(ArchitectureSearch):
        def _step(self, *arguments):
            grad = module.outside.weight.grad
            before = None if grad is None else grad.clone()
            super()._step(*arguments)
            after = module.outside.weight.grad
            seen.append((before is None) == (after is None))
            assert before is None or torch.equal(before, after)
            assert all(p.requires_grad for p in module.parameters())
            assert "log" not in module.__dict__

    fit(module, Watch(spy))
    assert len(seen) == 8
    assert all(seen)


def test_steps_run_under_the_trainers_precision():
    seen = []

    class Precise(Classifier):
        def forward(self, x):
            if self.training:
                seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    module = Precise(supernet())
    fit(module, ArchitectureSearch(Spy(module.backbone["net"])), precision="bf16-mixed")
    assert len(seen) == 8 * 3
    assert all(seen)


def test_steps_are_counted_in_weight_updates():
    module = Classifier(supernet())
    spy = Spy(module.backbone["net"])
    search = ArchitectureSearch(spy, every_n_steps=2, warmup_epochs=1)
    made = fit(module, search, max_epochs=3, accumulate_grad_batches=2)
    assert made.global_step == 12  # 4 updates an epoch
    assert len(spy.steps) == 4  # 2 in each of the last two epochs
    weights = [p for p in spy.opened if p >= 0]
    assert sorted(set(weights)) == pytest.approx(
        [e + b for e in (0, 1 / 3, 2 / 3) for b in (0, 1 / 12, 1 / 6, 1 / 4)]
    )
    assert all(optimizer is made.optimizers[0] for _, _, optimizer in spy.steps)


# -- data -----------------------------------------------------------------------------------


def seen_samples(spy):
    return torch.cat([batch[0] for _, batch, _ in spy.steps]).flatten(1).sum(1)


def samples_of(dataset):
    return dataset.tensors[0].flatten(1).sum(1)


def searched_on(*, search_options=None, data=None, module_type=Classifier):
    module = module_type(supernet())
    spy = Spy(module.backbone["net"])
    fit(module, ArchitectureSearch(spy, **(search_options or {})), data=data)
    return seen_samples(spy)


def same(found, expected):
    torch.testing.assert_close(found.sort().values, expected.sort().values)


def test_by_default_the_validation_data_is_used_in_an_order_of_its_own():
    found = searched_on()
    expected = samples_of(images(64, 1))
    same(found, expected)
    assert not torch.equal(found, expected)
    assert torch.equal(found, searched_on())
    assert not torch.equal(found, searched_on(search_options={"seed": 1}))


def test_validation_data_may_be_several_loaders_and_checked_rarely():
    class Several(Classifier):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)

    train, valid = loaders()
    halves = [DataLoader(images(32, 5), 8), DataLoader(images(32, 6), 8)]
    found = searched_on(data=(train, halves), module_type=Several)
    same(found, torch.cat([samples_of(images(32, seed)) for seed in (5, 6)]))
    module = Classifier(supernet())
    spy = Spy(module.backbone["net"])
    fit(module, ArchitectureSearch(spy), data=(train, valid), check_val_every_n_epoch=5)
    same(seen_samples(spy), samples_of(images(64, 1)))


def test_given_data_goes_before_a_hook_and_that_before_validation():
    class Hooked(Classifier):
        def architecture_dataloader(self):
            return DataLoader(images(64, 2), 8)

    given = DataLoader(images(64, 3), 4)
    same(searched_on(module_type=Hooked), samples_of(images(64, 2)))
    options = {"data": lambda: given, "batch_size": 8}
    same(searched_on(module_type=Hooked, search_options=options), samples_of(images(64, 3)))


def test_without_data_or_with_data_of_no_length_the_cure_is_named():
    class Endless(IterableDataset):
        def __iter__(self):
            yield from images(8, 0)

    with pytest.raises(SearchSetupError, match=r"ArchitectureSearch\(data=loader\)"):
        searched_on(data=(loaders()[0],))
    with pytest.raises(DataError, match="dataset with indices"):
        searched_on(search_options={"data": DataLoader(Endless(), 8)})


def test_a_method_that_learns_no_architecture_needs_no_data():
    module = Classifier(supernet())
    uniform = mutators.create("uniform", module.backbone["net"])
    fit(module, ArchitectureSearch(uniform), data=(loaders()[0],))


# -- what cannot be searched ----------------------------------------------------------------


def test_a_module_that_optimises_by_hand_is_refused():
    module = Classifier(supernet())
    module.automatic_optimization = False
    with pytest.raises(LossError, match="optimises by hand"):
        fit(module, ArchitectureSearch(Spy(module.backbone["net"])))


def test_a_supernet_outside_of_the_module_is_refused():
    with pytest.raises(UnsupportedSpaceError, match="is not part of Classifier"):
        fit(Classifier(supernet()), ArchitectureSearch(Spy(supernet())))


def test_a_mutator_inside_of_the_module_is_refused():
    module = Classifier(supernet())
    module.spy = Spy(module.backbone["net"])
    with pytest.raises(SearchSetupError, match="train them twice"):
        fit(module, ArchitectureSearch(module.spy))


def test_a_training_step_without_a_loss_is_refused():
    class Lossless(Classifier):
        def training_step(self, batch):
            super().training_step(batch, 0)

    module = Lossless(supernet())
    with pytest.raises(LossError, match="returned NoneType without a loss"):
        fit(module, ArchitectureSearch(Spy(module.backbone["net"])))


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"evaluate": "best"}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        ArchitectureSearch(Spy(supernet()), **options)


# -- evaluation -----------------------------------------------------------------------------


@pytest.mark.parametrize("evaluate", ["supernet", "derived"])
def test_validation_leaves_gates_and_generator_as_found(evaluate):
    seen, gates = [], []

    class Looking(Classifier):
        def validation_step(self, batch, batch_idx):
            seen.append(tuple(g.indices for g in self.backbone["net"].gates.values()))
            super().validation_step(batch, batch_idx)

    class Around(pl.Callback):  # after the search, so inside of it
        def on_train_batch_end(self, *_):
            gates.append([(g.indices, g.weights) for g in net.gates.values()])
            states.append(method.generator.get_state())

        def on_train_epoch_end(self, *_):
            assert gates[-1] == [(g.indices, g.weights) for g in net.gates.values()]
            assert torch.equal(states[-1], method.generator.get_state())

    states = []
    module = Looking(supernet())
    net = module.backbone["net"]
    method = mutators.create("gdas", net)
    search = ArchitectureSearch(method, evaluate=evaluate)
    fit(module, search, Around(), num_sanity_val_steps=0)
    assert len(seen) == 8
    if evaluate == "supernet":
        assert len(set(seen)) > 1  # another path for each batch
    else:
        (derived,) = search.derive()
        net.set_path(derived)
        assert set(seen) == {tuple(g.indices for g in net.gates.values())}


# -- what is left behind --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(mutators.REGISTRY))
def test_every_method_searches(name):
    module = Classifier(supernet())
    net = module.backbone["net"]
    options = {"num_candidates": 3} if name in ("one_shot", "uniform") else {}
    method = mutators.create(name, net, **options)
    search = ArchitectureSearch(method)
    before = copy.deepcopy(method.state_dict())
    weights = copy.deepcopy(net.state_dict())
    fit(module, search, max_epochs=2)
    assert len(search.history) == 2
    assert any(not torch.equal(w, weights[n]) for n, w in net.state_dict().items())
    if method.needs_validation_data:
        moved = [n for n, p in method.named_parameters() if not torch.equal(p, before[n])]
        assert moved
    (derived,) = search.derive(evaluate=lambda architecture: 0.0)
    assert derived in net.space


def test_second_order_reads_the_trainers_optimizer():
    module = Classifier(supernet())
    method = mutators.create("darts", module.backbone["net"], order=2, arch_lr=0.1)
    fit(module, ArchitectureSearch(method))
    assert method.entropy() < torch.log(torch.tensor(4.0))


def test_alphas_are_kept_logged_and_drawn(tmp_path):
    module = Classifier(supernet())
    method = mutators.create("darts", module.backbone["net"], arch_lr=0.1)
    search = ArchitectureSearch(method)
    logger = CSVLogger(tmp_path)
    made = fit(module, search, max_epochs=2, logger=logger)
    assert made.progress_bar_metrics["alpha_entropy"] == pytest.approx(method.entropy())
    assert [set(epoch) for epoch in search.history] == [set(method.labels)] * 2
    assert search.history[-1]["cell/first"] == method.probabilities()["cell/first"].tolist()
    assert search.history[0] != search.history[1]
    text = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "alpha/cell/first/conv3" in text
    assert "alpha/cell/first/pool" in text
    search.draw_alphas(tmp_path / "alphas.svg")
    drawing = (tmp_path / "alphas.svg").read_text()
    assert drawing.startswith("<?xml")
    with pytest.raises(ValueError, match="no epoch with alphas"):
        ArchitectureSearch(method).draw_alphas(tmp_path / "none.svg")


def test_a_failure_in_the_step_gives_the_module_its_log_back():
    class Broken(Spy):
        def architecture_step(self, *arguments):
            raise RuntimeError("no step")

    module = Counting(supernet())
    metric = module.accuracy
    with pytest.raises(RuntimeError, match="no step"):
        fit(module, ArchitectureSearch(Broken(module.backbone["net"])))
    assert "log" not in module.__dict__
    assert module.accuracy is metric
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("method", ["uniform", "pc_darts"])
def test_a_best_path_that_cannot_be_validated_is_refused(method):
    module = Classifier(supernet())
    options = {"num_parts": 1} if method == "pc_darts" else {}
    mutator = mutators.create(method, module.backbone["net"], **options)
    search = ArchitectureSearch(mutator, evaluate="derived")
    with pytest.raises(SearchSetupError, match="expected evaluate='supernet' with this method"):
        fit(module, search)


def test_a_warmup_as_long_as_the_search_is_warned_of():
    module = Classifier(supernet())
    search = ArchitectureSearch(mutators.create("darts", module.backbone["net"]), warmup_epochs=2)
    with pytest.warns(UserWarning, match="warmup_epochs is 2 and the Trainer has 1 epochs"):
        fit(module, search)


def test_progress_is_by_what_ends_the_training_first():
    for limits in ({"max_epochs": 2, "max_steps": 1000}, {"max_epochs": 50, "max_steps": 16}):
        module = Classifier(supernet())
        spy = Spy(module.backbone["net"])
        fit(module, ArchitectureSearch(spy), limit_val_batches=0, **limits)
        assert spy.opened == pytest.approx([step / 16 for step in range(16)])


@pytest.mark.parametrize("method", ["uniform", "darts"])
def test_a_path_goes_on_amid_a_weight_update(method):
    """A checkpoint between two batches of one update holds the gates of that update."""
    first, second = (
        ArchitectureSearch(mutators.create(method, supernet(), seed=seed)) for seed in (1, 2)
    )
    first.mutator.open_for_weights(0.5)
    second.load_state_dict(first.state_dict())
    gates = [s.mutator.supernet.gates.values() for s in (first, second)]
    assert [gate.indices for gate in gates[0]] == [gate.indices for gate in gates[1]]
    for one, other in zip(*gates, strict=True):
        assert (one.weights is None) == (other.weights is None)
        assert one.weights is None or torch.equal(one.weights, other.weights)
