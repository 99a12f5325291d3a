"""Searches under bf16 and with accumulated gradients: the same search, on the same steps."""

import inspect

import pytest
import pytorch_lightning as pl
import torch
from tiny_search import Classifier, images, tiny_space, trainer
from torch.utils.data import DataLoader

from lightning_modules import SupernetClassifier
from lightning_modules.callbacks import ArchitectureSearch
from nas_plugins import mutators
from nas_plugins.mutators import REGISTRY, mutator_class
from nas_plugins.mutators.darts import PrecisionError


class Updates(pl.Callback):
    """At which batches the weights' optimizer steps, and how often the architecture's does."""

    def __init__(self, mutator):
        self.at, self.architecture = [], 0
        step = mutator.architecture_step

        def counted(*arguments):
            self.architecture += 1
            return step(*arguments)

        mutator.architecture_step = counted

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.at.append(trainer.fit_loop.batch_idx)


def loaders(batch_size=8):
    return [DataLoader(images(64, seed), batch_size) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"precision": "bf16-mixed"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"precision": "bf16-mixed", "accumulate_grad_batches": 3}, [2, 5, 7]),
    ],
    ids=["bf16", "bf16_accumulated"],
)
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_mutator_moves_at_the_right_steps(name, options, at):
    sizes = {"num_samples": 2, "arch_lr": 0.1}
    known = inspect.signature(mutator_class(name)).parameters
    torch.manual_seed(0)
    module = SupernetClassifier(
        tiny_space(), name, mutator_options={k: v for k, v in sizes.items() if k in known}
    )
    mutator = module.search.mutator
    before = [p.detach().clone() for p in mutator.parameters()]
    weights = [p.detach().clone() for p in module.supernet.parameters()]
    updates = Updates(mutator)
    trainer(updates, **options).fit(module, *loaders())
    assert updates.at == at
    assert updates.architecture == len(at)
    for old, parameters in ((before, mutator), (weights, module.supernet)):
        new = list(parameters.parameters())
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in new)
        pairs = zip(old, new, strict=True)
        assert not old or any(not torch.equal(was, now) for was, now in pairs)


def searched(batch_size, **options):
    torch.manual_seed(0)
    network = tiny_space(norm=False).supernet()  # batch norms would see smaller batches
    mutator = mutators.create("darts", network, seed=2, arch_lr=0.05)
    torch.manual_seed(1)
    made = trainer(ArchitectureSearch(mutator, batch_size=16), max_epochs=2, **options)
    made.fit(Classifier(network), *loaders(batch_size))
    return [*mutator.parameters(), *network.parameters()]


def test_accumulated_small_batches_search_like_large_ones():
    large, small = searched(16), searched(4, accumulate_grad_batches=4)
    for expected, found in zip(large, small, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def finite_difference(precision):
    """The second-order term of the first architecture step."""
    torch.manual_seed(0)
    network = tiny_space().supernet()
    mutator = mutators.create("darts", network, seed=3, order=2)
    found, inner = [], mutator._finite_difference

    def noted(*arguments):
        found.append(inner(*arguments))
        return found[-1]

    mutator._finite_difference = noted
    torch.manual_seed(1)
    made = trainer(ArchitectureSearch(mutator), precision=precision, limit_train_batches=1)
    made.fit(Classifier(network), *loaders())
    return torch.cat([gradient.flatten() for gradient in found[0]])


def test_the_second_order_term_is_not_lost_in_bf16():
    expected, found = finite_difference("32-true"), finite_difference("bf16-mixed")
    assert float((found - expected).norm() / expected.norm()) < 0.05  # 0.1 under autocast
    with pytest.raises(PrecisionError, match="weights are torch.bfloat16"):
        finite_difference("bf16-true")
