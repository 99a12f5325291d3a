"""ENAS: the policy against enumeration, its gradient against that of the expected reward."""

import collections
import math

import numpy as np
import pytest
import torch
from ConfigSpace import ForbiddenAndConjunction, ForbiddenEqualsClause
from torch import nn

from nas_plugins import Architecture, SearchSpace
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.mutators import ENAS
from nas_plugins.testing.mutators import every_verb_space, planted_space


def peaked(space, **options):
    """A controller in float64 whose probabilities are far from uniform."""
    mutator = ENAS(space.supernet(), hidden_size=6, **options).double()
    with torch.no_grad():
        for parameter in mutator.controller.parameters():
            parameter.mul_(20)
    return mutator


def gradient(value, mutator):
    """Flat; the last decisions' embeddings lead nowhere, their gradient is zero."""
    parameters = list(mutator.controller.parameters())
    found = torch.autograd.grad(value, parameters, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def expected_reward(mutator, architectures):
    p = mutator.controller.read(architectures).log_probability.exp()
    return (p * rewards_of(architectures)).sum()


def rewards_of(architectures):
    rng = np.random.default_rng(0)
    return torch.tensor(
        [rng.random() + 2 * (a["shared"] == "conv") for a in architectures]
    ).double()


def test_probabilities_of_all_architectures_sum_to_one():
    space = every_verb_space()
    architectures = list(space.enumerate())
    log_p = peaked(space).controller.read(architectures).log_probability.detach()
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert log_p.max() - log_p.min() > 3


def test_samples_follow_the_policy():
    space = every_verb_space()
    mutator = peaked(space)
    architectures, num = list(space.enumerate()), 5000
    p = mutator.controller.read(architectures).log_probability.exp().tolist()
    with torch.no_grad():
        drawn = mutator.controller.draw(num, mutator.generator).choices
    counts = collections.Counter(map(Architecture, drawn))
    for architecture, chance in zip(architectures, p, strict=True):
        share = counts[architecture] / num
        assert share == pytest.approx(chance, abs=5 * math.sqrt(chance / num) + 1e-3)


@pytest.mark.parametrize("baseline", [0.0, 1.7])
def test_policy_gradient_is_that_of_the_expected_reward(baseline):
    """Expectation of the estimator by enumeration, whatever the baseline."""
    space = every_verb_space()
    mutator = peaked(space, entropy_weight=0.0, skip_weight=0.0)
    architectures = list(space.enumerate())
    rewards, policy = rewards_of(architectures), mutator.controller.read(architectures)
    expected_loss = 0.0
    for i, p in enumerate(policy.log_probability.detach().exp()):
        mutator.baseline.value.fill_(baseline)
        one = policy._replace(  # as if it alone had been drawn
            log_probability=policy.log_probability[i : i + 1],
            entropy=policy.entropy[i : i + 1],
            skip_divergence=policy.skip_divergence[i : i + 1],
        )
        expected_loss = expected_loss + p * mutator.surrogate(one, rewards[i : i + 1])
    exact = gradient(expected_reward(mutator, architectures), mutator)
    torch.testing.assert_close(-gradient(expected_loss, mutator), exact, atol=1e-10, rtol=1e-8)
    assert exact.norm() > 0.01


def test_a_step_follows_the_exact_gradient():
    """The whole step, by Monte Carlo."""
    space = every_verb_space()
    mutator = peaked(space, num_samples=4000, entropy_weight=0.0, skip_weight=0.0)
    architectures = list(space.enumerate())
    rewards = dict(zip(architectures, rewards_of(architectures).tolist(), strict=True))
    mean = expected_reward(mutator, architectures)
    exact = gradient(mean, mutator)
    paths = []
    mutator.supernet.set_path = lambda path: paths.append(Architecture(path))
    mutator.baseline.value.fill_(float(mean.detach()))
    found = []
    hook = mutator.optimizer().register_step_pre_hook(
        lambda *_: found.extend(p.grad.flatten().clone() for p in mutator.controller.parameters())
    )
    mutator.architecture_step(None, None, None, reward=lambda batch: rewards[paths[-1]])
    hook.remove()
    assert len(paths) == 4000
    assert float((-torch.cat(found) - exact).norm() / exact.norm()) < 0.1


def test_entropy_is_that_of_the_policy():
    """In expectation the entropies along sequences sum to that of the distribution."""
    space = every_verb_space()
    policy = peaked(space).controller.read(list(space.enumerate()))
    p = policy.log_probability.exp()
    exact = -(p * policy.log_probability).sum()
    torch.testing.assert_close((p * policy.entropy).sum(), exact, atol=1e-12, rtol=0)
    assert not policy.entropy.requires_grad


def test_reward_has_the_entropy_and_the_baseline_follows():
    mutator = ENAS(planted_space().supernet(), hidden_size=4, entropy_weight=0.5, num_samples=3)
    entropy = mutator.controller.draw(3, mutator._copied_generator()).entropy.mean()
    log = mutator.architecture_step(None, None, None, reward=lambda batch: 2.0)
    assert log["arch_reward"] == 2.0
    expected = 0.01 * (2.0 + 0.5 * float(entropy))
    assert float(mutator.baseline.value) == pytest.approx(expected, rel=1e-5)


def test_without_a_reward_it_is_the_inverse_perplexity():
    supernet = planted_space().supernet()
    log = ENAS(supernet, hidden_size=4).architecture_step(lambda _: torch.tensor(0.7), None, None)
    assert log["arch_reward"] == pytest.approx(math.exp(-0.7))


class SkipNet(nn.Module):
    """Optional inputs in two places, as the macro space has them."""

    def __init__(self, choose):
        super().__init__()
        self.places = nn.ModuleList(choose.inputs(f"skips{n}", n, num_chosen=None) for n in (1, 3))


def test_skip_penalty_is_the_divergence_from_the_target():
    mutator = ENAS(SearchSpace.from_network(SkipNet).supernet(), hidden_size=4)
    log_p = {}
    read = mutator.controller._log_probabilities

    def note(label, hidden):
        log_p[label] = read(label, hidden)
        return log_p[label]

    mutator.controller._log_probabilities = note
    policy = mutator.controller.draw(1, mutator.generator)
    expected = 0.0
    for label, value in log_p.items():
        q = value[0, 1].exp().item()  # False, True
        kl = q * math.log(q / 0.4) + (1 - q) * math.log((1 - q) / 0.6)
        expected += kl / 2  # summed in a place, mean over the two places
        assert label.startswith("skips")
    assert len(log_p) == 4
    assert policy.skip_divergence.item() == pytest.approx(expected, abs=1e-6)


def test_skip_penalty_pulls_to_the_target():
    space = SearchSpace.from_network(SkipNet)
    mutator = ENAS(space.supernet(), hidden_size=8, arch_lr=0.05, num_samples=2)
    for _ in range(40):
        mutator.architecture_step(None, None, None, reward=lambda batch: 0.0)
    for p in mutator.probabilities().values():
        assert p[1].item() == pytest.approx(0.4, abs=0.03)


def test_logits_are_bounded():
    mutator = peaked(planted_space(), tanh_constant=2.5)
    with torch.no_grad():
        mutator.controller.heads[0].bias.copy_(torch.tensor([1e6, 0.0, -1e6]))
    p = mutator.controller.draw(1, mutator.generator).probabilities["gain0"]
    assert math.log(p[0] / p[2]) == pytest.approx(5.0)


def test_forbidden_clauses_are_refused():
    space = planted_space()
    clauses = [ForbiddenEqualsClause(space.config_space[f"gain{i}"], "weak") for i in range(2)]
    space.config_space.add(ForbiddenAndConjunction(*clauses))
    with pytest.raises(UnsupportedSpaceError, match="forbidden clauses"):
        ENAS(space.supernet())


def test_probabilities_are_where_the_controller_is():
    """What is made without a device is made on ``meta`` here, as on a GPU it is on the CPU."""
    mutator = ENAS(every_verb_space().supernet(), num_samples=1, hidden_size=4)
    (drawn,) = mutator.controller.draw(1, mutator._copied_generator()).choices
    with torch.device("meta"):
        found = mutator.probabilities()
    assert found.keys() > drawn.keys()
    assert {p.device.type for p in found.values()} == {"cpu"}
