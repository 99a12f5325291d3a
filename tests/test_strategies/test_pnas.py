"""PNAS: levels, extensions of the best, rankings; its surrogates by their gradients."""

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, InCondition, Integer

from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.strategies import PNAS
from nas_plugins.strategies.surrogates import Ensemble, LSTMSurrogate, MLPSurrogate, spearman
from nas_plugins.strategies.tokens import INACTIVE, Tokens
from nas_plugins.testing.strategies import conditional_space, toy_score, toy_space

SMALL = {"hidden_size": 8, "num_steps": 60, "num_surrogates": 2}


def blocks_space(num_blocks=3):
    """A cell of blocks, each an input and an operation; how many is a ``repeat``."""
    space = ConfigurationSpace()
    blocks = Integer("blocks", (1, num_blocks), meta={"verb": "repeat"})
    space.add(blocks)
    for i in range(num_blocks):
        made = [
            Categorical(f"{i}/input", [str(j) for j in range(i + 1)]),
            Categorical(f"{i}/op", ["conv", "pool", "skip"]),
        ]
        space.add(made)
        if i:
            deep = list(range(i + 1, num_blocks + 1))
            space.add([InCondition(decision, blocks, deep) for decision in made])
    return SearchSpace(space)


def blocks_score(architecture):
    worth = {"conv": 1.0, "pool": 0.3, "skip": 0.0}
    return sum(worth.get(choice, 0.0) for choice in architecture.values())


def play(strategy, steps, score):
    asked = []
    for _ in range(steps):
        asked.append(strategy.ask())
        strategy.tell(asked[-1], score(asked[-1]))
    return asked


def gradient_of(function, parameter, step=1e-6):
    gradient = np.zeros_like(parameter)
    for index in np.ndindex(*parameter.shape):
        kept = parameter[index]
        parameter[index] = kept + step
        above = function()
        parameter[index] = kept - step
        gradient[index] = (above - function()) / (2 * step)
        parameter[index] = kept
    return gradient


@pytest.mark.parametrize("surrogate", [MLPSurrogate, LSTMSurrogate])
def test_surrogates_backward_is_the_derivative_of_forward(surrogate):
    space, rng = conditional_space(), np.random.default_rng(0)
    tokens = Tokens(space)
    rows = np.stack([tokens.row(space.sample(rng)) for _ in range(6)])
    network, weights = surrogate(tokens, rng, hidden_size=3), rng.standard_normal(6)
    gradients = network._backward(weights, network._forward(rows)[1])
    for parameter, gradient in zip(network.parameters, gradients, strict=True):
        numerical = gradient_of(lambda: float(network.predict(rows) @ weights), parameter)
        np.testing.assert_allclose(gradient, numerical, atol=1e-7)


@pytest.mark.parametrize("surrogate", [MLPSurrogate, LSTMSurrogate])
def test_surrogates_rank_architectures_they_have_not_seen(surrogate):
    space, rng = toy_space(), np.random.default_rng(0)
    tokens = Tokens(space)
    seen, unseen = ([space.sample(rng) for _ in range(num)] for num in (200, 100))
    ensemble = Ensemble([surrogate(tokens, rng, hidden_size=16) for _ in range(3)])
    ensemble.fit(
        np.stack([tokens.row(a) for a in seen]),
        np.array([toy_score(a) for a in seen]),
        learning_rate=0.01,
        num_steps=300,
        batch_size=64,
        rng=rng,
    )
    predicted = ensemble.predict(np.stack([tokens.row(a) for a in unseen]))
    assert spearman(predicted, np.array([toy_score(a) for a in unseen])) > 0.85


def test_what_is_learned_of_a_choice_holds_where_it_was_never_seen():
    space, rng = blocks_space(2), np.random.default_rng(0)
    tokens = Tokens(space)
    first = [a for a in space.enumerate() if a["blocks"] == 1]
    second = [a for a in space.enumerate() if a["blocks"] == 2]
    ensemble = Ensemble([MLPSurrogate(tokens, rng, hidden_size=16) for _ in range(5)])
    ensemble.fit(
        np.stack([tokens.row(a) for a in first]),
        np.array([blocks_score(a) for a in first]),
        learning_rate=0.01,
        num_steps=100,
        batch_size=64,
        rng=rng,
    )
    predicted = ensemble.predict(np.stack([tokens.row(a) for a in second]))
    assert spearman(predicted, np.array([blocks_score(a) for a in second])) > 0.9


def test_spearman_is_the_correlation_of_ranks():
    assert spearman(np.array([1.0, 2.0, 9.0]), np.array([0.0, 5.0, 6.0])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2.0, 9.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = spearman(np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    assert tied == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert np.isnan(spearman(np.ones(3), np.array([1.0, 2.0, 3.0])))


def test_activity_of_rows_is_that_of_architectures():
    space, rng = conditional_space(), np.random.default_rng(0)
    tokens = Tokens(space)
    rows = np.stack([tokens.row(space.sample(rng)) for _ in range(200)])
    for position in range(rows.shape[1]):
        np.testing.assert_array_equal(tokens.active(position, rows), rows[:, position] != INACTIVE)


def test_defaults_are_the_papers():
    strategy = PNAS(toy_space())
    assert (strategy.beam_size, strategy.num_surrogates, strategy.hidden_size) == (256, 5, 100)


def test_a_repeat_grows_level_by_level_from_the_best():
    strategy = PNAS(blocks_space(), beam_size=3, **SMALL)
    asked = play(strategy, 9, blocks_score)
    assert [a["blocks"] for a in asked] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {a["0/op"] for a in asked[:3]} == {"conv", "pool", "skip"}  # the level in full
    for level in (1, 2):
        below = [blocks_of(a) for a in asked[3 * level - 3 : 3 * level]]
        for child in asked[3 * level : 3 * level + 3]:
            assert any(blocks_of(child) > parent for parent in below)


def blocks_of(architecture):
    return {item for item in architecture.items() if item[0] != "blocks"}


def test_only_the_best_are_extended():
    strategy = PNAS(toy_space(), beam_size=2, **SMALL)
    scores = dict(zip("abcd", (3.0, 9.0, 1.0, 2.0), strict=True))
    for letter in "abcd":
        strategy.tell(toy_space().default().replace(op0=letter), scores[letter])
    assert {strategy.ask(number)["op0"] for number in range(4, 6)} <= {"a", "b"}


def test_closed_decisions_are_at_their_default():
    space = toy_space()
    levels = [["op3"], ["op0", "op7"], [f"op{i}" for i in (1, 2, 4, 5, 6, 8, 9)]]
    strategy = PNAS(space, beam_size=4, levels=levels, **SMALL)
    asked = play(strategy, 12, toy_score)
    default = space.default()
    opened = set()
    for i, level in enumerate(levels):
        opened |= set(level)
        for architecture in asked[4 * i : 4 * i + 4]:
            assert {k for k, c in architecture.items() if c != default[k]} <= opened


def test_the_predictor_orders_a_level_and_its_rank_correlation_is_reported():
    strategy = PNAS(toy_space(), beam_size=32, hidden_size=16, num_steps=150, num_surrogates=3)
    play(strategy, 4, toy_score)
    assert strategy.rank_correlations == ()
    play(strategy, 12 + 32 * 5, toy_score)
    assert len(strategy.rank_correlations) == 6
    assert np.mean(strategy.rank_correlations[2:]) > 0.5


def test_equal_networks_are_evaluated_once():
    space = SearchSpace(
        ConfigurationSpace({"a": ["x", "y", "z"], "b": ["x", "y", "z"]}),
        canonical=lambda architecture: frozenset(architecture.values()),
    )
    asked = play(PNAS(space, beam_size=9, **SMALL), 6, lambda architecture: 1.0)
    assert len({space.canonical(architecture) for architecture in asked}) == 6


def test_failed_architectures_are_not_proposed_again():
    space = blocks_space(2)
    strategy = PNAS(space, beam_size=20, **SMALL)
    asked = []
    for _ in range(space.size):
        asked.append(strategy.ask())
        failed = asked[-1].get("0/op") == "pool"
        strategy.tell(asked[-1], None if failed else blocks_score(asked[-1]))
    # Failures have no children: 3 alone, and the 6 continuations of the 2 that are left.
    proposed = asked[: 3 + 2 * 6]
    assert len(set(proposed)) == len(proposed)
    assert all(a["0/op"] != "pool" for a in proposed[3:])


def test_workers_at_the_same_time_miss_nothing_and_repeat_little():
    strategy = PNAS(toy_space(), beam_size=32, **SMALL)
    rng = np.random.default_rng(0)
    running, told = [], []
    for number in range(400):
        running.append(strategy.ask(number))
        if len(running) == 8:
            told.append(running.pop(rng.integers(8)))
            strategy.tell(told[-1], toy_score(told[-1]))
    assert len(strategy.rank_correlations) >= 8  # levels do end
    assert len(set(told)) > 0.95 * len(told)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"surrogate": "gp"}, ValueError, "surrogate is 'gp'; expected one of"),
        ({"beam_size": 0}, ValueError, "beam_size is 0"),
        ({"num_surrogates": 0}, ValueError, "num_surrogates is 0"),
        ({"levels": [["op0"]]}, UnsupportedSpaceError, r"levels are \[\['op0'\]\]; expected each"),
        ({"levels": [[f"op{i}" for i in range(10)], []]}, UnsupportedSpaceError, "none empty"),
    ],
)
def test_refuses_impossible_options(options, error, words):
    with pytest.raises(error, match=words):
        PNAS(toy_space(), **options)
