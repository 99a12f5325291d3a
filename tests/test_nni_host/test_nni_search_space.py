import json

import nni
import numpy as np
import pytest
from ConfigSpace import (
    AndConjunction,
    ConfigurationSpace,
    EqualsCondition,
    ForbiddenEqualsClause,
    GreaterThanCondition,
    InCondition,
    OrConjunction,
)
from ConfigSpace.hyperparameters import (
    BetaFloatHyperparameter,
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nni.algorithms.hpo.random_tuner import suggest
from nni.common.hpo_utils import deformat_parameters, format_search_space
from torch import nn

from nas_plugins import ArchitectureError, SearchSpace, UnsupportedSpaceError
from nas_plugins.nni import architecture_of, from_nni, parameters_of, to_nni

# Characters that the comment stripper of NNI's JSON reader looks for are among them.
NAMES = st.text("ab/#<-. é", min_size=1, max_size=4)
SCALARS = st.one_of(
    st.lists(NAMES, min_size=2, max_size=4, unique=True),
    st.just([False, True]),
    st.lists(st.integers(-9, 9), min_size=2, max_size=4, unique=True),
    st.lists(st.sampled_from([0.0, 0.25, 1.0, 1e-5]), min_size=2, max_size=3, unique=True),
)


@st.composite
def hyperparameters(draw, label):
    kind = draw(st.sampled_from(["categorical"] * 3 + ["ordinal", "int", "float", "constant"]))
    log = draw(st.booleans())
    if kind == "categorical":
        return CategoricalHyperparameter(label, draw(SCALARS))
    if kind == "ordinal":
        return OrdinalHyperparameter(label, draw(SCALARS))
    if kind == "int":
        low = draw(st.integers(1, 4))
        return UniformIntegerHyperparameter(label, low, low + draw(st.integers(1, 6)), log=log)
    if kind == "float":
        return UniformFloatHyperparameter(label, 1e-4, draw(st.floats(0.01, 10)), log=log)
    return Constant(label, draw(st.one_of(NAMES, st.integers(0, 3))))


@st.composite
def literals(draw, child, parent):
    if isinstance(parent, Constant):
        return EqualsCondition(child, parent, parent.value)
    if isinstance(parent, (UniformFloatHyperparameter, UniformIntegerHyperparameter)):
        return GreaterThanCondition(child, parent, parent.lower)
    choices = getattr(parent, "choices", None) or parent.sequence
    some = draw(st.lists(st.sampled_from(list(choices)), min_size=1, max_size=3, unique=True))
    if len(some) == 1:
        return EqualsCondition(child, parent, some[0])
    return InCondition(child, parent, some)


@st.composite
def conditional_spaces(draw):
    """Chains, trees, shared labels (or), conjunctions, integer and constant parents."""
    space = ConfigurationSpace()
    for i in range(draw(st.integers(1, 7))):
        earlier = list(space.values())
        child = draw(hyperparameters(f"{i}{draw(NAMES)}"))
        space.add(child)
        parents = draw(st.sets(st.integers(0, i - 1), max_size=3)) if earlier else ()
        parts = [draw(literals(child, earlier[j])) for j in parents]
        if len(parts) == 3:
            space.add(OrConjunction(parts[0], AndConjunction(parts[1], parts[2])))
        elif len(parts) == 2:
            space.add(draw(st.sampled_from([AndConjunction, OrConjunction]))(*parts))
        elif parts:
            space.add(parts[0])
    return SearchSpace(space)


PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PROPERTY
@given(conditional_spaces(), st.integers(0, 2**32 - 1))
def test_round_trip_of_any_space_and_architecture_through_nnis_own_json(space, seed):
    search_space = nni.load(json.dumps(to_nni(space)))
    again = from_nni(search_space)
    assert again.config_space == space.config_space
    assert list(again.decisions) == list(space.decisions)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        architecture = space.sample(rng)
        received = nni.load(nni.dump(parameters_of(space, architecture)))
        assert architecture_of(again, received).to_json() == architecture.to_json()


@PROPERTY
@given(conditional_spaces(), st.integers(0, 2**32 - 1))
def test_whatever_a_tuner_of_nni_picks_is_an_architecture(space, seed):
    formatted = format_search_space(to_nni(space))
    rng = np.random.default_rng(seed)
    for _ in range(5):
        picked = deformat_parameters(suggest(rng, formatted), formatted)
        architecture = architecture_of(space, nni.load(nni.dump(picked)))
        assert architecture in space


def test_nothing_is_nested_twice_which_nnis_own_tuners_fail_at():
    space = ConfigurationSpace({"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "y"]})
    space.add(EqualsCondition(space["b"], space["a"], "x"))
    space.add(EqualsCondition(space["c"], space["b"], "x"))
    space = SearchSpace(space)
    search_space = to_nni(space)
    assert set(search_space) == {"a", "c"}
    assert "b" in search_space["a"]["_value"][0]
    formatted, rng = format_search_space(search_space), np.random.default_rng(0)
    picked = [deformat_parameters(suggest(rng, formatted), formatted) for _ in range(20)]
    assert {len(architecture_of(space, p)) for p in picked} == {1, 2, 3}


def test_a_users_own_nesting_is_kept_however_deep():
    inner = {"_name": "x", "c": {"_type": "choice", "_value": [1, 2]}}
    outer = {"_name": "x", "b": {"_type": "choice", "_value": [inner, {"_name": "y"}]}}
    space = from_nni({"a": {"_type": "choice", "_value": [outer, {"_name": "y"}]}})
    parameters = {"a": {"_name": "x", "b": {"_name": "x", "c": 2}}}
    assert parameters_of(space, {"a": "x", "b": "x", "c": 2}) == parameters
    assert dict(architecture_of(space, parameters)) == {"a": "x", "b": "x", "c": 2}


def test_a_tree_is_nested_and_a_shared_label_is_written_once():
    space = ConfigurationSpace({"op": ["conv", "pool", "none"], "depth": (1, 3), "kernel": [3, 5]})
    space.add(OrdinalHyperparameter("width", [8, 16]), UniformIntegerHyperparameter("block", 0, 4))
    space.add(EqualsCondition(space["width"], space["op"], "conv"))
    space.add(InCondition(space["kernel"], space["op"], ["conv", "pool"]))
    space.add(GreaterThanCondition(space["block"], space["depth"], 1))
    space = SearchSpace(space)
    search_space = to_nni(space)
    assert search_space["op"]["_value"] == [
        {"_name": "conv", "width": {"_type": "choice", "_value": [8, 16]}},
        {"_name": "pool"},
        {"_name": "none"},
    ]
    assert search_space["kernel"]["_value"] == [3, 5]
    assert search_space["block"] == {"_type": "randint", "_value": [0, 5]}
    assert set(search_space) == {"op", "kernel", "depth", "block"}
    parameters = {"op": {"_name": "none"}, "depth": 1, "kernel": 3, "block": 2}
    assert dict(architecture_of(space, parameters)) == {"op": "none", "depth": 1}


class NestedNet(nn.Module):
    def __init__(self, choose):
        super().__init__()
        self.ops = nn.ModuleList(
            choose.layer(
                f"op{i}",
                {
                    "plain": nn.Identity,
                    "nested": lambda: choose.layer("inner", {"a": nn.Identity, "b": nn.ReLU}),
                },
            )
            for i in range(2)
        )
        self.merge = choose.inputs(
            "edges", dict.fromkeys(("x", "y", "z"), nn.Identity), num_chosen=2
        )
        self.blocks = choose.repeat(
            "depth", lambda i: choose.layer(f"block{i}", {"a": nn.Identity, "b": nn.ReLU}), (1, 3)
        )


def test_every_architecture_of_a_network_with_nested_shared_and_repeated_choices_survives():
    space = SearchSpace.from_network(NestedNet)
    again = from_nni(json.loads(json.dumps(to_nni(space))))
    found = {architecture_of(again, parameters_of(space, a)) for a in space.enumerate()}
    assert len(found) == space.size > 100


def test_a_users_own_search_space_with_a_key_in_two_branches():
    own = {
        "layer": {
            "_type": "choice",
            "_value": [
                {"_name": "Empty"},
                {"_name": "Conv", "k": {"_type": "choice", "_value": [1, 3]}},
                {
                    "_name": "Pool",
                    "k": {"_type": "randint", "_value": [2, 4]},
                    "n": {"_type": "quniform", "_value": [16, 64, 16]},
                },
            ],
        },
        "lr": {"_type": "loguniform", "_value": [0.001, 0.1]},
        "units": {"_type": "qloguniform", "_value": [1, 64, 1]},
        "p": {"_type": "quniform", "_value": [0.1, 0.5, 0.1]},
    }
    space = from_nni(own)
    assert set(space.decisions) == {
        "layer",
        "layer/Conv/k",
        "layer/Pool/k",
        "n",
        "lr",
        "units",
        "p",
    }
    assert from_nni(to_nni(space)).config_space == space.config_space
    formatted = format_search_space(own)
    rng = np.random.default_rng(0)
    for _ in range(200):
        picked = deformat_parameters(suggest(rng, formatted), formatted)
        architecture = architecture_of(space, picked)
        back = parameters_of(space, architecture)
        assert back.keys() == picked.keys()
        assert back["layer"] == picked["layer"]
        assert back["p"] == pytest.approx(picked["p"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"_type": "normal", "_value": [0, 1]}, "'x' has type 'normal'"),
        ({"_type": "choice", "_value": [[1, 2], [3]]}, "'x' has \\[1, 2\\]"),
        ({"_type": "choice", "_value": [{"a": 1}]}, "'x' has .* '_name'"),
        ({"_type": "choice", "_value": [1, 1]}, "'x'"),
        ({"_type": "uniform", "_value": [1]}, "'x' of type 'uniform' has \\[1\\]; expected 2"),
        ({"_type": "uniform", "_value": [2, 1]}, "'x'"),
        ({"_type": "qloguniform", "_value": [1, 64, 8]}, "'x' takes steps of 8"),
        ({"_type": "quniform", "_value": [0, 1, 0]}, "'x' takes steps of 0 .* positive"),
        ({"_type": "quniform", "_value": [0, 1, -1]}, "'x' takes steps of -1 .* positive"),
        ({"_type": "quniform", "_value": [5, 1, 2]}, "'x' takes .* from 5 to 1; .* lower bound"),
        ({"_type": "quniform", "_value": [0, 1, 1e-320]}, "'x' takes .* at most 1000 steps"),
        ({"_type": None, "_value": [1]}, "'_type' of 'x' is None; expected a string"),
        ({"_type": ["choice"], "_value": [1]}, "'_type' of 'x' is \\['choice'\\]"),
        ({"_value": [1]}, "'x' is .* '_type'"),
        ([1, 2], "'x' is \\[1, 2\\]"),
    ],
)
def test_what_has_no_bounded_equivalent_is_refused_by_name(entry, message):
    with pytest.raises(UnsupportedSpaceError, match=message):
        from_nni({"x": entry})


@pytest.mark.parametrize("search_space", [{}, [], None])
def test_no_search_space_at_all(search_space):
    with pytest.raises(UnsupportedSpaceError, match="expected a JSON object"):
        from_nni(search_space)


@pytest.mark.parametrize(
    ("config_space", "label"),
    [
        ({"_name": ["a", "b"]}, "'_name'"),
        ({'a"b': ["a", "b"]}, "'a\"b'"),
        ({"op": ["a", "\\"]}, "'op'"),
        ({"seed": [1, 2**60]}, "'seed'"),
    ],
)
def test_what_nni_would_change_on_the_way_is_refused_by_name(config_space, label):
    with pytest.raises(UnsupportedSpaceError, match=f"decision {label}"):
        to_nni(SearchSpace(ConfigurationSpace(config_space)))


def test_priors_and_forbidden_clauses_survive():
    config_space = ConfigurationSpace({"op": ["a", "b"], "n": (1, 9)})
    config_space.add(BetaFloatHyperparameter("momentum", alpha=2, beta=3, lower=0, upper=1))
    config_space.add(CategoricalHyperparameter("w", ["x", "y"], weights=[1, 3]))
    config_space.add(ForbiddenEqualsClause(config_space["op"], "b"))
    space = SearchSpace(config_space)
    assert from_nni(to_nni(space)).config_space == config_space
    forbidden = {"op": "b", "n": 1, "momentum": 0.5, "w": "x"}
    with pytest.raises(ArchitectureError, match="forbidden"):
        architecture_of(space, forbidden)


def test_an_edited_search_space_is_noticed():
    search_space = to_nni(SearchSpace(ConfigurationSpace({"op": ["a", "b"], "n": (1, 9)})))
    search_space["n"]["_value"] = [1, 100]
    with pytest.raises(UnsupportedSpaceError, match="entry 'n' .* generate the file again"):
        from_nni(search_space)
    for entry in search_space.values():
        entry.pop("_configspace", None)
    assert from_nni(search_space).decisions["n"].high == 99


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"op": "conv", "n": 3}, "lacks a choice at 'k'"),
        ({"op": "conv", "n": 3, "z": 1}, "parameters have 'z'"),
        ({"op": {"_name": "conv", "z": 1}, "n": 3}, "'z' inside 'conv' of 'op'"),
        ({"op": {"_name": "x"}, "n": 3}, "choice 'x' at 'op'"),
        ({"op": {"_name": "pool"}, "n": 3.5}, "choice 3.5 at 'n'"),
        ({"op": {"k": 1}, "n": 3}, "lacks '_name'"),
        (None, "expected a JSON object"),
    ],
)
def test_parameters_of_another_space_name_the_decision(parameters, message):
    config_space = ConfigurationSpace({"op": ["conv", "pool"], "k": [1, 3], "n": (1, 9)})
    config_space.add(EqualsCondition(config_space["k"], config_space["op"], "conv"))
    with pytest.raises(ArchitectureError, match=message):
        architecture_of(SearchSpace(config_space), parameters)
