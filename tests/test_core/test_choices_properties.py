"""Properties of generated networks: whatever is asked, however it is nested and shared.

A drawn *plan* is a tree of questions; :class:`Planned` asks them. Each property holds the
three readings, the compiled decisions and the count against each other, or against
ConfigSpace or brute force.
"""

import itertools

import numpy as np
import torch
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace.conditions import (
    AndConjunction,
    EqualsCondition,
    InCondition,
    NotEqualsCondition,
    OrConjunction,
)
from ConfigSpace.hyperparameters import CategoricalHyperparameter
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from nas_plugins import Architecture, SearchSpace
from nas_plugins.choices import build
from nas_plugins.counting import count_assignments
from nas_plugins.decision import compile_decisions

WIDTH = 2
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# -- plans -----------------------------------------------------------------------------------
# Asked questions are named by their place in the plan, except "shared", which all plans ask
# in the same way, and "value", a number that shapes nothing but its own module.

leaf = st.sampled_from(["skip", "linear", "norm", "shared", "value"]).map(lambda kind: (kind,))


def branches(plan):
    several = st.lists(plan, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("layer"), several, st.booleans()),
        st.tuples(st.just("sequence"), several),
        st.tuples(st.just("inputs"), several, st.sampled_from([1, 2, None]), st.booleans()),
        st.tuples(
            st.just("repeat"),
            plan,
            st.sampled_from([(0, 2), (1, 2), (2, 2), [0, 2]]),
            st.booleans(),
        ),
    )


plans = st.recursive(leaf, branches, max_leaves=6)


class Merge(nn.Module):
    """Gives the module of an ``inputs`` decision as many tensors as it was asked for."""

    def __init__(self, merged, count):
        super().__init__()
        self.merged = merged
        self.count = count

    def forward(self, x):
        return self.merged([x + i for i in range(self.count)])


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return x * self.factor


class Planned(nn.Module):
    def __init__(self, choose, plan):
        super().__init__()
        self.choose = choose
        self.stem = nn.Linear(WIDTH, WIDTH)
        self.body = self.ask(plan, "")
        self.last = self.ask(("shared",), "last")
        del self.choose

    def linear(self):
        return nn.Linear(WIDTH, WIDTH)

    def ask(self, plan, place):
        kind = plan[0]
        if kind == "skip":
            return nn.Identity()
        if kind == "linear":
            return self.linear()
        if kind == "norm":
            return nn.BatchNorm1d(WIDTH)
        if kind == "shared":
            return self.choose.layer("shared", {"a": self.linear, "b": nn.Identity})
        if kind == "value":
            return Scale(self.choose.value(f"{place}value", [1, 2, 4]))
        if kind == "sequence":
            return nn.Sequential(*(self.ask(p, f"{place}{i}") for i, p in enumerate(plan[1])))
        if kind == "layer":
            candidates = {
                str(i): lambda p=p, i=i: self.ask(p, f"{place}{i}") for i, p in enumerate(plan[1])
            }
            extra = {"none": nn.Identity} if plan[2] else None
            return self.choose.layer(f"{place}layer", candidates, only_in_mixture=extra)
        if kind == "inputs":
            edges = {
                str(i): lambda p=p, i=i: self.ask(p, f"{place}{i}") for i, p in enumerate(plan[1])
            }
            chosen = None if plan[2] is None else min(plan[2], len(edges))
            required = ["0"] if chosen is None and plan[3] else []
            merged = self.choose.inputs(
                f"{place}inputs", edges, num_chosen=chosen, required=required
            )
            return Merge(merged, len(edges))
        _, block, depth, with_head = plan
        head = (lambda d: self.linear()) if with_head else None
        return self.choose.repeat(
            f"{place}repeat", lambda i: self.ask(block, f"{place}{i}"), depth, head=head
        )

    def forward(self, x):
        return self.last(self.body(self.stem(x)))


def space_of(plan):
    return SearchSpace.from_network(Planned, plan=plan)


def values_of(space):
    return {label for label, d in space.decisions.items() if label.endswith("value")}


# -- the three readings ----------------------------------------------------------------------


@FEW
@given(plan=plans, seed=st.integers(0, 2**16))
def test_a_child_is_its_path(plan, seed):
    space, rng = space_of(plan), np.random.default_rng(seed)
    architecture = space.sample(rng)
    fixed = {v: architecture.get(v, space.decisions[v].default) for v in values_of(space)}
    supernet = space.supernet(fixed=fixed)
    child = supernet.child(architecture)
    path = supernet.path_state_dict(architecture)
    assert child.state_dict().keys() == path.keys()
    supernet.set_path(architecture)
    x = torch.rand(3, WIDTH, generator=torch.Generator().manual_seed(seed))
    for training in (False, True):
        assert torch.equal(child.train(training)(x), supernet.train(training)(x))
    assert all(torch.equal(t, path[key]) for key, t in child.state_dict().items())


@FEW
@given(plan=plans)
def test_building_asks_for_exactly_what_is_active(plan):
    """Recording saw every decision that building needs, and none that it does not."""
    space = space_of(plan)
    assume(space.size <= 300)
    for architecture in space.enumerate():
        asked = set()

        class Noting(Architecture):
            def __getitem__(self, label, asked=asked):
                asked.add(label)
                return super().__getitem__(label)

        build(Planned, Noting(dict(architecture)), {"plan": plan})
        assert asked == set(architecture)


@FEW
@given(plan=plans, seed=st.integers(0, 2**16))
def test_moves_stay_in_the_space(plan, seed):
    space, rng = space_of(plan), np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    assert space.crossover(first, second, rng) in space
    if any(space.decisions[label].num_choices > 1 for label in first):
        other = space.mutate(first, rng)
        assert other in space
        assert other != first
    for neighbour in itertools.islice(space.neighbours(first), 20):
        assert neighbour in space


@FEW
@given(plan=plans)
def test_size_is_the_number_of_architectures(plan):
    space = space_of(plan)
    assume(space.size <= 3000)
    everything = list(space.enumerate())
    assert len(everything) == len(set(everything)) == space.size


# -- ConfigSpace -----------------------------------------------------------------------------


def agree(space, num_samples=30):
    """ConfigSpace accepts what we draw; what it draws is ours as far as it accepts it itself.

    Its sampler may set a value whose parent it has yet to switch off; its own check then
    refuses that draw.
    """
    rng = np.random.default_rng(0)
    for _ in range(num_samples):
        drawn = space.sample(rng)
        assert is_legal(Configuration(space.config_space, values=dict(drawn)))
    space.config_space.seed(0)
    for configuration in space.config_space.sample_configuration(num_samples):
        assert (Architecture(dict(configuration)) in space) == is_legal(configuration)
        assert space.complete(dict(configuration)) in space


def is_legal(configuration):
    try:
        configuration.check_valid_configuration()
    except ValueError:
        return False
    return True


@FEW
@given(plan=plans)
def test_recorded_spaces_mean_the_same_to_configspace(plan):
    agree(space_of(plan))


@st.composite
def config_spaces(draw):
    """Categoricals, each perhaps under a condition on earlier ones, up to or-of-ands."""
    space = ConfigurationSpace()
    parameters, conditional, shapes = [], set(), {}
    for i in range(draw(st.integers(1, 6))):
        parameter = CategoricalHyperparameter(f"p{i}", list("abc")[: draw(st.integers(1, 3))])
        space.add(parameter)
        several = [p for p in parameters if len(p.choices) > 1]
        one_or_two = st.lists(
            st.sampled_from(several), min_size=1, max_size=2, unique_by=lambda p: p.name
        )
        conjunctions, atoms = [], set()
        for _ in range(draw(st.integers(0, 2)) if several else 0):
            parents = draw(one_or_two)
            parts = [draw(atom(parameter, p, p.name in conditional)) for p in parents]
            both = {str(part) for part in parts}
            if both != atoms:
                conjunctions.append(parts[0] if len(parts) == 1 else AndConjunction(*parts))
                atoms |= both
        if conjunctions:
            whole = conjunctions[0] if len(conjunctions) == 1 else OrConjunction(*conjunctions)
            # ConfigSpace groups children by the parts of their conditions, and takes "and" and
            # "or" of the same parts for one (automl/ConfigSpace#430).
            parts = frozenset(a.replace(f"p{i} |", "") for a in atoms)
            assume(shapes.setdefault(parts, type(whole)) is type(whole))
            space.add(whole)
            conditional.add(parameter.name)
        parameters.append(parameter)
    return space


@st.composite
def atom(draw, child, parent, parent_is_conditional):
    # ConfigSpace takes "not" of an inactive parent for true and then refuses its own default.
    kind = draw(st.sampled_from(["equals", "in", *([] if parent_is_conditional else ["not"])]))
    choice = draw(st.sampled_from(parent.choices))
    if kind == "equals":
        return EqualsCondition(child, parent, choice)
    if kind == "not":
        return NotEqualsCondition(child, parent, choice)
    return InCondition(child, parent, [c for c in parent.choices if c != choice])


@FEW
@given(config_space=config_spaces())
def test_compiled_conditions_mean_the_same_to_configspace(config_space):
    agree(SearchSpace(config_space))


@FEW
@given(config_space=config_spaces())
def test_counting_agrees_with_brute_force(config_space):
    """Over all full assignments, keep the active part: as many distinct ones as counted."""
    decisions = compile_decisions(config_space)
    distinct = set()
    for choices in itertools.product(*(d.choices for d in decisions.values())):
        active = {}
        for (label, decision), choice in zip(decisions.items(), choices, strict=True):
            if any(
                all(lit.label in active and lit.holds(active[lit.label]) for lit in clause)
                for clause in decision.condition
            ):
                active[label] = choice
        distinct.add(frozenset(active.items()))
    assert count_assignments(decisions) == len(distinct)
    assert {frozenset(a.items()) for a in SearchSpace(config_space).enumerate()} == distinct
