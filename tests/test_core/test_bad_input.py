"""Bad input: each message says what was wrong, where, and what to do about it."""

import math

import pytest
import torch
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition
from torch import nn

from nas_plugins import (
    Architecture,
    ArchitectureError,
    CandidateError,
    NasPluginsError,
    ScoreError,
    SearchSpace,
    UnsupportedSpaceError,
)
from nas_plugins.spaces import REGISTRY as SPACES
from nas_plugins.spaces import SpaceNameError, load
from nas_plugins.strategies import REGISTRY as STRATEGIES
from nas_plugins.strategies import StrategyNameError, create


def space_of(ask):
    """A space whose network asks what ``ask(choose)`` asks."""

    class Net(nn.Module):
        def __init__(self, choose):
            super().__init__()
            self.body = ask(choose)

    return SearchSpace.from_network(Net)


def two_operations(label="op"):
    return lambda choose: choose.layer(label, {"conv": nn.Identity, "pool": nn.ReLU})


@pytest.fixture
def space():
    config_space = ConfigurationSpace()
    op = Categorical("op", ["conv", "pool"])
    kernel = Categorical("kernel", [3, 5])
    config_space.add(op, kernel)
    config_space.add(EqualsCondition(kernel, op, "conv"))
    return SearchSpace(config_space, name="mine")


# -- architectures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"op": "pool", "colour": "red"}', ["'colour'", "'mine'", "'op'", "another space?"]),
        ('{"op": "lstm"}', ["'lstm'", "'op'", "'mine'", "one of 'conv', 'pool'"]),
        ('{"op": "conv"}', ["lacks a choice at 'kernel'", "one of 3, 5"]),
        ('{"op": "conv", "kernel": 4}', ["choice 4 at 'kernel'", "one of 3, 5"]),
        ('{"op": "conv", "kernel": "3"}', ["choice '3' at 'kernel'", "one of 3, 5"]),
        ('{"op": "pool", "kernel": 3}', ["'kernel'", "inactive", "'op' is 'conv'", "remove it"]),
    ],
)
def test_architecture_that_is_not_of_the_space(space, text, words):
    architecture = Architecture.from_json(text)
    with pytest.raises(ArchitectureError) as caught:
        space.validate(architecture)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not valid JSON", '{"label": "choice"']),
        ('["conv"]', ["holds a list", "expected an object"]),
        ('{"op": null}', ["'op'", "None", "expected a string, a number or a boolean"]),
        ('{"op": {"conv": 3}}', ["'op'", "type dict"]),
        ('{"rate": Infinity}', ["'rate'", "inf", "finite number"]),
    ],
)
def test_architecture_json_that_is_none(text, words, tmp_path):
    for source in (text, tmp_path / "architecture.json"):
        if source is not text:
            source.write_text(text)
        with pytest.raises(ArchitectureError) as caught:
            Architecture.from_json(source)
        for word in words:
            assert word in str(caught.value)
        if source is not text and not text.startswith("{"):
            assert "architecture.json" in str(caught.value)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_architecture_of_another_space(name):
    other = Architecture({"somewhere/else": "conv"})
    target = load(name)
    for use in (target.validate, target.build):
        with pytest.raises(ArchitectureError, match=r"'somewhere/else'.*found in another space\?"):
            use(other)


def test_supernet_refuses_what_it_has_no_path_for():
    supernet = space_of(two_operations()).supernet()
    for use in (supernet.set_path, supernet.path_state_dict, supernet.child):
        with pytest.raises(ArchitectureError, match="'lstm' at 'op'.*one of 'conv', 'pool'"):
            use({"op": "lstm"})


def test_network_that_asks_after_looking_at_a_value():
    """Plain Python on a value hides decisions from recording: building says so."""

    def ask(choose):
        depth = choose.value("depth", [1, 2])
        return nn.Sequential(*(two_operations(f"op{i}")(choose) for i in range(depth)))

    with pytest.raises(ArchitectureError, match=r"asks for 'op1'.*use repeat or layer"):
        space_of(ask).build({"depth": 2, "op0": "conv"})


# -- definitions ---------------------------------------------------------------------------


def bad_factory():
    raise ZeroDivisionError("no channels left")


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (
            lambda c: nn.Sequential(
                two_operations()(c), c.layer("op", {"conv": nn.Identity, "skip": nn.Identity})
            ),
            UnsupportedSpaceError,
            ["'op'", "two different decisions", "pool", "skip", "rename one"],
        ),
        (
            lambda c: nn.Sequential(
                two_operations()(c), c.repeat("op", lambda i: nn.ReLU(), (1, 2))
            ),
            UnsupportedSpaceError,
            ["'op'", "two different decisions", "rename one"],
        ),
        (
            lambda c: c.layer("op", {"a": nn.Identity, "b": bad_factory}),
            CandidateError,
            ["candidate 'b' of 'op'", "ZeroDivisionError", "no channels left"],
        ),
        (
            lambda c: c.layer("op", {}),
            UnsupportedSpaceError,
            ["'op' has no candidates", "at least one"],
        ),
        (
            lambda c: c.layer("op", {"a": nn.Identity()}),
            UnsupportedSpaceError,
            ["candidate 'a' of 'op'", "Identity", "expected a factory", "lambda: ..."],
        ),
        (
            lambda c: c.layer("op", {"a": lambda: "conv"}),
            CandidateError,
            ["candidate 'a' of 'op'", "built a str", "torch.nn.Module"],
        ),
        (
            lambda c: c.layer("op", {"a.b": nn.Identity}),
            UnsupportedSpaceError,
            ["'op'", "a.b", "without '.'", "state-dict key"],
        ),
        (
            lambda c: c.layer("op", {"conv": lambda: two_operations()(c), "pool": nn.ReLU}),
            UnsupportedSpaceError,
            ["'op' is asked inside its own candidate"],
        ),
        (
            lambda c: c.inputs("from", 2, num_chosen=3),
            UnsupportedSpaceError,
            ["num_chosen of 'from' is 3", "1 to 2", "None for any subset"],
        ),
        (
            lambda c: c.inputs("from", 30, num_chosen=15),
            UnsupportedSpaceError,
            ["'from'", "combinations of 15 out of 30", "num_chosen=None"],
        ),
        (
            lambda c: c.inputs("from", 2, num_chosen=None, required=["5"]),
            UnsupportedSpaceError,
            ["required=['5'] of 'from'", "['0', '1']"],
        ),
        (
            lambda c: c.inputs("from", 2, merge="concat"),
            UnsupportedSpaceError,
            ["merge of 'from' is 'concat'", "sum or mean"],
        ),
        (
            lambda c: c.repeat("depth", lambda i: nn.ReLU(), (3, 1)),
            UnsupportedSpaceError,
            ["depth of 'depth' is (3, 1)", "(fewest, most)"],
        ),
        (
            lambda c: c.repeat("depth", lambda i: bad_factory(), (1, 2)),
            CandidateError,
            ["candidate '0' of 'depth'", "no channels left"],
        ),
        (
            lambda c: c.repeat("depth", lambda i: nn.ReLU(), (1, 2), head=lambda d: bad_factory()),
            CandidateError,
            ["'head of 1' of 'depth'", "no channels left"],
        ),
        (
            lambda c: nn.Dropout(c.value("rate")),
            UnsupportedSpaceError,
            ["value 'rate'", "choices=[...]", "low= and high="],
        ),
        (
            lambda c: nn.Dropout(c.value("rate", [])),
            UnsupportedSpaceError,
            ["value 'rate' has no choices"],
        ),
        (
            lambda c: nn.Dropout(c.value("rate", [0.1, [0.2]])),
            UnsupportedSpaceError,
            ["[0.2]", "list", "name the choices"],
        ),
        (lambda c: c.layer("", {"a": nn.ReLU}), UnsupportedSpaceError, ["label is ''"]),
    ],
)
def test_definition_that_cannot_be_searched(ask, error, words):
    with pytest.raises(error) as caught:
        space_of(ask)
    assert isinstance(caught.value, NasPluginsError)
    for word in words:
        assert word in str(caught.value)


def test_candidate_that_fails_keeps_its_cause():
    with pytest.raises(CandidateError) as caught:
        space_of(lambda c: c.layer("op", {"a": bad_factory}))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_value_that_is_not_fixed_in_a_supernet():
    space = space_of(lambda c: nn.Linear(c.value("width", [8, 16]), 2))
    with pytest.raises(UnsupportedSpaceError, match=r"'width'.*supernet\(fixed={'width': \.\.\.}"):
        space.supernet()
    with pytest.raises(ArchitectureError, match=r"fixed\['width'\] = 12 is no choice"):
        space.supernet(fixed={"width": 12})
    with pytest.raises(ArchitectureError, match=r"fixed\['height'\] = 8 is no choice"):
        space.supernet(fixed={"width": 8, "height": 8})
    assert space.supernet(fixed={"width": 8}).network.body.weight.shape == (2, 8)


def test_weights_of_another_architecture():
    space = space_of(
        lambda c: c.layer("op", {"a": lambda: nn.Linear(2, 2), "b": lambda: nn.BatchNorm1d(2)})
    )
    supernet, other = space.supernet(), space.build({"op": "b"})
    with pytest.raises(ArchitectureError, match=r"3 keys.*\['body\.num_batches_tracked'"):
        supernet.load_path_state_dict({"op": "a"}, other.state_dict())


# -- scores and names ----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, torch.tensor(math.nan)])
def test_score_that_is_no_finite_number(space, name, score):
    strategy = create(name, space)
    architecture = strategy.ask()
    with pytest.raises(ScoreError) as caught:
        strategy.tell(architecture, score)
    for word in (architecture.id, "expected finite numbers", "as None"):
        assert word in str(caught.value)
    assert strategy.num_told == 0


def test_names_that_do_not_exist(space, tmp_path):
    with pytest.raises(SpaceNameError, match=r"'darst'.*'chain', 'darts'.*package\.module:call"):
        load("darst")
    with pytest.raises(SpaceNameError, match="'darts' has no option 'colour'.*'channels'"):
        load("darts", colour="red")
    with pytest.raises(SpaceNameError, match=r"no file .*gone\.py"):
        load(f"{tmp_path / 'gone.py'}:space")
    with pytest.raises(StrategyNameError, match=r"'evolution'.*'regularized_evolution'"):
        create("evolution", space)
    with pytest.raises(StrategyNameError, match="'random' has no option 'population'"):
        create("random", space, population=3)


def test_a_space_that_is_joined_twice(space):
    with pytest.raises(UnsupportedSpaceError, match=r"both have \['kernel', 'op'\].*rename"):
        space.join(space)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda c: c.repeat("d", lambda i: nn.Identity(), 3), "depth of 'd' is 3"),
        (lambda c: c.repeat("d", lambda i: nn.Identity(), "ab"), "depth of 'd' is 'ab'"),
        (lambda c: c.repeat("d", lambda i: nn.Identity(), (1.5, 3)), "depth of 'd'"),
        (lambda c: c.value("v", low=2, high=1), r"range \[2, 1\]; expected low < high"),
        (lambda c: c.value("v", low=0, high=1, log=True), "above 0 on a log scale"),
        (lambda c: c.value("v", [1], low=3), "either choices=.* or both low= and high="),
    ],
)
def test_arguments_of_the_verbs(ask, words):
    class Net(nn.Module):
        def __init__(self, choose):
            super().__init__()
            ask(choose)

    with pytest.raises(UnsupportedSpaceError, match=words):
        SearchSpace.from_network(Net)


def test_a_network_that_asks_nothing_is_named():
    class Forgotten(nn.Module):
        def __init__(self, channels=4):
            super().__init__()

    with pytest.raises(UnsupportedSpaceError, match=r"'Forgotten' asked for no choice; expected"):
        SearchSpace.from_network(Forgotten)
