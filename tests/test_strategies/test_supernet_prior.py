"""Three kinds of help by a prior, each alone; and the prior as data."""

import json

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, Float, ForbiddenEqualsClause

from nas_plugins import Architecture, SearchSpace
from nas_plugins.prior import Prior, PriorError
from nas_plugins.strategies import (
    Deduplicated,
    RegularizedEvolution,
    StrategyNameError,
    SupernetPrior,
)
from nas_plugins.testing.strategies import (
    StrategyContract,
    conditional_space,
    play,
    toy_score,
    toy_space,
)

SMALL = {"population_size": 10, "sample_size": 5}
NONE = {"num_initial": 0, "prior_weight": 0.0, "num_candidates": 1}


def some_prior(space, num=60, seed=0):
    """Scores with an error, and probabilities that prefer each decision's last choice."""
    rng = np.random.default_rng(seed)
    cells = {space.sample(rng) for _ in range(num)}
    cells = sorted(cells, key=lambda cell: cell.id)
    probabilities = {
        label: {choice: 1.0 + 5 * (choice == d.choices[-1]) for choice in d.choices}
        for label, d in space.decisions.items()
        if d.choices
    }
    return Prior([(toy_score(cell) + rng.normal(), cell) for cell in cells], probabilities)


def make(space, seed=0, prior=None, **options):
    options = {"inner_options": SMALL, **NONE, **options}
    return SupernetPrior(space, seed=seed, prior=prior, **options)


@pytest.mark.parametrize(
    "options", [{"num_initial": 5, "prior_weight": 5.0, "num_candidates": 3}], ids=["all"]
)
class TestWithAPrior(StrategyContract):
    @pytest.fixture
    def strategy(self, options):
        def build(space, seed):
            return make(space, seed, some_prior(space), **options)

        return build

    def test_a_grown_space_keeps_its_history(self, strategy):
        """The prior stays that of the smaller space, and speaks of less than all of it."""
        space = toy_space()
        prior = some_prior(space)
        larger = space.join(ConfigurationSpace({"more": ["x", "y"]}))
        resumed = make(larger, 0, prior, num_initial=3)
        history = play(make(space, 0, prior, num_initial=3), 10)
        for observation in history:
            resumed.tell(larger.complete(observation.architecture), observation.score)
        assert resumed.ask() in larger


# -- as the start -------------------------------------------------------------------------


def test_the_best_scored_come_first_and_are_told_to_the_inner_strategy():
    space = toy_space()
    prior = some_prior(space)
    strategy = make(space, prior=prior, num_initial=10)
    asked = [o.architecture for o in play(strategy, 10)]
    assert asked == [architecture for _, architecture in prior.scores[:10]]
    # Of ten told one failed: one more fills the population, and then it is mutated.
    population = {o.architecture for o in strategy.inner._population}
    assert population == {a for i, a in enumerate(asked) if i != 6}
    strategy.tell(strategy.ask(), 1.0)
    child = strategy.ask()
    population = {o.architecture for o in strategy.inner._population}
    assert min(len(set(child.items()) - set(a.items())) for a in population) == 1


def test_fewer_scores_than_wanted():
    space = toy_space()
    prior = some_prior(space, num=3)
    strategy, alone = make(space, prior=prior, num_initial=10), make(space)
    assert [strategy.ask(n) for n in range(3)] == [a for _, a in prior.scores]
    assert [strategy.ask(n) for n in range(3, 9)] == [alone.ask(n) for n in range(3, 9)]


def test_a_rejected_start_is_replaced_from_further_down():
    space = toy_space()
    prior = some_prior(space)
    ranked = [architecture for _, architecture in prior.scores]
    strategy = Deduplicated(make(space, prior=prior, num_initial=4))
    strategy.tell(ranked[1], 0.0)
    assert [strategy.ask(n) for n in range(4)] == [ranked[0], ranked[5], ranked[2], ranked[3]]


# -- as the distribution ------------------------------------------------------------------


def test_share_drawn_from_the_prior_decays_with_its_weight():
    """With all its mass on one architecture, a draw from the prior shows."""
    space = toy_space()
    prior = Prior(probabilities={label: {"c": 1.0} for label in space.decisions})
    marked = Architecture(dict.fromkeys(space.decisions, "c"))
    for weight in (5.0, 50.0):
        share = np.zeros(60)
        for seed in range(40):
            strategy = make(
                space, seed, prior, inner="random", inner_options={}, prior_weight=weight
            )
            share += [strategy.ask(n) == marked for n in range(60)]
        expected = weight / (weight + np.arange(60))
        deviation = np.sqrt((expected * (1 - expected)).sum() * 40)
        assert share[0] == 40
        assert abs(share.sum() - 40 * expected.sum()) < 4 * deviation
        assert share[30:].sum() < share[:30].sum()


def test_what_the_prior_leaves_open_is_drawn_from_the_spaces_own():
    space = toy_space().join(ConfigurationSpace({"rate": Float("rate", (0.1, 1.0))}))
    prior = Prior([(1.0, dict.fromkeys(toy_space().decisions, "a"))], {"op0": {"d": 1, "a": 0}})
    strategy = make(space, prior=prior, num_initial=1, prior_weight=1e12)
    first, *drawn = [strategy.ask(n) for n in range(200)]
    assert {c for label, c in first.items() if label != "rate"} == {"a"}
    assert {a["op0"] for a in drawn} == {"d"}
    assert {a["op1"] for a in drawn} == set("abcd")
    assert len({a["rate"] for a in drawn}) == len(drawn)


def test_a_prior_of_a_conditional_space():
    space = conditional_space()
    prior = Prior(probabilities={"0/op": {"conv": 1}, "0/kernel": {7: 1}})
    strategy = make(space, prior=prior, prior_weight=1e12)
    drawn = [strategy.ask(n) for n in range(50)]
    assert all(a in space and a["0/op"] == "conv" and a["0/kernel"] == 7 for a in drawn)


# -- as the judge -------------------------------------------------------------------------


def test_the_best_of_several_candidates_is_evaluated():
    space = toy_space()
    prior = some_prior(space)
    judged = make(space, prior=prior, inner="random", inner_options={}, num_candidates=4)
    alone = make(space, inner="random", inner_options={})
    for number in range(20):
        candidates = [alone.ask(number, attempt) for attempt in range(4)]
        assert judged.ask(number) == max(candidates, key=judged.worth)
        again = [alone.ask(number, attempt) for attempt in range(4, 8)]
        assert judged.ask(number, 1) == max(again, key=judged.worth)


def test_worth_is_the_score_or_its_estimate():
    def additive(architecture):
        return toy_score(architecture) - 3.0 * (architecture["op0"] == architecture["op1"])

    space, rng = toy_space(), np.random.default_rng(0)
    scored = [space.sample(rng) for _ in range(200)]
    strategy = make(space, prior=Prior([(additive(a), a) for a in scored]))
    assert [strategy.worth(a) for a in scored] == [additive(a) for a in scored]
    others = [space.sample(rng) for _ in range(200)]
    worth = [strategy.worth(a) for a in others]
    assert np.corrcoef(worth, [additive(a) for a in others])[0, 1] > 0.999
    assert make(space).worth(scored[0]) == 0.0


# -- without ------------------------------------------------------------------------------


def test_without_help_it_is_the_inner_strategy():
    space = toy_space()
    inner = RegularizedEvolution(space, seed=3, **SMALL)
    for prior in (None, some_prior(space)):
        assert play(make(space, 3, prior), 30) == play(inner, 30)
        inner.replay([])


def test_objectives_are_those_of_the_inner_strategy():
    assert make(toy_space()).multi_objective
    assert not make(toy_space(), inner="reinforce", inner_options={}).multi_objective


def test_it_helps_on_the_toy():
    space = toy_space()

    def best(**options):
        found = []
        for seed in range(8):
            told = play(make(space, seed, some_prior(space, seed=seed), **options), 40)
            found.append(max(o.score for o in told if o.score is not None))
        return np.mean(found)

    alone = best()
    for options in ({"num_initial": 10}, {"prior_weight": 20.0}, {"num_candidates": 4}):
        assert best(**options) > alone, options


@pytest.mark.parametrize(
    "options", [{"num_initial": -1}, {"num_candidates": 0}, {"prior_weight": float("inf")}]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(toy_space(), **options)


def test_unknown_inner_strategies_and_options():
    with pytest.raises(StrategyNameError, match="no_such"):
        make(toy_space(), inner="no_such")
    with pytest.raises(StrategyNameError, match="beam_size"):
        make(toy_space(), inner_options={"beam_size": 3})


# -- the prior as data ----------------------------------------------------------------------


def test_json_keeps_types_and_order(tmp_path):
    prior = Prior(
        [(0.1, {"depth": 1, "skip": True}), (0.5, {"depth": 3, "skip": False})],
        {"skip": {True: 3, False: 1}, "depth": {1: 0.2, 3: 0.2}},
    )
    assert [score for score, _ in prior.scores] == [0.5, 0.1]
    assert prior.probabilities["skip"] == {True: 0.75, False: 0.25}
    path = prior.write(tmp_path / "prior.json")
    for source in (prior, path, str(path), json.loads(path.read_text()), prior.to_dict()):
        again = Prior.of(source)
        assert again == prior
        assert [type(c) for c in again.probabilities["depth"]] == [int, int]
        assert [type(c) for c in again.probabilities["skip"]] == [bool, bool]
    assert Prior.of(None) == Prior()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "holds no prior"),
        ('{"scores": []}', "KeyError: 'probabilities'"),
        ('{"scores": [{"score": NaN, "architecture": {}}], "probabilities": {}}', "finite"),
        ('{"scores": [{"score": 1, "architecture": {"a": []}}], "probabilities": {}}', "'a'"),
        ('{"scores": [], "probabilities": {"a": [["x", -1], ["y", 2]]}}', "not negative"),
        ('{"scores": [], "probabilities": {"a": []}}', "not all zero"),
    ],
)
def test_what_is_no_prior_is_named(text, message, tmp_path):
    with pytest.raises(PriorError, match=message):
        Prior.from_json(text)
    (tmp_path / "prior.json").write_text(text)
    with pytest.raises(PriorError, match=r"prior\.json"):
        Prior.of(tmp_path / "prior.json")


def test_files_and_spaces_that_do_not_fit(tmp_path):
    with pytest.raises(PriorError, match=r"no file .*absent\.json"):
        make(toy_space(), prior=str(tmp_path / "absent.json"))
    elsewhere = SearchSpace(ConfigurationSpace({"op0": ["z"]}))
    for prior in (Prior([(1, {"op0": "z"})]), Prior(probabilities={"op0": {"z": 1}})):
        with pytest.raises(PriorError, match="'z' at 'op0', where space 'toy' has one of 'a'"):
            make(toy_space(), prior=prior)
        make(elsewhere, prior=prior)
    with pytest.raises(PriorError, match="no such decision"):
        make(elsewhere, prior=Prior([(1, {"other": "z"})]))


def test_a_start_that_a_clause_forbids_is_passed_over():
    config_space = ConfigurationSpace({"op": ["a", "b"], "n": (0, 3)})
    config_space.add(ForbiddenEqualsClause(config_space["op"], "b"))
    space = SearchSpace(config_space)
    prior = Prior(
        [(0.9, Architecture({"op": "b", "n": 1})), (0.8, Architecture({"op": "a", "n": 2}))]
    )
    strategy = SupernetPrior(space, prior=prior, num_initial=2)
    assert dict(strategy.ask()) == {"op": "a", "n": 2}
