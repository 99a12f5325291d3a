"""Spaces: membership, moves, size, and agreement with ConfigSpace."""

import math
import pickle

import numpy as np
import pytest
from ConfigSpace import (
    AndConjunction,
    BetaFloatHyperparameter,
    Categorical,
    Configuration,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    ForbiddenInClause,
    GreaterThanCondition,
    InCondition,
    Integer,
    LessThanCondition,
    NormalFloatHyperparameter,
    NotEqualsCondition,
    OrConjunction,
    OrdinalHyperparameter,
)

from nas_plugins import Architecture, ArchitectureError, SearchSpace, UnsupportedSpaceError
from nas_plugins.testing.strategies import conditional_space


def every_kind():
    """A space with every kind of hyper-parameter, condition and clause."""
    space = ConfigurationSpace()
    op = Categorical("op", ["conv", "pool", "skip"], weights=[0.5, 0.25, 0.25])
    depth = Integer("depth", (1, 4))
    size = OrdinalHyperparameter("size", [16, 32, 64])
    rate = Float("rate", (1e-4, 1e-1), log=True)
    width = Integer("width", (8, 512), log=True)
    noise = NormalFloatHyperparameter("noise", mu=0.0, sigma=1.0, lower=-2.0, upper=2.0)
    keep = BetaFloatHyperparameter("keep", alpha=2, beta=3, lower=0.0, upper=1.0)
    flag = Categorical("flag", [True, False])
    kernel = Categorical("kernel", [3, 5, 7])
    space.add(op, depth, size, rate, width, noise, keep, flag, kernel)
    space.add(
        AndConjunction(NotEqualsCondition(width, op, "skip"), GreaterThanCondition(width, depth, 2))
    )
    space.add(
        OrConjunction(EqualsCondition(kernel, op, "conv"), LessThanCondition(kernel, size, 64))
    )
    space.add(
        ForbiddenAndConjunction(ForbiddenEqualsClause(op, "pool"), ForbiddenEqualsClause(depth, 4))
    )
    return SearchSpace(space, name="every_kind")


def test_samples_are_legal_for_configspace_and_back():
    space, rng = every_kind(), np.random.default_rng(0)
    for _ in range(300):
        architecture = space.sample(rng)
        configuration = space.config_space
        assert set(Configuration(configuration, values=dict(architecture))) == set(architecture)
    space.config_space.seed(0)
    for configuration in space.config_space.sample_configuration(300):
        assert Architecture(dict(configuration)) in space


def test_priors_are_those_of_configspace():
    space, rng = every_kind(), np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(3000)]
    conv = np.mean([a["op"] == "conv" for a in drawn])
    assert 0.5 < conv < 0.58  # 0.5, raised by the clause that forbids some pooling
    rates = np.log10([a["rate"] for a in drawn])
    assert abs(rates.mean() + 2.5) < 0.06
    widths = np.log2([a["width"] for a in drawn if "width" in a])
    assert abs(widths.mean() - 6) < 0.15
    assert abs(np.mean([a["noise"] for a in drawn])) < 0.06
    assert abs(np.mean([a["keep"] for a in drawn]) - 0.4) < 0.02


def test_mutation_changes_one_decision_and_repairs_the_rest():
    space, rng = conditional_space(), np.random.default_rng(0)
    architecture = space.sample(rng)
    for _ in range(300):
        child = space.mutate(architecture, rng)
        assert child in space
        common = [k for k in child if k in architecture]
        assert sum(child[k] != architecture[k] for k in common) == 1
        architecture = child


@pytest.mark.parametrize("make", [conditional_space, every_kind])
def test_many_mutations_are_as_many_calls(make):
    space, rng, twin = make(), np.random.default_rng(0), np.random.default_rng(0)
    architecture = space.default()
    at_once = space.mutate(architecture, twin, times=200)
    for _ in range(200):
        architecture = space.mutate(architecture, rng)
    assert at_once == architecture
    assert at_once in space


def test_mutation_picks_decisions_by_the_odds():
    space, rng = conditional_space(), np.random.default_rng(0)
    architecture = space.default()
    for _ in range(50):
        child = space.mutate(
            architecture, rng, odds=lambda labels: [label == "depth" for label in labels]
        )
        assert child["depth"] != architecture["depth"]
        architecture = child


def test_crossover_takes_from_either_parent():
    space, rng = conditional_space(), np.random.default_rng(0)
    for _ in range(100):
        first, second = space.sample(rng), space.sample(rng)
        child = space.crossover(first, second, rng)
        assert child in space
        for label, choice in child.items():
            parents = [p[label] for p in (first, second) if label in p]
            assert not parents or choice in parents


def test_neighbours_are_all_one_decision_away():
    space = SearchSpace(ConfigurationSpace({"a": ["x", "y", "z"], "b": ["u", "v"]}))
    start = Architecture({"a": "x", "b": "u"})
    assert set(space.neighbours(start)) == {
        Architecture({"a": "y", "b": "u"}),
        Architecture({"a": "z", "b": "u"}),
        Architecture({"a": "x", "b": "v"}),
    }


def test_an_exchanged_choice_is_what_completing_makes_of_it():
    rng = np.random.default_rng(0)
    for space in (conditional_space(), every_kind()):
        for _ in range(100):
            first, second = space.sample(rng), space.sample(rng)
            for label, choice in second.items():
                try:
                    expected = space.complete({**first, label: choice})
                except ArchitectureError:  # forbidden
                    with pytest.raises(ArchitectureError, match="forbidden"):
                        space.exchange(first, label, choice)
                else:
                    assert space.exchange(first, label, choice) == expected
    space = SearchSpace(ConfigurationSpace({"a": ["x", "y"], "n": (1, 3)}))
    assert space.exchange(space.default(), "n", 3.0) == Architecture({"a": "x", "n": 3})
    with pytest.raises(ArchitectureError, match="'z' at 'a'"):
        space.exchange(space.default(), "a", "z")


def test_size_counts_conditions_and_clauses():
    assert conditional_space().size == math.inf
    finite = ConfigurationSpace({"a": ["x", "y"], "n": (1, 3)})
    assert SearchSpace(finite).size == 6
    a, n = finite["a"], finite["n"]
    finite.add(ForbiddenAndConjunction(ForbiddenEqualsClause(a, "y"), ForbiddenEqualsClause(n, 1)))
    assert SearchSpace(finite).size == 5 == len(list(SearchSpace(finite).enumerate()))


def test_size_of_a_deep_conditional_space_is_exact_and_quick():
    """A chain of 30 layers, each with an operation and its kernel: (3 + 2)^d summed."""
    space = ConfigurationSpace()
    depth = Integer("depth", (1, 30))
    space.add(depth)
    for i in range(30):
        operation = Categorical(f"{i}/op", ["conv", "pool", "skip"])
        kernel = Categorical(f"{i}/kernel", [3, 5, 7])
        space.add(operation, kernel)
        if i:
            space.add(GreaterThanCondition(operation, depth, i))
        space.add(EqualsCondition(kernel, operation, "conv"))
    assert SearchSpace(space).size == sum(5**d for d in range(1, 31))


def test_encoding_has_one_length_and_tells_architectures_apart():
    space, rng = conditional_space(), np.random.default_rng(0)
    architectures = {space.sample(rng) for _ in range(100)}
    vectors = {tuple(space.encode(a)) for a in architectures}
    assert len({len(v) for v in vectors}) == 1
    assert len(vectors) == len(architectures)
    assert min(map(min, vectors)) >= 0
    assert max(map(max, vectors)) <= 1


def test_json_keeps_decisions_order_and_meaning_of_a_seed():
    for space in (every_kind(), conditional_space()):
        again = SearchSpace.from_json(space.to_json())
        assert list(again.decisions) == list(space.decisions)
        ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
        assert [space.sample(ours) for _ in range(20)] == [again.sample(theirs) for _ in range(20)]


def test_join_puts_two_spaces_into_one():
    space = conditional_space().join(ConfigurationSpace({"train/rate": (0.01, 0.1)}))
    architecture = space.sample(np.random.default_rng(0))
    assert "train/rate" in architecture
    assert "depth" in architecture
    with pytest.raises(UnsupportedSpaceError, match=r"both have \['depth'\]"):
        space.join(ConfigurationSpace({"depth": (1, 2)}))


def test_join_keeps_the_canonical_form():
    plain = SearchSpace(
        ConfigurationSpace({"a": ["x", "y"], "b": ["x", "y"]}),
        canonical=lambda a: tuple(sorted(a.values())),
    )
    joint = plain.join(ConfigurationSpace({"rate": [1, 2]}))
    first = Architecture({"a": "x", "b": "y", "rate": 1})
    assert joint.canonical(first) == joint.canonical(first.replace(a="y", b="x"))
    assert joint.canonical(first) != joint.canonical(first.replace(rate=2))


def test_spaces_are_picklable_joined_ones_too():
    plain = SearchSpace(ConfigurationSpace({"a": ["x", "y"]}), canonical=str)
    joint = plain.join(ConfigurationSpace({"rate": [1, 2]}))
    again = pickle.loads(pickle.dumps(joint))
    architecture = again.sample(np.random.default_rng(0))
    assert again.canonical(architecture) == joint.canonical(architecture)


def test_choices_are_returned_in_the_spaces_own_types():
    space = SearchSpace(ConfigurationSpace({"w": [4, 8], "n": (1, 3), "r": (0.0, 1.0)}))
    valid = space.validate({"w": 4.0, "n": 2.0, "r": 1})
    assert [type(valid[k]) for k in "wnr"] == [int, int, float]
    with pytest.raises(ArchitectureError, match="True at 'n'"):
        space.validate({"w": 4, "n": True, "r": 0.5})


def test_json_of_something_else_is_refused():
    for text in ("nope", "{}", "[]"):
        with pytest.raises(UnsupportedSpaceError, match="not a space's JSON"):
            SearchSpace.from_json(text)


def test_complete_reads_an_architecture_of_a_smaller_space():
    space = conditional_space()
    full = space.complete({"depth": 1, "0/op": "skip", "gone": 3})
    assert full == Architecture({"depth": 1, "0/op": "skip"})


def test_choices_at_inactive_decisions_are_dropped_and_others_named():
    space = conditional_space()
    given = {"depth": 1, "0/op": "skip", "2/kernel": 3}
    assert space.without_inactive(given) == Architecture({"depth": 1, "0/op": "skip"})
    with pytest.raises(ArchitectureError, match="label 'elsewhere'"):
        space.without_inactive({**given, "elsewhere": 1})
    with pytest.raises(ArchitectureError, match="lacks a choice at '0/op'"):
        space.without_inactive({"depth": 1})


def test_a_space_without_network_builds_nothing():
    with pytest.raises(UnsupportedSpaceError, match="has no network.*from_network"):
        conditional_space().build(conditional_space().default())


def test_enumerating_a_real_valued_space_is_refused():
    with pytest.raises(UnsupportedSpaceError, match="'0/dropout' is real-valued"):
        next(conditional_space().enumerate())


def test_clauses_that_forbid_everything_are_reported():
    space = ConfigurationSpace({"a": ["x", "y"], "b": ["u", "v"]})
    for choice in ("x", "y"):
        for other in ("u", "v"):
            clause = ForbiddenAndConjunction(
                ForbiddenEqualsClause(space["a"], choice), ForbiddenEqualsClause(space["b"], other)
            )
            try:
                space.add(clause)
            except ValueError:  # ConfigSpace itself refuses to forbid the default
                return
    with pytest.raises(UnsupportedSpaceError, match="forbidden clauses"):
        SearchSpace(space).sample(np.random.default_rng(0))


def test_recall_reads_what_was_found_before_the_space_grew():
    space = SearchSpace(ConfigurationSpace({"op": ["conv", "pool", "skip"], "new": ["no", "yes"]}))
    assert space.recall({"op": "pool"}) == Architecture({"op": "pool", "new": "no"})
    today = Architecture({"op": "skip", "new": "yes"})
    assert space.recall(today) is today
    for foreign in ({}, {"op": "gone"}, {"op": "pool", "other": 1}):
        with pytest.raises(ArchitectureError):
            space.recall(foreign)


def test_a_long_range_in_a_condition_is_counted_by_its_parts():
    config_space = ConfigurationSpace({"n": (1, 10**9), "a": ["x", "y"], "b": (0, 2)})
    config_space.add(GreaterThanCondition(config_space["a"], config_space["n"], 500))
    config_space.add(InCondition(config_space["b"], config_space["n"], [7, 600]))
    assert SearchSpace(config_space).size == (499 + 3) + 2 * (10**9 - 501 + 3)


def test_a_clause_forbids_nothing_else():
    """ConfigSpace takes "inactive is not x" for true; here what is inactive decides nothing."""
    config_space = ConfigurationSpace(
        {
            "optimizer": ["sgd", "adam"],
            "schedule": ["none", "step"],
            "warmup": (1, 5),
            "size": [1, 2],
        }
    )
    config_space.add(
        EqualsCondition(config_space["schedule"], config_space["optimizer"], "sgd"),
        NotEqualsCondition(config_space["warmup"], config_space["schedule"], "none"),
        ForbiddenAndConjunction(
            ForbiddenEqualsClause(config_space["optimizer"], "sgd"),
            ForbiddenEqualsClause(config_space["size"], 2),
        ),
    )
    space = SearchSpace(config_space)
    assert space.size == 2 + 6  # adam with two sizes, sgd with one
    assert Architecture({"optimizer": "adam", "size": 2}) in space
    assert Architecture({"optimizer": "sgd", "schedule": "none", "size": 2}) not in space
    assert len(set(space.enumerate())) == 8


def test_what_a_clause_forbids_early_is_not_enumerated():
    config_space = ConfigurationSpace()
    config_space.add(Categorical("a00", ["x", "y"], default="y"))
    config_space.add([Categorical(f"a{i:02}", ["x", "y"]) for i in range(1, 40)])
    first, second = config_space["a00"], config_space["a01"]
    config_space.add(
        ForbiddenAndConjunction(
            ForbiddenEqualsClause(first, "x"), ForbiddenInClause(second, ["x", "y"])
        )
    )
    assert next(SearchSpace(config_space).enumerate())["a00"] == "y"  # not after 2**39 others
