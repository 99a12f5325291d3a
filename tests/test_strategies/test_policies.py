"""Gradients of the numpy policies against finite differences; what a policy draws and reads."""

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, Float, ForbiddenAndConjunction, ForbiddenEqualsClause
from ConfigSpace import Integer as IntegerRange

from nas_plugins import Architecture, SearchSpace
from nas_plugins.strategies.lstm import LSTM, Adam
from nas_plugins.strategies.policies import LSTMPolicy, TablePolicy
from nas_plugins.strategies.tokens import INACTIVE, Tokens
from nas_plugins.testing.strategies import conditional_space, toy_space


def table(space):
    return TablePolicy(space, np.random.default_rng(0))


def recurrent(space):
    rng = np.random.default_rng(0)
    return LSTMPolicy(space, rng, hidden_size=4, num_layers=2, scale=0.5)


def rows_of(policy, space, num):
    rng = np.random.default_rng(1)
    return np.stack([policy.tokens.row(space.sample(rng)) for _ in range(num)])


def numerical_gradient(function, parameter, step=1e-6):
    gradient = np.zeros_like(parameter)
    for index in np.ndindex(*parameter.shape):
        kept = parameter[index]
        parameter[index] = kept + step
        above = function()
        parameter[index] = kept - step
        gradient[index] = (above - function()) / (2 * step)
        parameter[index] = kept
    return gradient


def test_lstm_backward_is_the_derivative_of_forward():
    rng = np.random.default_rng(0)
    lstm = LSTM(3, 4, 2, scale=0.8, rng=rng)
    x, weights = rng.standard_normal((5, 6, 3)), rng.standard_normal((5, 6, 4))
    active = rng.random((5, 6)) < 0.6

    def loss():
        return float((lstm.forward(x, active)[0] * weights).sum())

    d_x, gradients = lstm.backward(weights, lstm.forward(x, active)[1])
    for values, gradient in zip([x, *lstm.parameters], [d_x, *gradients], strict=True):
        np.testing.assert_allclose(gradient, numerical_gradient(loss, values), atol=1e-7)


def test_lstm_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    lstm = LSTM(3, 4, 2, scale=0.8, rng=rng)
    theirs = torch.nn.LSTM(3, 4, 2, batch_first=True, dtype=torch.float64)
    order = [0, 1, 3, 2]  # their gates are input, forget, content, output
    for layer in range(2):
        for name, ours in zip(("ih", "hh"), lstm.parameters[3 * layer :], strict=False):
            blocks = np.split(ours, 4, axis=1)
            getattr(theirs, f"weight_{name}_l{layer}").data = torch.tensor(
                np.concatenate([blocks[i] for i in order], axis=1).T
            )
        blocks = np.split(lstm.parameters[3 * layer + 2], 4)
        getattr(theirs, f"bias_ih_l{layer}").data = torch.tensor(
            np.concatenate([blocks[i] for i in order])
        )
        getattr(theirs, f"bias_hh_l{layer}").data.zero_()
    x = rng.standard_normal((2, 6, 3))
    ours, _ = lstm.forward(x, np.ones((2, 6), dtype=bool))
    np.testing.assert_allclose(ours, theirs(torch.tensor(x))[0].detach().numpy(), atol=1e-12)
    state = None
    for t in range(6):
        output, state = lstm.step(x[0, t], state)
        np.testing.assert_allclose(output, ours[0, t], atol=1e-12)


def test_adam_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = rng.standard_normal(5)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    mine, reference = Adam([ours], 0.1), torch.optim.Adam([theirs], 0.1)
    for _ in range(20):
        gradient = rng.standard_normal(5)
        theirs.grad = torch.tensor(gradient)
        mine.step([gradient])
        reference.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("make", [table, recurrent])
def test_gradients_of_probability_and_entropy(make):
    space = conditional_space()
    policy = make(space)
    rows = rows_of(policy, space, 3)
    of_log_p, of_entropy = np.array([0.3, -1.2, 0.7]), np.array([0.5, 0.1, -0.4])

    def loss():
        reading = policy.read(rows)
        return float(of_log_p @ reading.log_probability + of_entropy @ reading.entropy)

    gradients = policy.gradients(policy.read(rows), of_log_p, of_entropy)
    for parameter, gradient in zip(policy.parameters, gradients, strict=True):
        np.testing.assert_allclose(gradient, numerical_gradient(loss, parameter), atol=1e-7)


@pytest.mark.parametrize("make", [table, recurrent])
def test_probabilities_of_all_architectures_sum_to_one(make):
    space = SearchSpace(ConfigurationSpace({"a": ["x", "y"], "b": (1, 3), "c": [True, False]}))
    policy = make(space)
    rows = np.stack([policy.tokens.row(a) for a in space.enumerate()])
    reading = policy.read(rows)
    probabilities = np.exp(reading.log_probability)
    assert probabilities.sum() == pytest.approx(1)
    rng = np.random.default_rng(0)
    drawn = [policy.tokens.row(policy.draw(rng)) for _ in range(4000)]
    counts = np.array([sum((row == of).all() for of in drawn) for row in rows])
    chi_squared = ((counts - 4000 * probabilities) ** 2 / (4000 * probabilities)).sum()
    assert chi_squared < 31.26  # 0.1 % quantile at 11 degrees of freedom


def test_forbidden_architectures_are_not_drawn():
    space = ConfigurationSpace({"a": ["x", "y"], "b": ["x", "y"]})
    space.add(
        ForbiddenAndConjunction(
            ForbiddenEqualsClause(space["a"], "y"), ForbiddenEqualsClause(space["b"], "y")
        )
    )
    policy, rng = table(SearchSpace(space)), np.random.default_rng(0)
    policy.parameters[0][:, 1] = 50.0  # all but sure of what is forbidden
    assert dict(policy.draw(rng)) != {"a": "y", "b": "y"}


def test_tokens_come_back():
    space = SearchSpace(
        ConfigurationSpace(
            space=[
                Float("rate", (1e-4, 1.0), log=True),
                Float("share", (-1.0, 1.0)),
                IntegerRange("few", (2, 5)),
                IntegerRange("many", (1, 1000), log=True),
            ]
        )
    )
    tokens, rng = Tokens(space, bins=4), np.random.default_rng(0)
    assert dict(zip(space.decisions, tokens.sizes.tolist(), strict=True)) == {
        "rate": 4, "share": 4, "few": 4, "many": 4,
    }  # fmt: skip
    architecture = Architecture({"rate": 2e-4, "share": 0.1, "few": 3, "many": 1000})
    row = tokens.row(architecture)
    named = dict(zip(space.decisions, row.tolist(), strict=True))
    assert named == {"rate": 0, "share": 2, "few": 1, "many": 3}
    for position, decision in enumerate(tokens.decisions):
        values = [tokens.choice(position, row[position], rng) for _ in range(200)]
        assert all(decision.allows(value) for value in values)
        assert {tokens.token(position, value) for value in values} == {row[position]}


def test_inactive_decisions_have_no_token():
    space = conditional_space()
    architecture = space.complete({"depth": 1, "0/op": "skip"})
    row = dict(zip(space.decisions, Tokens(space).row(architecture).tolist(), strict=True))
    assert {label for label, token in row.items() if token != INACTIVE} == {"depth", "0/op"}


def test_recurrent_policy_learns_that_two_choices_agree():
    """It reads its own choices, so it can prefer pairs; a table cannot."""
    space = toy_space()
    policy = recurrent(space)
    adam = Adam(policy.parameters, 0.05)
    rng = np.random.default_rng(0)
    for _ in range(150):
        rows = np.stack([policy.tokens.row(policy.draw(rng)) for _ in range(16)])
        rewards = (rows[:, 0] == rows[:, 1]).astype(float)
        adam.step(policy.gradients(policy.read(rows), (rewards.mean() - rewards) / 16))
    drawn = [policy.draw(rng) for _ in range(200)]
    assert np.mean([a["op0"] == a["op1"] for a in drawn]) > 0.9


@pytest.mark.parametrize(
    ("bounds", "log"), [((1, 11), False), ((1, 12), False), ((1, 20), True), ((3, 10**9), True)]
)
def test_whole_numbers_come_back_as_the_token_they_were_drawn_for(bounds, log):
    space = SearchSpace(ConfigurationSpace(space=[IntegerRange("n", bounds, log=log)]))
    tokens, rng = Tokens(space), np.random.default_rng(0)
    assert 1 < tokens.sizes[0] <= 10
    for token in range(tokens.sizes[0]):
        values = [tokens.choice(0, token, rng) for _ in range(50)]
        assert {tokens.token(0, value) for value in values} == {token}
        assert all(isinstance(value, int) and bounds[0] <= value <= bounds[1] for value in values)
    assert tokens.token(0, bounds[0]) == 0
    assert tokens.token(0, bounds[1]) == tokens.sizes[0] - 1
