"""ProxylessNAS: gradients of its gates and its policy against enumeration, in float64."""

import collections
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_plugins import SearchSpace
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.mutators import ProxylessNAS
from nas_plugins.mutators.expected_cost import ExpectedCost
from nas_plugins.testing.mutators import Search, cell_space, every_verb_space, planted_space


class OneLayerNet(nn.Module):
    def __init__(self, choose):
        super().__init__()
        candidates = {str(i): lambda: nn.Conv2d(4, 4, 1) for i in range(4)}
        self.op = choose.layer("op", candidates, only_in_mixture={"none": nn.Identity})
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(self.op(x).mean((2, 3)).tanh())


def one_layer_space():
    return SearchSpace.from_network(OneLayerNet)


def prepared(space, seed=0, **options):
    search = Search(lambda s, seed: ProxylessNAS(s, arch_lr=0.1, **options), space, seed=seed)
    search.supernet.double()
    search.mutator.double()
    search.batches = [(x.double(), y) for x, y in search.batches]
    return search


def set_alphas(search, *alphas):
    with torch.no_grad():
        for alpha, values in zip(search.mutator.alphas, alphas, strict=True):
            alpha.copy_(torch.tensor(values))


def step_gradients(search):
    found = []
    hook = search.mutator.optimizer().register_step_pre_hook(
        lambda *_: found.extend(a.grad.clone() for a in search.mutator.alphas)
    )
    search.architecture_step()
    hook.remove()
    return found


def test_gate_gradients_are_the_papers_by_enumeration():
    """Eq. 4, for every pair and which of it is active, gate slopes by finite differences."""
    alpha = (0.3, -0.4, 0.1, 0.6)
    search = prepared(one_layer_space())
    gate = search.supernet.gates["op"]

    def slope(active, j):
        sides = []
        for sign in (1, -1):
            weights = torch.zeros(5, dtype=torch.float64)
            weights[active] = 1.0
            weights[j] += sign * 1e-5
            gate.mix(weights)
            sides.append(search.loss(search.batches[1]).item())
        return (sides[0] - sides[1]) / 2e-5

    expected = {}
    for i, j in itertools.permutations(range(4), 2):
        p = np.exp([alpha[i], alpha[j]]) / np.exp([alpha[i], alpha[j]]).sum()
        slopes = slope(i, i), slope(i, j)
        gradient = torch.zeros(4, dtype=torch.float64)
        for a, of in enumerate((i, j)):
            gradient[of] = sum(slopes[b] * p[b] * ((a == b) - p[a]) for b in range(2))
        expected[i, frozenset((i, j))] = gradient

    seen = collections.Counter()
    for _ in range(200):
        set_alphas(search, alpha)
        (gradient,) = step_gradients(search)
        active, pair = int(gate.weights.argmax()), frozenset(gate.indices)
        assert len(pair) == 2
        torch.testing.assert_close(gradient, expected[active, pair], atol=1e-8, rtol=1e-5)
        seen[active, pair] += 1
    assert len(seen) == 12


def test_pairs_are_drawn_by_probability_without_replacement():
    search = prepared(one_layer_space())
    alpha = torch.tensor([0.5, -1.0, 0.0, 1.0], dtype=torch.float64)
    set_alphas(search, alpha.tolist())
    p, counts, num = alpha.softmax(0), collections.Counter(), 5000
    for _ in range(num):
        counts[tuple(search.mutator._draw(2)["op"])] += 1
    for i, j in itertools.permutations(range(4), 2):
        expected = float(p[i] * p[j] / (1 - p[i]))
        assert counts[i, j] / num == pytest.approx(expected, abs=4 * math.sqrt(expected / num))


def test_unsampled_choices_keep_their_probabilities():
    search = prepared(one_layer_space())
    for _ in range(10):
        before = search.mutator.probabilities()["op"]
        search.architecture_step()
        after, pair = search.mutator.probabilities()["op"], search.supernet.gates["op"].indices
        others = [i for i in range(4) if i not in pair]
        torch.testing.assert_close(after[others], before[others], atol=1e-12, rtol=0)
        assert not torch.allclose(after[list(pair)], before[list(pair)], atol=1e-4)


def test_one_path_runs_for_weights_and_two_for_alphas():
    search = prepared(one_layer_space())
    ran = []
    for i, module in enumerate(search.supernet.network.op.candidates.values()):
        module.register_forward_hook(lambda *_, i=i: ran.append(i))
    counts = set()
    for _ in range(20):
        search.architecture_step()
        assert len(set(ran)) == 2
        assert 4 not in ran  # what no architecture may have
        ran.clear()
        search.weight_gradients(0.5)
        assert len(ran) == 1
        counts.add(ran.pop())
    assert len(counts) > 1


LATENCY = {
    "depth": {"1": 0.5, "2": 1.5},
    "block0": {"nested": 1.0, "tanh": 2.0},
    "block1": {"nested": 4.0, "tanh": 8.0},
    "shared": {"conv": 16.0, "skip": 32.0},
    "any/0": {"True": 64.0},
    "one": {"1": 128.0},
}


def test_expected_latency_is_the_mean_over_architectures():
    space = every_verb_space()
    search = prepared(space, latency_ms=LATENCY, latency_weight=0.1)
    with torch.no_grad():
        for alpha in search.mutator.alphas:
            alpha.normal_(generator=torch.Generator().manual_seed(len(alpha)))
    probabilities, mean = search.mutator.probabilities(), 0.0
    cost = ExpectedCost(space, LATENCY)
    for architecture in space.enumerate():
        chance = 1.0
        for label, choice in architecture.items():
            chance *= probabilities[label][
                list(space.decisions[label].all_choices()).index(choice)
            ].item()
        mean += chance * cost.of(architecture)
    assert search.mutator._expected_latency().item() == pytest.approx(mean, rel=1e-9)


def test_latency_is_part_of_the_loss():
    alpha, table = (0.3, -0.4, 0.1, 0.6), {"op": {"0": 1.0, "1": 5.0, "2": 2.0, "3": 9.0}}
    gradients = []
    for options in ({}, {"latency_ms": table, "latency_weight": 0.7}):
        search = prepared(one_layer_space(), **options)
        set_alphas(search, alpha)
        gradients.append(step_gradients(search)[0])
    live = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    costs = torch.tensor([1.0, 5.0, 2.0, 9.0], dtype=torch.float64)
    (expected,) = torch.autograd.grad(0.7 * (live.softmax(0) * costs).sum(), live)
    torch.testing.assert_close(gradients[1] - gradients[0], expected)


def test_a_dear_operation_is_dropped():
    table = {f"gain{i}": {"right": 100.0, "weak": 0.0, "wrong": 0.0} for i in range(3)}
    search = prepared(planted_space(), latency_ms=table, latency_weight=1.0)
    search.run(0, 60, total=60)
    assert "right" not in search.derive()[0].values()


def test_reinforce_is_the_gradient_of_the_expected_reward():
    """By Monte Carlo, the rewards being a table over a space whose decisions are conditional."""
    space = every_verb_space()
    search = prepared(space, method="reinforce", num_samples=1500)
    rng = np.random.default_rng(0)
    table = {
        a: rng.random() + 2 * (a["shared"] == "conv") + (a.get("block1") == "tanh")
        for a in space.enumerate()
    }
    mutator, labels = search.mutator, search.mutator.labels
    with torch.no_grad():
        for alpha in mutator.alphas:
            alpha.normal_(generator=torch.Generator().manual_seed(len(alpha)))
    choices = {label: list(space.decisions[label].all_choices()) for label in labels}
    alphas = dict(zip(labels, mutator.alphas, strict=True))
    value = sum(
        reward
        * torch.stack(
            [alphas[label].log_softmax(0)[choices[label].index(c)] for label, c in a.items()]
        )
        .sum()
        .exp()
        for a, reward in table.items()
    )
    exact = torch.cat(torch.autograd.grad(value, list(mutator.alphas)))

    paths = iter(list(copied_paths(mutator, 1500)))
    found = []
    hook = mutator.optimizer().register_step_pre_hook(
        lambda *_: found.extend(a.grad.clone() for a in mutator.alphas)
    )
    mutator.baseline.value.fill_(1.5)
    mutator.architecture_step(None, None, None, reward=lambda batch: table[next(paths)])
    hook.remove()
    assert next(paths, None) is None
    assert float((-torch.cat(found) - exact).norm() / exact.norm()) < 0.15


def copied_paths(mutator, num):
    """The architectures that the mutator will draw next."""
    state = mutator.generator.get_state()
    space = mutator.supernet.space
    for _ in range(num):
        drawn = {label: mutator._choices[label][i] for label, (i,) in mutator._draw().items()}
        yield space.complete(drawn)
    mutator.generator.set_state(state)


def test_latencies_and_their_weight_come_together():
    supernet = one_layer_space().supernet()
    with pytest.raises(ValueError, match="latency_ms and latency_weight belong together"):
        ProxylessNAS(supernet, latency_ms={"op": {"0": 1.0}})
    with pytest.raises(ValueError, match="latency_ms and latency_target_ms belong together"):
        ProxylessNAS(supernet, method="reinforce", latency_ms={"op": {"0": 1.0}})


def test_tables_of_another_space_are_refused():
    space = cell_space()
    with pytest.raises(UnsupportedSpaceError, match="'9<-0', which is no decision"):
        ExpectedCost(space, {"9<-0": {}})
    with pytest.raises(UnsupportedSpaceError, match="has 'conv9' at '2<-0'"):
        ExpectedCost(space, {"2<-0": {"conv9": 1.0}})


@pytest.mark.parametrize(
    ("method", "option"), [("gradient", "latency_target_ms"), ("reinforce", "latency_weight")]
)
def test_what_the_method_has_no_use_for_is_refused(method, option):
    supernet = one_layer_space().supernet()
    with pytest.raises(ValueError, match=f"{option} is 1.0, which method='{method}'"):
        ProxylessNAS(supernet, method=method, **{option: 1.0})
