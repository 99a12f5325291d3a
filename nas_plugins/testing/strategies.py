"""Contract suite that every search strategy is held to.

Subclass :class:`StrategyContract` in a test module and override the fixture ``strategy``
with a factory ``(space, seed) -> Strategy``; pytest does the rest::

    class TestMine(StrategyContract):
        @pytest.fixture
        def strategy(self):
            return lambda space, seed: Mine(space, seed=seed)
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    InCondition,
    Integer,
)

from nas_plugins.architecture import Architecture
from nas_plugins.errors import ArchitectureError, ScoreError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Observation, Strategy

__all__ = ["StrategyContract", "conditional_space", "toy_score", "toy_space"]

Factory = Callable[[SearchSpace, int], Strategy]

NUM_STEPS = 30


def toy_space() -> SearchSpace:
    """Ten decisions of four choices each: 4^10 architectures."""
    labels = {f"op{i}": Categorical(f"op{i}", list("abcd")) for i in range(10)}
    return SearchSpace(ConfigurationSpace(labels), name="toy")


def conditional_space() -> SearchSpace:
    """A depth, an operation a layer, and numbers that exist for some operations only."""
    space = ConfigurationSpace()
    depth = Integer("depth", (1, 3))
    space.add(depth)
    for i in range(3):
        operation = Categorical(f"{i}/op", ["conv", "pool", "skip"])
        kernel = Categorical(f"{i}/kernel", [3, 5, 7])
        dropout = Float(f"{i}/dropout", (0.0, 0.5))
        space.add(operation, kernel, dropout)
        if i:
            space.add(InCondition(operation, depth, list(range(i + 1, 4))))
        space.add(EqualsCondition(kernel, operation, "conv"))
        space.add(EqualsCondition(dropout, operation, "pool"))
    return SearchSpace(space, name="conditional")


def toy_score(architecture: Architecture) -> float:
    """Higher is better: a choice is worth its first letter, with one interaction."""
    total = 0.0
    for label, choice in architecture.items():
        number = ord(choice[0]) - ord("a") if isinstance(choice, str) else float(choice)
        total += number * (1 + len(label) % 3)
    return total + (3.0 if architecture.get("op0") == architecture.get("op1") else 0.0)


def play(strategy: Strategy, steps: int, *, constant: bool = False) -> list[Observation]:
    """Ask, score and tell ``steps`` times; every seventh evaluation fails."""
    history = []
    for i in range(steps):
        architecture = strategy.ask()
        score = None if i % 7 == 6 else 1.0 if constant else toy_score(architecture)
        strategy.tell(architecture, score)
        history.append(Observation(architecture, score))
    return history


class StrategyContract:
    """What every strategy must hold; see the module's docstring for how to use it."""

    @pytest.fixture
    def strategy(self) -> Factory:
        """Factory of the strategy under test, small enough to learn within 30 steps."""
        raise NotImplementedError("override the fixture 'strategy'")

    @pytest.fixture(params=[toy_space, conditional_space], ids=["toy", "conditional"])
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        return request.param()

    def test_asks_within_the_space(self, strategy: Factory, space: SearchSpace) -> None:
        for observation in play(strategy(space, 0), NUM_STEPS):
            assert observation.architecture in space

    def test_same_seed_same_sequence(self, strategy: Factory, space: SearchSpace) -> None:
        assert play(strategy(space, 3), NUM_STEPS) == play(strategy(space, 3), NUM_STEPS)

    def test_resuming_equals_the_unbroken_run(self, strategy: Factory, space: SearchSpace) -> None:
        unbroken = strategy(space, 1)
        history = play(unbroken, NUM_STEPS)
        for cut in (0, 1, NUM_STEPS // 2, NUM_STEPS - 1):
            resumed = strategy(space, 1)
            resumed.replay(history[:cut])
            assert resumed.num_told == cut
            assert play(resumed, 0) == []
            for observation in history[cut:]:
                assert resumed.ask() == observation.architecture
                resumed.tell(observation.architecture, observation.score)
            assert resumed.ask() == strategy_after(strategy(space, 1), history).ask()

    def test_replay_forgets_what_was_told(self, strategy: Factory, space: SearchSpace) -> None:
        used, fresh = strategy(space, 2), strategy(space, 2)
        play(used, NUM_STEPS)
        used.replay([])
        assert [used.ask(n) for n in range(5)] == [fresh.ask(n) for n in range(5)]

    def test_asking_changes_nothing(self, strategy: Factory, space: SearchSpace) -> None:
        asked, quiet = strategy(space, 4), strategy(space, 4)
        history = play(strategy(space, 4), NUM_STEPS)
        for observation in history:
            for number in (0, 17, 3):
                asked.ask(number)
            asked.tell(observation.architecture, observation.score)
            quiet.tell(observation.architecture, observation.score)
        assert asked.ask(99) == quiet.ask(99)

    def test_numbers_are_independent_draws(self, strategy: Factory, space: SearchSpace) -> None:
        asked = strategy(space, 0)
        assert asked.ask(5) == asked.ask(5)
        assert len({asked.ask(n) for n in range(20)}) > 1

    def test_architectures_it_never_asked_for(self, strategy: Factory, space: SearchSpace) -> None:
        told, rng = strategy(space, 0), np.random.default_rng(0)
        for i in range(NUM_STEPS):
            told.tell(space.sample(rng), float(i))
        assert told.ask() in space

    def test_out_of_order_and_repeated_tells(self, strategy: Factory, space: SearchSpace) -> None:
        late = strategy(space, 0)
        waiting = [late.ask() for _ in range(5)]
        for architecture in [*reversed(waiting), waiting[0], waiting[0]]:
            late.tell(architecture, toy_score(architecture))
        assert late.num_told == 7
        assert late.ask() in space

    def test_only_failures(self, strategy: Factory, space: SearchSpace) -> None:
        failing = strategy(space, 0)
        for _ in range(NUM_STEPS):
            failing.tell(failing.ask(), None)
        assert failing.ask() in space

    def test_constant_scores(self, strategy: Factory, space: SearchSpace) -> None:
        flat = strategy(space, 0)
        play(flat, NUM_STEPS, constant=True)
        assert flat.ask() in space

    @pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
    def test_rejects_scores_that_are_not_finite(
        self, strategy: Factory, space: SearchSpace, score: float
    ) -> None:
        asked = strategy(space, 0)
        architecture = asked.ask()
        with pytest.raises(ScoreError, match=architecture.id):
            asked.tell(architecture, score)
        assert asked.num_told == 0

    def test_rejects_another_spaces_architecture(
        self, strategy: Factory, space: SearchSpace
    ) -> None:
        asked = strategy(space, 0)
        with pytest.raises(ArchitectureError, match="elsewhere"):
            asked.tell(Architecture({"elsewhere": 1}), 0.0)
        assert asked.num_told == 0

    def test_global_generators_are_left_alone(self, strategy: Factory, space: SearchSpace) -> None:
        random.seed(0)
        np.random.seed(0)
        expected = random.random(), np.random.rand()
        random.seed(0)
        np.random.seed(0)
        play(strategy(space, 0), NUM_STEPS)
        assert (random.random(), np.random.rand()) == expected

    def test_single_architecture(self, strategy: Factory) -> None:
        lonely = SearchSpace(ConfigurationSpace({"a": [1], "b": ["x"]}))
        asked = strategy(lonely, 0)
        for _ in range(NUM_STEPS):
            asked.tell(asked.ask(), 1.0)
        assert asked.ask() == Architecture({"a": 1, "b": "x"})

    def test_a_grown_space_keeps_its_history(self, strategy: Factory) -> None:
        """An operation is added: what was told before is told again, completed."""
        old = toy_space()
        history = play(strategy(old, 0), NUM_STEPS)
        labels = {f"op{i}": Categorical(f"op{i}", list("abcde")) for i in range(11)}
        grown = SearchSpace(ConfigurationSpace(labels), name="grown")
        resumed = strategy(grown, 0)
        resumed.replay(
            Observation(grown.complete(o.architecture), o.score, o.budget) for o in history
        )
        assert resumed.num_told == NUM_STEPS
        assert resumed.ask() in grown


class LearningContract(StrategyContract):
    """For strategies that learn: they beat random search on the toy, over fixed seeds."""

    NUM_TRIALS = 300

    def test_beats_random_search(self, strategy: Factory) -> None:
        from nas_plugins.strategies.random import RandomSearch

        def best(asked: Strategy) -> float:
            return max(o.score for o in play(asked, self.NUM_TRIALS) if o.score is not None)  # type: ignore[return-value]

        space = toy_space()
        ours = [best(strategy(space, seed)) for seed in range(10)]
        random_search = [best(RandomSearch(space, seed=seed)) for seed in range(10)]
        assert np.mean(ours) > np.mean(random_search) + np.std(random_search) / 10**0.5


def strategy_after(strategy: Strategy, history: list[Observation]) -> Strategy:
    """The strategy once it has been told a history."""
    strategy.replay(history)
    return strategy


def sequence_in_fresh_process(name: str, options: dict[str, object], seed: int) -> list[str]:
    """Ids of the architectures a registered strategy asks for on the toy, elsewhere."""
    script = (
        "import json, sys\n"
        "from nas_plugins.strategies import create\n"
        "from nas_plugins.testing.strategies import play, toy_space\n"
        "name, options, seed, steps = json.loads(sys.argv[1])\n"
        "history = play(create(name, toy_space(), seed=seed, **options), steps)\n"
        "print(json.dumps([o.architecture.id for o in history]))\n"
    )
    arguments = json.dumps([name, options, seed, NUM_STEPS])
    done = subprocess.run(
        [sys.executable, "-c", script, arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)
