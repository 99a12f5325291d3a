"""From a search with a supernet to a prior: what is scored, and what is probable."""

import pytest
import torch

from nas_plugins.mutators import create, prior_of
from nas_plugins.mutators.derivation import RankingError
from nas_plugins.strategies import SupernetPrior
from nas_plugins.testing.mutators import every_verb_space


def supernet():
    torch.manual_seed(0)
    return every_verb_space().supernet()


def length(architecture):
    return len(architecture) + len(str(sorted(architecture.items()))) / 1000


def test_learned_probabilities_are_those_of_derivable_choices():
    mutator = create("darts", supernet())
    with torch.no_grad():
        for alpha in mutator.alphas:
            alpha.copy_(torch.arange(float(len(alpha))))
    prior = prior_of(mutator, num=3)
    space = mutator.supernet.space
    assert [a for _, a in prior.scores] == mutator.derive(3)
    assert [score for score, _ in prior.scores] == [0, -1, -2]
    assert set(prior.probabilities) == set(mutator.labels)
    for label, of in prior.probabilities.items():
        assert all(space.decisions[label].allows(choice) for choice in of)
        values = torch.arange(float(len(of))).softmax(0).tolist()
        assert list(of.values()) == pytest.approx(values)
    prior.check(space)


def test_what_a_method_evaluates_is_scored_once():
    mutator = create("uniform", supernet(), num_candidates=40)
    calls = []

    def evaluate(architecture):
        calls.append(architecture)
        return length(architecture)

    prior = prior_of(mutator, evaluate, num=2)
    assert len(prior.scores) == len(calls) == len(set(calls)) > 2
    assert [(length(a), a) for _, a in prior.scores] == list(prior.scores)
    best = [a for _, a in prior.scores[: -(-len(calls) // 10)]]
    for label, of in prior.probabilities.items():
        counts = {choice: 1 + sum(a.get(label) == choice for a in best) for choice in of}
        assert of == pytest.approx({c: n / sum(counts.values()) for c, n in counts.items()})


def test_further_architectures_are_sampled_by_their_own_seed():
    mutator = create("gdas", supernet())
    priors = [prior_of(mutator, length, num=3, num_sampled=20, seed=seed) for seed in (0, 0, 1)]
    assert priors[0] == priors[1] != priors[2]
    assert set(mutator.derive(3)) < {a for _, a in priors[0].scores}


def test_a_controller_that_samples():
    prior = prior_of(create("enas", supernet(), num_candidates=8), num=4)
    assert [score for score, _ in prior.scores] == [0, -1, -2, -3]
    SupernetPrior(every_verb_space(), prior=prior, prior_weight=5).ask(3)


def test_nothing_to_rank_by_is_named():
    with pytest.raises(RankingError, match="evaluate"):
        prior_of(create("uniform", supernet()))
    with pytest.raises(ValueError, match="num_sampled is 5"):
        prior_of(create("darts", supernet()), num_sampled=5)
