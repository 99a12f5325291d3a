"""Scores by inherited weights: recalibrated, repeatable, and without traces."""

import copy

import numpy as np
import pytest
import torch
from tiny_search import images, tiny_space
from torch import nn
from torch.utils.data import DataLoader

from nas_plugins import ArchitectureError
from nas_plugins.estimators.one_shot import OneShotScore, recalibrate


@pytest.fixture
def supernet():
    """With statistics that are nobody's: those of uniform mixtures."""
    torch.manual_seed(0)
    net = tiny_space().supernet().train()
    with torch.no_grad():
        for images_, _ in DataLoader(images(64, 7), 16):
            net(3 * images_ + 1)
    return net


def loaders(num=50):
    return DataLoader(images(num, 0), 16, shuffle=True), DataLoader(images(num, 1), 16)


def architectures(supernet, num):
    rng = np.random.default_rng(0)
    return [supernet.sample(rng) for _ in range(num)]


def minus_loss(logits, labels):
    return -nn.functional.cross_entropy(logits, labels)


def test_recalibrated_statistics_are_the_mean_over_batches():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3, momentum=0.3)).train()
    batches = [torch.randn(8, 3, 4, 4) + i for i in range(4)]
    network(batches[0] * 100)
    assert recalibrate(network, batches) is network
    norm = network[1]
    torch.testing.assert_close(
        norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    )
    torch.testing.assert_close(
        norm.running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0)
    )
    assert norm.momentum == 0.3
    assert not any(module.training for module in network.modules())


def test_statistics_stay_where_there_is_no_batch():
    network = nn.Sequential(nn.BatchNorm2d(3))
    network[0].running_mean.fill_(2.0)
    with pytest.raises(ValueError, match="no batch to recalibrate with"):
        recalibrate(network, [])
    assert (network[0].running_mean == 2.0).all()
    recalibrate(nn.Conv2d(3, 1, 1), [])  # which has none


def test_score_is_the_accuracy_of_the_recalibrated_child(supernet):
    train, valid = loaders()
    for architecture in architectures(supernet, 3):
        score = OneShotScore(supernet, train, valid, recalibration_batches=2)
        child = score.child(architecture)
        labels = valid.dataset.tensors[1]
        with torch.no_grad():
            expected = (child(valid.dataset.tensors[0]).argmax(1) == labels).float().mean()
        assert score(architecture) == pytest.approx(float(expected))
        plain = supernet.child(architecture).eval().state_dict()
        for name, value in child.state_dict().items():
            assert torch.equal(value, plain[name]) == ("running" not in name and "num" not in name)


def test_scores_repeat_and_leave_no_traces(supernet):
    before = copy.deepcopy(supernet.state_dict())
    gates = [(g.indices, g.weights) for g in supernet.gates.values()]
    state = torch.get_rng_state()
    score = OneShotScore(supernet, *loaders())
    found = architectures(supernet, 4)
    scores = [score(a) for a in found]
    assert scores == [score(a) for a in found]
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    assert gates == [(g.indices, g.weights) for g in supernet.gates.values()]
    assert torch.equal(torch.get_rng_state(), state)


def test_rank_is_best_first_by_any_metric(supernet):
    train, valid = loaders()
    score = OneShotScore(supernet, train, valid, metric=minus_loss)
    ranked = score.rank(architectures(supernet, 5))
    values = [value for value, _ in ranked]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1
    assert all(value == score(a) for value, a in ranked)
    child = score.child(ranked[0][1])
    with torch.no_grad():  # the last batch is smaller: the mean is over samples
        whole = minus_loss(child(valid.dataset.tensors[0]), valid.dataset.tensors[1])
    assert values[0] == pytest.approx(float(whole), rel=1e-5)


def test_children_are_where_they_are_asked_for():
    """``meta`` is a second device that every machine has."""
    supernet = tiny_space(norm=False).supernet()
    (architecture,) = architectures(supernet, 1)
    child = OneShotScore(supernet, *loaders(), device="meta").child(architecture)
    assert {p.device.type for p in (*child.parameters(), *child.buffers())} == {"meta"}
    assert {p.device.type for p in supernet.parameters()} == {"cpu"}


def test_recalibration_undoes_foreign_statistics(supernet):
    architecture = supernet.space.default()
    train, valid = loaders()
    inputs, labels = valid.dataset.tensors

    def recalibrated():
        return OneShotScore(supernet, train, valid, metric=minus_loss)(architecture)

    def stale():
        with torch.no_grad():
            return float(minus_loss(supernet.child(architecture).eval()(inputs), labels))

    before = recalibrated()
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
            module.running_var.fill_(0.01)
    assert recalibrated() == before
    assert stale() < before - 0.2


def test_wrong_use_is_named(supernet):
    with pytest.raises(ValueError, match="recalibration_batches is 0"):
        OneShotScore(supernet, [], [], recalibration_batches=0)
    (architecture,) = architectures(supernet, 1)
    with pytest.raises(ValueError, match="valid_loader has no batch"):
        OneShotScore(supernet, loaders()[0], []).score(architecture)
    with pytest.raises(ValueError, match="no batch to recalibrate with"):
        OneShotScore(supernet, [], loaders()[1]).score(architecture)
    with pytest.raises(ArchitectureError):
        OneShotScore(supernet, *loaders()).score({"cell/first": "conv3"})
