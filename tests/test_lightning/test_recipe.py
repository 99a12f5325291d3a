"""Schedules, losses and initialisations, against closed forms and their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_modules.recipe import INITIALISATIONS, LOSSES, SCHEDULES, Schedule, initialise


def rates(name: str, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = Schedule(optimizer, name, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_equals_torch_s():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates("cosine", 10) == pytest.approx(expected)


def test_step_and_constant():
    assert rates("step", 8) == pytest.approx([2, 2, 2, 2, 0.2, 0.2, 0.02, 0.02])
    assert rates("constant", 3) == [2, 2, 2]


def test_onecycle_rises_then_falls():
    seen = rates("onecycle", 100)
    peak = seen.index(max(seen))
    assert peak == 30
    assert seen[peak] == 2.0
    assert seen[0] == pytest.approx(2 / 25)
    assert seen[: peak + 1] == sorted(seen[: peak + 1])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)
    assert seen[-1] < 0.01


@pytest.mark.parametrize("name", SCHEDULES)
def test_progress_past_the_horizon_stays_at_the_end(name):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule(optimizer, name, 2)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(SCHEDULES[name](1.0))


def test_focal_loss_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # p of class 0: 3/4, 1/2
    expected = (-(0.25**2) * math.log(0.75) - 0.5**2 * math.log(0.5)) / 2
    assert LOSSES["focal"](logits, torch.zeros(2, dtype=torch.long), 0.0) == pytest.approx(expected)


def test_label_smoothing_by_hand():
    logits, labels = torch.tensor([[1.0, -1.0, 0.5]]), torch.tensor([0])
    target = torch.tensor([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    expected = -(target * F.log_softmax(logits[0], 0)).sum()
    assert LOSSES["cross_entropy"](logits, labels, 0.1) == pytest.approx(expected.item())


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(64, 64))


def test_initialisations_have_their_spread():
    torch.manual_seed(0)
    conv_std = {"kaiming": math.sqrt(2 / (64 * 9)), "xavier": math.sqrt(2 / (67 * 9))}
    for name, expected in conv_std.items():
        made = network()
        initialise(made, name)
        assert made[0].weight.std().item() == pytest.approx(expected, rel=0.1)
    made = network()
    initialise(made, "orthogonal")
    weight = made[3].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [n for n in INITIALISATIONS if n != "default"])
def test_initialisation_zeroes_biases_and_leaves_norms(name):
    made = network()
    initialise(made, name)
    assert made[0].bias.abs().sum() == made[3].bias.abs().sum() == 0
    assert torch.equal(made[1].weight, torch.ones(64))


def test_default_initialisation_draws_nothing():
    made = network()
    before = made[0].weight.clone()
    initialise(made, "default")
    assert torch.equal(made[0].weight, before)
