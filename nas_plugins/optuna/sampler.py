"""Any strategy of this package as an Optuna sampler."""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from ConfigSpace import ConfigurationSpace
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_plugins.architecture import Architecture
from nas_plugins.errors import ArchitectureError, NasPluginsError, ScoreError
from nas_plugins.optuna.history import StudyHistory, completion_order
from nas_plugins.optuna.parameters import (
    architecture_of,
    distributions,
    is_expressible,
    space_of,
)
from nas_plugins.space import SearchSpace, require_space
from nas_plugins.strategies import create
from nas_plugins.strategies.base import Observation, Score, Strategy

__all__ = ["ArchitectureSampler", "ready_sampler"]

_log = logging.getLogger(__name__)

_UNKNOWN = SearchSpace(ConfigurationSpace({"unknown": [0, 1]}), name="not known yet")


class ArchitectureSampler(BaseSampler):
    """A strategy proposes what the trials of a study evaluate.

    The state is the study's own trials, read when a trial is sampled; nothing else is kept.
    So any number of threads, processes and machines may work on one study, and a study that
    was killed goes on when it is run again: with one worker exactly as if it had never been
    interrupted, the proposals that were lost being made again.

    What the strategy is told: completed trials, in order of completion, with their values
    turned to higher-is-better. Failed trials are told without a score, and so are pruned
    ones, because a value after a part of the training cannot be compared with one after all
    of it; likewise infinite values. The architecture told is the one that was evaluated,
    fixed by ``enqueue_trial`` or not. Trials of other spaces are passed over.

    A parameter that is not of the space, such as a learning rate suggested beside it, is
    drawn at random, by the seed and the number of the proposal.

    Args:
        strategy: A strategy, whose space and seed are used (what it was told before is
            forgotten); or the name of one, registered or ``package.module:Class``; or a
            callable that makes one from a space.
        space: Where architectures come from. Without one, the space is what the completed
            trials of the study have in common, and the first trials are random; that suits
            objectives that suggest the same parameters each time.
        seed: For a strategy by name, and for parameters that are not of the space. All
            workers of a study and all its restarts need the same. Default: a random one.

    Raises:
        StrategyNameError: No such strategy.
        ScoreError: The study has several objectives and the strategy understands one;
            raised when a trial is sampled.

    Example:
        >>> import optuna
        >>> from ConfigSpace import ConfigurationSpace
        >>> from nas_plugins import SearchSpace
        >>> from nas_plugins.optuna import ArchitectureSampler, suggest
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> space = SearchSpace(ConfigurationSpace({"op": ["conv", "pool"], "depth": (1, 9)}))
        >>> sampler = ArchitectureSampler("regularized_evolution", space, seed=0)
        >>> study = optuna.create_study(direction="maximize", sampler=sampler)
        >>> study.optimize(lambda trial: suggest(trial, space)["depth"], n_trials=20)
    """

    _distributions: dict[str, BaseDistribution]

    def __init__(
        self,
        strategy: Strategy | str | Callable[[SearchSpace], Strategy],
        space: SearchSpace | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        if isinstance(strategy, Strategy):
            if space is not None and space != strategy.space:
                raise ValueError(
                    f"space is {space!r}, but the strategy searches {strategy.space!r}; give "
                    "the space to one of them"
                )
            space = strategy.space
            seed = strategy.seed if seed is None else seed
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._make = self._factory(strategy)
        self._follows_study = space is None
        self._use_space(_UNKNOWN if space is None else require_space(space))
        self._history: StudyHistory | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        # The history is in the study, wherever this goes.
        return {**self.__dict__, "_history": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._strategy).__name__} over {self._space!r})"

    @property
    def strategy(self) -> Strategy:
        """The strategy, in the state of the last trial that was sampled."""
        return self._strategy

    def remembered(self, architecture: Architecture) -> float | list[float] | None:
        """The value of a network that was evaluated before, as the study recorded it.

        For an objective that returns it instead of training again. The strategy has to be
        :class:`~nas_plugins.strategies.Deduplicated`, which sees isomorphic networks as one.

        Raises:
            NasPluginsError: The strategy does not remember.
        """
        look_up = getattr(self._strategy, "remembered", None)
        if look_up is None:
            raise NasPluginsError(
                f"{type(self._strategy).__name__} does not remember scores; wrap it: "
                "ArchitectureSampler(Deduplicated(strategy, reask=False))"
            )
        with self._lock:
            score: Score | None = look_up(architecture)
            if score is None:
                return None
            if isinstance(score, tuple):
                return [s * sign for s, sign in zip(score, self._signs, strict=True)]
            return score * self._signs[0]

    # -- Optuna's contract --------------------------------------------------------------

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        with self._lock:
            if not self._follows_study:
                return dict(self._distributions)
            self._read(study)
            common = self._common or {}
            for name, distribution in common.items():
                if not is_expressible(distribution) and name not in self._noted:
                    self._noted.add(name)
                    _log.warning(
                        "parameter %r is drawn at random, since its %s is no decision: expected "
                        "choices that are distinct strings, finite numbers or booleans",
                        name,
                        distribution,
                    )
            return {name: d for name, d in sorted(common.items()) if is_expressible(d)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        with self._lock:
            self._read(study)
            if self._follows_study and search_space != self._distributions:
                self._use_space(space_of(search_space))
                self._distributions = search_space  # a space has no steps, so not its own
                self._tell_again()
            proposal = self._ask(study, trial)
            return {label: c for label, c in proposal.items() if label in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        with self._lock:
            history = self._history_of(study)
            number = history.number_held(trial)
            if number is None:
                self._read(study)
                number = history.number(trial)
        entropy = (self._seed, number, zlib.crc32(param_name.encode()))
        draw = RandomSampler(seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        return draw.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        # Under HyperbandPruner the study is a guise that shows the trials of one bracket.
        whole = getattr(study, "_study", study)
        with self._lock:
            self._history_of(study).sign(trial, to_the_end=whole._thread_local.in_optimize_loop)
            self._carry_open(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if state is TrialState.FAIL:
            with self._lock:
                self._history_of(study).sign_failure(trial)

    # -- private ------------------------------------------------------------------------

    def _factory(
        self, strategy: Strategy | str | Callable[[SearchSpace], Strategy]
    ) -> Callable[[SearchSpace], Strategy]:
        if isinstance(strategy, str):
            return partial(create, strategy, seed=self._seed)
        if isinstance(strategy, Strategy):
            return partial(_given, strategy)
        return strategy

    def _carry_open(self, study: Study, trial: FrozenTrial) -> None:
        """Put choices that are no parameters into the trial's user attributes.

        Those that the trial was enqueued with stay.
        """
        open_ended = {label for label, d in self._space.decisions.items() if d.is_open}
        missing = open_ended - trial.user_attrs.keys()
        if not missing:
            return
        self._read(study)
        proposal = self._ask(study, trial)
        for label in sorted(missing & proposal.keys()):
            study._storage.set_trial_user_attr(trial._trial_id, label, proposal[label])
            # Optuna read the trial before it asked, and does not read it again.
            trial.user_attrs = {**trial.user_attrs, label: proposal[label]}

    def _ask(self, study: Study, trial: FrozenTrial) -> Architecture:
        history = self._history_of(study)
        number = history.number(trial)
        return self._strategy.ask(number, pending=history.num_pending(trial, number))

    def _use_space(self, space: SearchSpace) -> None:
        self._space = space
        self._strategy = self._make(space)
        self._distributions = distributions(space)

    def _history_of(self, study: Study) -> StudyHistory:
        storage, study_id = study._storage, study._study_id
        if self._history is None or not self._history.is_of(storage, study_id):
            self._history = StudyHistory(storage, study_id)
            self._finished: list[FrozenTrial] = []
            self._common: dict[str, BaseDistribution] | None = None
            self._signs = [1 if d is StudyDirection.MAXIMIZE else -1 for d in study.directions]
            self._noted: set[str] = set()
            self._tell_again()
        return self._history

    def _read(self, study: Study) -> None:
        """Tell the strategy what finished since it was last told."""
        history = self._history_of(study)
        if len(self._signs) > 1 and not self._strategy.multi_objective:
            raise ScoreError(
                f"the study has {len(self._signs)} objectives, but "
                f"{type(self._strategy).__name__} understands one; return one number from the "
                "objective, or take a strategy whose multi_objective is true"
            )
        finished = history.read()
        if not finished:
            return
        is_late = bool(self._finished) and (
            completion_order(finished[0]) < completion_order(self._finished[-1])
        )
        self._finished.extend(finished)
        if self._follows_study:
            self._common = _intersection(self._common, finished)
        if is_late:  # the state is that of the ordered history, whenever its parts arrived
            self._finished.sort(key=completion_order)
            self._tell_again()
            return
        for observation in self._observations(finished):
            self._strategy.tell(observation.architecture, observation.score)

    def _tell_again(self) -> None:
        self._strategy.replay(self._observations(self._finished))

    def _observations(self, trials: Iterable[FrozenTrial]) -> Iterable[Observation]:
        for trial in trials:
            try:
                architecture = architecture_of(trial, self._space)
            except ArchitectureError as error:
                self._note("trials are passed over, the first because %s", error)
                continue
            yield Observation(architecture, self._score(trial))

    def _score(self, trial: FrozenTrial) -> Score | None:
        if trial.state is not TrialState.COMPLETE:
            return None
        if not all(math.isfinite(value) for value in trial.values):
            self._note("trial %s counts as failed: its value is infinite", trial.number)
            return None
        score = tuple(sign * value for sign, value in zip(self._signs, trial.values, strict=True))
        return score if len(score) > 1 else score[0]

    def _note(self, message: str, about: object) -> None:
        """Log a thing once in a study."""
        if message not in self._noted and not self._follows_study:
            self._noted.add(message)
            _log.warning(message, about)


def ready_sampler(class_name: str, strategy_name: str) -> type[ArchitectureSampler]:
    """Class of an :class:`ArchitectureSampler` with a registered strategy.

    Its constructor takes ``space``, ``seed`` and the strategy's own options.
    """
    return type(
        class_name,
        (_ReadySampler,),
        {
            "strategy_name": strategy_name,
            "__module__": __package__,
            "__doc__": f"""The strategy ``{strategy_name}`` as an Optuna sampler.

    See :class:`ArchitectureSampler`.

    Args:
        space: As there.
        seed: As there.
        options: Those of the strategy.
    """,
        },
    )


class _ReadySampler(ArchitectureSampler):
    strategy_name: ClassVar[str]

    def __init__(
        self, space: SearchSpace | None = None, *, seed: int | None = None, **options: Any
    ) -> None:
        self._options = options
        super().__init__(self.strategy_name, space, seed=seed)

    def _factory(self, strategy: Any) -> Callable[[SearchSpace], Strategy]:
        return partial(create, strategy, seed=self._seed, **self._options)


def _given(strategy: Strategy, space: SearchSpace) -> Strategy:
    return strategy


def _intersection(
    common: Mapping[str, BaseDistribution] | None, trials: Iterable[FrozenTrial]
) -> dict[str, BaseDistribution] | None:
    """Parameters that all completed trials have, with the same distribution."""
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            have = trial.distributions
            if common is None:
                common = have
            common = {name: d for name, d in common.items() if have.get(name) == d}
    return None if common is None else dict(common)
