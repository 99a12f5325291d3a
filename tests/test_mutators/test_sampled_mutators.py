"""GDAS, one-shot with path dropout, uniform paths: what they draw, against what is published."""

import collections
import math

import pytest
import torch

from nas_plugins.errors import ScoreError
from nas_plugins.mutators import DARTS, GDAS, OneShot, Uniform
from nas_plugins.mutators.derivation import RankingError
from nas_plugins.testing.mutators import Search, cell_space, every_verb_space, planted_space


def test_gdas_samples_by_probability_and_its_temperature_falls():
    mutator = GDAS(planted_space().supernet())
    with torch.no_grad():
        mutator.alphas[0].copy_(torch.tensor([1.0, 0.0, -1.0]))
    counts, num = collections.Counter(), 4000
    for _ in range(num):
        mutator.open_for_weights(0.0)
        (index,) = mutator.supernet.gates["gain0"].indices
        counts[index] += 1
    for i, p in enumerate(mutator.alphas[0].detach().softmax(0).tolist()):
        assert counts[i] / num == pytest.approx(p, abs=4 * math.sqrt(p / num))
    temperatures = []
    for progress in (0.0, 0.5, 1.0):
        mutator.open_for_weights(progress)
        temperatures.append(mutator.temperature)
    assert temperatures == pytest.approx([10.0, 5.05, 0.1])


def test_gdas_gradient_is_that_of_the_relaxed_weight_of_the_path():
    search = Search(lambda s, seed: GDAS(s, tau=(2.0, 2.0)), planted_space())
    mutator, gates = search.mutator, search.supernet.gates
    noise = GDAS(planted_space().supernet(), seed=0)
    noise.generator.set_state(mutator.generator.get_state())
    drawn = noise._noise()
    found = []
    mutator.optimizer().register_step_pre_hook(
        lambda *_: found.extend(a.grad.clone() for a in mutator.alphas)
    )
    alphas = [a.detach().clone().requires_grad_() for a in mutator.alphas]
    search.architecture_step()
    expected = torch.zeros(())
    x, _ = search.batches[1]
    for label, alpha, gumbel in zip(mutator.labels, alphas, drawn, strict=True):
        (k,) = gates[label].indices
        assert gates[label].weights[k] == 1.0
        gain = (1.0, -0.5, -1.0)[k]
        relaxed = ((alpha.log_softmax(0) + gumbel) / 2.0).softmax(0)
        assert relaxed.argmax() == k
        # Of mean((gain x + bias - x)^2) over three such, the slope in the gate's weight.
        slope = (2 * (gain * x - x) * gain * x).mean() / 3
        expected = expected + slope * relaxed[k]
    theirs = torch.autograd.grad(expected, alphas)
    for ours, reference in zip(found, theirs, strict=True):
        torch.testing.assert_close(ours, reference)


def test_path_dropout_has_the_published_rate():
    mutator = OneShot(cell_space().supernet(), dropout=0.1)
    num, gate = 1000, mutator.supernet.gates["3<-0"]
    for progress in (0.0, 0.5, 1.0):
        dropped = alone = 0
        for _ in range(num):
            mutator.open_for_weights(progress)
            assert gate.weights is None
            dropped += 4 - len(gate.indices)
            alone += len(gate.indices) == 1
        rate = progress * 0.1 ** (1 / 4)
        kept_in_vain = rate**4  # all would be dropped: one stays
        expected = rate - kept_in_vain / 4
        assert dropped / (4 * num) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / (4 * num)))
        if progress == 0.0:
            assert dropped == 0
    assert alone > 0


def test_only_optional_inputs_may_be_left_empty():
    mutator = OneShot(every_verb_space().supernet(), dropout=0.4)
    sizes = collections.defaultdict(set)
    for _ in range(200):
        mutator.open_for_weights(1.0)
        for label, gate in mutator.supernet.gates.items():
            sizes[label].add(len(gate.indices))
            if label == "any":
                assert 2 in gate.indices  # required
    assert sizes["any"] == {1, 2, 3}
    assert min(sizes["one"]) == min(sizes["shared"]) == min(sizes["depth"]) == 1


def test_uniform_draws_every_architecture_alike():
    space = planted_space()
    mutator, counts, num = Uniform(space.supernet()), collections.Counter(), 5400
    for _ in range(num):
        mutator.open_for_weights(0.0)
        counts[tuple(gate.indices for gate in mutator.supernet.gates.values())] += 1
    assert len(counts) == 27
    assert all(count == pytest.approx(200, abs=5 * math.sqrt(200)) for count in counts.values())


@pytest.mark.parametrize("make", [OneShot, Uniform])
def test_ranking_finds_the_best_by_inherited_weights(make):
    search = Search(lambda s, seed: make(s, num_candidates=300), planted_space())
    first, second = search.mutator.derive(2, search.evaluate)
    assert set(first.values()) == {"right"}
    assert sorted(second.values()) == ["right", "right", "weak"]
    with pytest.raises(RankingError, match=r"give derive\(evaluate=...\)"):
        search.mutator.derive()
    with pytest.raises(ScoreError, match="evaluate gave nan"):
        search.mutator.derive(1, lambda architecture: math.nan)


@pytest.mark.parametrize("make", [DARTS, GDAS, OneShot])
def test_fixed_optional_inputs_stay(make):
    supernet = every_verb_space().supernet(fixed={"any/0": False})
    mutator = make(supernet)
    for _ in range(10):
        mutator.open_for_weights(0.0)
        gate = supernet.gates["any"]
        assert 0 not in gate.indices or gate.weights[0] == 0
        assert 2 in gate.indices
    assert all(a["any/0"] is False for a in mutator.derive(5, lambda architecture: 0.0))
