import math
import pickle

import numpy as np
import pytest
import torch
from ConfigSpace import (
    ConfigurationSpace,
    EqualsCondition,
    Float,
    ForbiddenEqualsClause,
    ForbiddenLessThanRelation,
)
from scipy.stats import norm

from nas_plugins import SearchSpace, UnsupportedSpaceError, spaces
from nas_plugins.bayesian import GaussianProcess
from nas_plugins.bayesian.acquisition import ACQUISITIONS, KAPPA, acquisition, best_place
from nas_plugins.bayesian.candidates import climb, vary
from nas_plugins.bayesian.inputs import Inputs
from nas_plugins.bayesian.pictures import draw_beliefs
from nas_plugins.bayesian.surrogate import tamed
from nas_plugins.strategies import Observation, RandomSearch, create
from nas_plugins.testing.strategies import (
    StrategyContract,
    conditional_space,
    play,
    toy_score,
    toy_space,
)


class TestContract(StrategyContract):
    @pytest.fixture
    def strategy(self):
        return lambda space, seed: GaussianProcess(space, seed=seed, num_initial=24)


def branin(x, y):
    """Three minima of 0.398 (Dixon & Szego 1978)."""
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def plane():
    return SearchSpace(ConfigurationSpace({"x": (-5.0, 10.0), "y": (0.0, 15.0)}))


def regret(strategy, steps):
    values = []
    for _ in range(steps):
        architecture = strategy.ask()
        values.append(branin(architecture["x"], architecture["y"]))
        strategy.tell(architecture, -values[-1])
    return min(values) - 0.397887


def test_finds_the_minimum_of_branin_where_random_search_does_not():
    ours = [regret(GaussianProcess(plane(), seed=s, num_initial=6), 30) for s in range(2)]
    random = [regret(RandomSearch(plane(), seed=s), 30) for s in range(20)]
    assert max(ours) < 0.05 < np.median(random)


@pytest.fixture(scope="module")
def told():
    strategy = GaussianProcess(toy_space(), seed=1, num_initial=5)
    play(strategy, 14)
    return strategy


def test_acquisitions_are_the_papers_formulas(told):
    rng = np.random.default_rng(0)
    some = [told.space.sample(rng) for _ in range(20)]
    mean, deviation = told.predict(some)
    best = float(told.incumbent)
    gamma = (mean - best) / deviation
    expected = {
        "pi": norm.logcdf(gamma),
        "ei": np.log(deviation * (gamma * norm.cdf(gamma) + norm.pdf(gamma))),
        "ucb": mean + KAPPA * deviation,
    }
    rows = told.inputs.rows(some)
    for name, values in expected.items():
        found = acquisition(name, told.model, told.incumbent, rows, seed=0)(rows)
        assert np.allclose(found, values, atol=1e-6), name


def test_values_of_several_calls_can_be_compared(told):
    rows = told.inputs.rows(told.space.sample(np.random.default_rng(i)) for i in range(30))
    for name in ACQUISITIONS:
        value = acquisition(name, told.model, told.incumbent, rows, seed=0)
        assert torch.allclose(value(rows)[:7], value(rows[:7])), name


def test_the_places_of_candidates():
    values = np.array([1.0, 3.0, 3.0 + 1e-12, 2.0])
    assert [best_place(values, place) for place in range(5)] == [1, 2, 3, 0, 0]
    assert best_place(1e-15 * values) == 1


def test_proposals_that_are_asked_for_at_once_differ(told):
    assert len({told.ask(told.num_told + n) for n in range(4)}) == 4
    small = SearchSpace(ConfigurationSpace({"op": ["a", "b", "c"], "k": [1, 2]}))
    strategy = GaussianProcess(small, num_initial=2)
    for op in "ab":
        strategy.tell(small.complete({"op": op, "k": 1}), float(op == "a"))
    assert len({strategy.ask(2 + n) for n in range(4)}) == 4
    assert strategy.ask(2, attempt=1) != strategy.ask(2)


def test_last_bits_of_scores_do_not_come_through():
    history = play(GaussianProcess(toy_space(), seed=1, num_initial=5), 9)
    plain, near = (GaussianProcess(toy_space(), seed=1, num_initial=5) for _ in range(2))
    for o in history:
        plain.tell(o.architecture, o.score)
        near.tell(o.architecture, None if o.score is None else o.score * (1 + 1e-15))
    assert [plain.ask(n) for n in (9, 10)] == [near.ask(n) for n in (9, 10)]


def test_a_model_survives_pickling(told):
    twin = pickle.loads(pickle.dumps(told))
    assert twin.ask(20) == told.ask(20)


def test_large_spaces_with_forbidden_clauses():
    config_space = ConfigurationSpace({f"op{i}": list("abcd") for i in range(12)})
    config_space.add(ForbiddenEqualsClause(config_space["op0"], "b"))
    strategy = GaussianProcess(SearchSpace(config_space), num_initial=2)
    assert all(o.architecture in strategy.space for o in play(strategy, 4))


@pytest.mark.parametrize("name", sorted(ACQUISITIONS))
def test_every_acquisition_leads_above_chance(name):
    strategy = GaussianProcess(toy_space(), seed=0, num_initial=10, acquisition=name)
    scores = [o.score for o in play(strategy, 19) if o.score is not None]
    assert np.mean(scores[-4:]) > np.mean(scores[:10])


def test_torchs_generator_is_left_alone(told):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    for name in ACQUISITIONS:
        GaussianProcess(toy_space(), num_initial=2, acquisition=name)
        rows = told.inputs.rows([told.space.default()] * 3)
        acquisition(name, told.model, told.incumbent, rows, seed=0)(rows)
    told._model = None
    assert told.ask(50) in told.space
    assert torch.equal(torch.rand(2), expected)


def test_columns_tell_inactive_from_chosen():
    space = conditional_space()
    inputs = Inputs(space)
    shallow = space.complete({"depth": 1, "0/op": "conv", "0/kernel": 7})
    row = dict(zip(_columns(space), inputs.row(shallow), strict=True))
    assert row["depth"] == 0.0
    assert row["0/kernel"] == 1.0  # the last of 3, 5, 7, which have an order
    assert row["0/kernel is there"] == 1.0
    assert row["1/op"] == len(space.decisions["1/op"].choices)
    assert row["0/dropout"] == 0.5
    assert row["0/dropout is there"] == 0.0
    deep = space.complete({"depth": 3, "0/op": "conv", "0/kernel": 7})
    assert not np.array_equal(inputs.row(deep), inputs.row(shallow))


def _columns(space):
    for label, decision in space.decisions.items():
        yield label
        if decision.condition != ((),) and label.endswith(("kernel", "dropout")):
            yield f"{label} is there"


def test_inputs_of_a_node_are_a_column_each():
    space = spaces.load("darts", channels=4, num_cells=3)
    edges = sum(len(d.meta["edges"]) for d in space.decisions.values() if d.verb == "inputs")
    operations = sum(d.verb == "layer" for d in space.decisions.values())
    inputs = Inputs(space)
    assert inputs.size == edges + operations
    first = space.default()
    label = next(k for k, d in space.decisions.items() if d.verb == "inputs" and d.num_choices > 1)
    other = space.decisions[label].others(first[label])[0]  # one input exchanged for another
    changed = inputs.row({**first, label: other}) != inputs.row(first)
    assert changed.sum() == 2


def test_numbers_vary_a_little_and_rules_are_kept():
    config_space = ConfigurationSpace()
    low, high = Float("low", (1e-4, 1.0), log=True), Float("high", (1e-4, 1.0), log=True)
    config_space.add(low, high)
    config_space.add(ForbiddenLessThanRelation(high, low))
    space = SearchSpace(config_space)
    rng = np.random.default_rng(0)
    middle = space.complete({"low": 1e-3, "high": 1e-1})
    moved = [vary(space, middle, rng) for _ in range(200)]
    assert all(a in space for a in moved)
    assert np.mean([sum(a[k] != middle[k] for k in a) == 1 for a in moved]) > 0.9
    steps = [abs(math.log10(a["low"]) + 3) for a in moved if a["low"] != 1e-3]
    assert np.median(steps) < 0.5
    assert max(steps) > 0.5


def test_a_small_space_is_searched_to_its_end():
    space = SearchSpace(ConfigurationSpace({"op": ["a", "b", "c"], "k": [1, 2]}))
    strategy = GaussianProcess(space, seed=0, num_initial=2)
    found = set()
    for i in range(8):
        architecture = strategy.ask()
        found.add(architecture)
        strategy.tell(architecture, float(i))
    assert len(found) == 6
    nothing = climb(space, len, [], frozenset(found), np.random.default_rng(0))
    assert nothing[0] == []


def test_the_largest_budget_with_enough_scores_counts():
    space = toy_space()
    strategy = GaussianProcess(space, num_initial=3)
    rng = np.random.default_rng(0)
    for i in range(6):
        strategy.tell(space.sample(rng), float(i), budget=1.0)
    for i in range(2):
        strategy.tell(space.sample(rng), 100.0 + i, budget=3.0)
    assert float(strategy.model.train_inputs[0].shape[0]) == 6
    strategy.tell(space.sample(rng), 50.0)
    strategy.tell(space.sample(rng), 51.0, budget=3.0)
    assert float(strategy.model.train_inputs[0].shape[0]) == 3


def test_a_long_history_is_fitted_in_part():
    strategy = GaussianProcess(toy_space(), num_initial=2, max_observations=10)
    rng = np.random.default_rng(0)
    history = [Observation(strategy.space.sample(rng), float(-i)) for i in range(50)]
    strategy.replay(history)
    used = strategy._used()
    assert used == [*history[:5], *history[-5:]]


def test_between_fits_the_process_knows_every_score_with_the_same_kernel():
    space = toy_space()
    rng = np.random.default_rng(0)
    history = [Observation(a, toy_score(a)) for a in (space.sample(rng) for _ in range(15))]

    def after(told, **options):
        strategy = GaussianProcess(space, num_initial=5, **options)
        strategy.replay(history[:told])
        return strategy

    def kernel(strategy):
        return torch.cat([p.detach().flatten() for p in strategy.model.parameters()])

    assert torch.equal(kernel(after(14)), kernel(after(10)))
    assert not torch.equal(kernel(after(15)), kernel(after(10)))
    assert not torch.equal(kernel(after(11, refit_every=1)), kernel(after(10)))
    latest = [history[13].architecture]
    known, unknown = (after(told).predict(latest)[1][0] for told in (14, 13))
    assert known < unknown
    # Whoever comes late has the kernel of who was there, and so the proposals.
    told_one_by_one = after(10)
    for observation in history[10:13]:
        told_one_by_one.ask()
        told_one_by_one.tell(observation.architecture, observation.score)
    assert told_one_by_one.ask(13) == after(13).ask(13)
    with pytest.raises(ValueError, match="refit_every is 0"):
        after(0, refit_every=0)


def test_a_small_noise_is_not_rounded_away():
    strategy = GaussianProcess(plane(), seed=0, num_initial=25)
    rng = np.random.default_rng(0)
    for _ in range(25):
        architecture = strategy.space.sample(rng)
        share = architecture["x"] / 10
        strategy.tell(architecture, math.sin(share) + rng.normal(scale=0.01))
    # In units of the scores' deviation, which is 0.4: a variance of 0.0006.
    assert 1e-4 < strategy.model.likelihood.noise.item() < 0.01


def test_found_by_name():
    strategy = create("gp", toy_space(), seed=3, acquisition="ucb")
    assert isinstance(strategy, GaussianProcess)
    with pytest.raises(ValueError, match="expected one of \\['ei', 'mes', 'pi', 'ucb'\\]"):
        create("gp", toy_space(), acquisition="best")


@pytest.mark.parametrize("labels", ["x", ["x", "y"], ["y", "kernel"]])
def test_beliefs_are_drawn(tmp_path, labels):
    config_space = ConfigurationSpace({"x": (-5.0, 10.0), "y": (0.1, 15.0), "kernel": [3, 5, 7]})
    strategy = GaussianProcess(SearchSpace(config_space), seed=0, num_initial=5)
    history = []
    for _ in range(9):
        architecture = strategy.ask()
        score = -branin(architecture["x"], architecture["y"])
        history.append(Observation(architecture, score))
        strategy.tell(architecture, score)
    history[1] = Observation(history[1].architecture, None)  # a failure, before the first model
    draw_beliefs(strategy, history, labels, tmp_path / "beliefs.svg", points=8)
    assert (tmp_path / "beliefs.svg").read_text().count('<g id="axes_') >= 6
    assert strategy.num_told == 9


def test_what_cannot_be_drawn_is_named(tmp_path):
    space = SearchSpace(_with_kernel())
    strategy = GaussianProcess(space, num_initial=2)
    history = [Observation(space.complete({"op": "pool", "lr": v}), v) for v in (0.1, 0.2, 0.3)]
    with pytest.raises(UnsupportedSpaceError, match="'width' is no decision"):
        draw_beliefs(strategy, history, "width", tmp_path / "x.png")
    with pytest.raises(UnsupportedSpaceError, match="'kernel' is not active"):
        draw_beliefs(strategy, history, "kernel", tmp_path / "x.png")
    with pytest.raises(ValueError, match="no model after 1 observations"):
        draw_beliefs(strategy, history, "lr", tmp_path / "x.png", after=[1])
    with pytest.raises(ValueError, match="nothing in the history has a score"):
        draw_beliefs(strategy, [], "lr", tmp_path / "x.png")


def _with_kernel():
    config_space = ConfigurationSpace({"op": ["conv", "pool"], "kernel": [1, 3], "lr": (0.0, 1.0)})
    config_space.add(EqualsCondition(config_space["kernel"], config_space["op"], "conv"))
    return config_space


def test_only_what_is_under_way_takes_places():
    """Not what was told beside the proposals, nor what the host never tells."""
    space, rng = toy_space(), np.random.default_rng(0)
    strategy = GaussianProcess(space, num_initial=4)
    for _ in range(8):
        architecture = space.sample(rng)
        strategy.tell(architecture, toy_score(architecture))
    assert len({strategy.ask(n, pending=n) for n in range(4)}) == 4
    assert strategy.ask(50, pending=0) == strategy.ask(3, pending=0)


def test_failures_and_what_diverged_are_the_worst_of_the_others():
    known = torch.tensor([-1.0, -1.2, -0.9, -1.1, -1.3])
    told = torch.cat([known, torch.tensor([math.nan, -1e4])])
    assert tamed(told).tolist() == pytest.approx([*known.tolist(), -1.3, -1.3])
    far = torch.tensor([-1.0, -1.2, -0.9, -1.1, -5.0])  # bad, and not diverged
    assert torch.equal(tamed(far), far)
    assert tamed(torch.tensor([0.5, 0.5, 0.1])).tolist() == pytest.approx([0.5, 0.5, 0.1])


@pytest.mark.parametrize("name", ["gp", "radial_basis", "proportional_improvement"])
def test_what_fails_is_left(name):
    """The best scores lie at the edge of what fails."""
    space = SearchSpace(ConfigurationSpace({"width": (0.0, 1.0), "depth": (0.0, 1.0)}))
    strategy, failed = create(name, space, seed=0), []
    for _ in range(40):
        architecture = strategy.ask()
        total = architecture["width"] + architecture["depth"]
        failed.append(total > 1.2)
        strategy.tell(architecture, None if failed[-1] else total)
    assert sum(failed[20:]) < 10


def test_one_training_that_diverged_does_not_blind_the_model():
    strategy = GaussianProcess(plane(), seed=0, num_initial=6)
    strategy.tell(strategy.ask(), -1e9)
    assert regret(strategy, 30) < 0.1
