import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import DigitsDataModule, SearchDataModule
from lightning_modules.hyper_training import HyperTraining, HyperWeights
from nas_plugins import spaces

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
BOUNDS = (1e-3, 10.0)


class Ridge:
    """Linear regression, of which the best response to weight decay is known."""

    def __init__(self, seed=0, num=30, features=20):
        generator = torch.Generator().manual_seed(seed)
        truth = torch.randn(features, 1, generator=generator, dtype=torch.float64)
        self.parts = []
        for _ in range(2):
            x = torch.randn(num, features, generator=generator, dtype=torch.float64)
            noise = torch.randn(num, 1, generator=generator, dtype=torch.float64)
            self.parts.append((x, x @ truth + 3.0 * noise))

    def response(self, weight_decay):
        x, y = self.parts[0]
        gram = 2 / len(x) * x.T @ x + weight_decay * torch.eye(x.shape[1], dtype=x.dtype)
        return torch.linalg.solve(gram, 2 / len(x) * x.T @ y)

    def valid_loss(self, weight_decay):
        x, y = self.parts[1]
        return float((x @ self.response(weight_decay) - y).square().mean())

    def loaders(self, steps):
        """All samples in every batch, so many times in one epoch."""
        return [
            DataLoader(TensorDataset(*(t.float().repeat(times, 1) for t in part)), len(part[0]))
            for part, times in zip(self.parts, (steps, 1), strict=True)
        ]


def test_ridge_regression_ends_at_the_exact_best_response_and_weight_decay():
    ridge = Ridge()
    module = HyperTraining(
        nn.Linear(20, 1, bias=False),
        {"weight_decay": BOUNDS},
        spread=0.3,
        learning_rate=0.01,
        hyper_lr=0.01,
        loss=nn.functional.mse_loss,
    )
    pl.Trainer(max_epochs=1, **QUIET).fit(module, *ridge.loaders(2500))
    grid = [BOUNDS[0] * (BOUNDS[1] / BOUNDS[0]) ** (i / 200) for i in range(201)]
    best = min(grid, key=ridge.valid_loss)
    found = module.values()["weight_decay"]
    assert ridge.valid_loss(found) < 1.01 * ridge.valid_loss(best)
    assert ridge.valid_loss(found) < 0.9 * max(map(ridge.valid_loss, BOUNDS))
    exact = ridge.response(found)[:, 0].float()
    weight = module.trained_network().weight[0].detach()
    assert (weight - exact).norm() < 0.05 * exact.norm()
    # How weights answer to weight decay, by the sigmoid's free number.
    step = 1e-3
    share = torch.sigmoid(module.position.detach() + step)
    near = BOUNDS[0] * (BOUNDS[1] / BOUNDS[0]) ** float(share)
    slope = (ridge.response(near)[:, 0].float() - exact) / step
    learned = module.weights.slopes[0][0, 0].detach()
    assert torch.cosine_similarity(learned, slope, dim=0) > 0.9


def test_weights_are_affine_in_the_position():
    network = nn.Linear(3, 2)
    weights = HyperWeights(network, torch.tensor([1.0, 2.0]))
    assert torch.equal(weights(torch.tensor([1.0, 2.0]))["weight"], network.weight)
    nn.init.normal_(weights.slopes[1])
    moved = weights(torch.tensor([1.5, 0.0]))["bias"]
    expected = network.bias + 0.5 * weights.slopes[1][0] - 2.0 * weights.slopes[1][1]
    assert torch.allclose(moved, expected)


def digits_module(seed=0):
    torch.manual_seed(seed)
    space = spaces.load("nas_bench_201", channels=4, num_cells=1, in_channels=1)
    network = nn.Sequential(space.build(space.default()), nn.Dropout(0.5), nn.Linear(10, 10))
    searched = {"weight_decay": (1e-6, 1e-1), "dropout": (0.0, 0.8), "cutout": (0.0, 0.5)}
    return HyperTraining(network, searched, hyper_lr=0.05)


def fit(module, epochs, **options):
    data = SearchDataModule(DigitsDataModule(batch_size=128, data_fraction=0.3))
    trainer = pl.Trainer(max_epochs=epochs, **QUIET)
    trainer.fit(module, data, **options)
    return trainer


def test_a_networks_dropout_decay_and_cutout_are_learned_and_resumed(tmp_path):
    module = digits_module()
    before = module.values()
    assert before["dropout"] == pytest.approx(0.4)
    assert before["weight_decay"] == pytest.approx(math.sqrt(1e-7))
    fit(module, 1).save_checkpoint(tmp_path / "one.ckpt")
    assert all(module.values()[name] != value for name, value in before.items())
    resumed = digits_module(1)
    fit(resumed, 2, ckpt_path=tmp_path / "one.ckpt")
    whole = digits_module()
    trainer = fit(whole, 2)
    assert set(trainer.callback_metrics) >= {"val_acc", "hyper/dropout"}
    assert whole.values() == resumed.values()
    images = torch.rand(4, 1, 8, 8)
    child = whole.trained_network().eval()
    assert child[1].p == pytest.approx(whole.values()["dropout"])
    assert torch.allclose(child(images), whole.eval()(images), atol=1e-6)


def test_what_cannot_be_learned_is_named():
    with pytest.raises(ValueError, match="unknown hyper-parameter 'depth'"):
        HyperTraining(nn.Linear(1, 1), {"depth": (1, 3)})
    with pytest.raises(ValueError, match="bounds of dropout are"):
        HyperTraining(nn.Linear(1, 1), {"dropout": (0.5, 1.5)})
    with pytest.raises(ValueError, match="no nn.Dropout"):
        HyperTraining(nn.Linear(1, 1), {"dropout": (0.1, 0.5)})
    with pytest.raises(ValueError, match="at least one"):
        HyperTraining(nn.Linear(1, 1), {})
