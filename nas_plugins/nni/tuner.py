"""The strategies as a tuner of ``nnictl create``. Loads neither torch nor Lightning."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nni import NoMoreTrialError
from nni.runtime.env_vars import dispatcher_env_vars
from nni.tuner import Tuner

from nas_plugins import strategies
from nas_plugins.architecture import Architecture
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.nni import records
from nas_plugins.nni.metric import architecture_in, decoded, failure_in, score_in
from nas_plugins.nni.search_space import architecture_of, from_nni, parameters_of
from nas_plugins.space import SearchSpace
from nas_plugins.strategies import GridSearch, Observation, Strategy

__all__ = ["ArchitectureTuner"]

_logger = logging.getLogger("nni.nas_plugins.tuner")

UNFINISHED = ("WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED")


class ArchitectureTuner(Tuner):
    """Runs a strategy of nas-plugins inside an NNI experiment.

    NNI starts it from the ``tuner`` section of a config, calls ``update_search_space``, then
    ``generate_parameters`` for each trial and ``receive_trial_result`` for each final metric.

    The history is made of what the trials themselves report, see
    :mod:`nas_plugins.nni.metric`, never of parameter ids, which NNI mixes up between
    concurrent trials and starts again at 1 on resume. After ``nnictl resume`` it is read from
    the experiment's own database, in the order in which the results came, so the strategy is
    in the state it would have been in had the experiment never stopped. Trials that the stop
    cut off run again; beside them NNI asks for as many new ones as run at once.

    Args:
        strategy: Name of a strategy, or ``package.module:Class``.
        space: Where decisions come from: default the experiment's search space; else a name
            for :func:`nas_plugins.spaces.load` or the path of a :meth:`SearchSpace.to_json`.
        space_options: For a space given by name.
        seed: Source of all randomness.
        optimize_mode: ``maximize`` or ``minimize`` the trials' ``default`` metric.
        history: File that ``python -m nas_plugins.nni export`` wrote; its results are told
            before anything else.
        options: Of the strategy.

    Raises:
        StrategyNameError: Unknown strategy or option; the message lists the known ones. Of the
            Bayesian ones an option is looked at when the search space comes.
    """

    def __init__(
        self,
        strategy: str = "regularized_evolution",
        space: str | None = None,
        space_options: Mapping[str, Any] | None = None,
        seed: int = 0,
        optimize_mode: str = "maximize",
        history: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if optimize_mode not in ("maximize", "minimize"):
            raise ValueError(f"optimize_mode is {optimize_mode!r}; expected maximize or minimize")
        if strategy not in strategies.BAYESIAN:  # they import torch, and NNI waits ten seconds
            strategies.check(strategy, options)
        self._name, self._seed, self._options = strategy, seed, options
        self._space_source, self._space_options = space, dict(space_options or {})
        self._sign = 1.0 if optimize_mode == "maximize" else -1.0
        self._initial = json.loads(Path(history).read_text(encoding="utf-8")) if history else []
        self._strategy: Strategy | None = None
        self._resumes = False
        self._skips_import = False
        self._num_proposed = 0
        self._proposed: set[Architecture] = set()
        self._pending: Counter[Architecture] = Counter()  # proposed, and no result yet
        self._told: set[str] = set()  # trial ids
        self._history: list[Observation] = []
        self._recovered: dict[str, Mapping[str, Any]] = {}  # trials that NNI runs again
        self._num_ended = self._num_results = 0

    @property
    def history(self) -> list[Observation]:
        """Everything told so far, in order."""
        return list(self._history)

    # -- called by NNI ------------------------------------------------------------------

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Start, or go on in another space with what was told and still belongs to it."""
        space = self._load_space(search_space)
        first = self._strategy is None
        self._restart(space)
        if not first:
            return
        self._import(self._initial)
        if self._resumes:
            self._read_experiment()

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """Propose the next architecture.

        Raises:
            NoMoreTrialError: A grid search has proposed the whole grid.
        """
        self._give_up_silent()
        strategy = self._ready()
        silent = max(0, self._num_ended - self._num_results)
        running = max(0, sum(self._pending.values()) - silent)
        architecture = strategy.ask(self._num_proposed, pending=running)
        if isinstance(strategy, GridSearch) and architecture in self._proposed:
            raise NoMoreTrialError(f"the grid's {len(self._proposed)} architectures are proposed")
        self._propose(architecture)
        return parameters_of(strategy.space, architecture)

    def receive_trial_result(
        self, parameter_id: int, parameters: Mapping[str, Any], value: Any, **kwargs: Any
    ) -> None:
        """Tell the strategy a trial's final metric."""
        trial_id = kwargs.get("trial_job_id") or f"parameter {parameter_id}"
        self._receive(trial_id, parameters, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Count; which proposal the trial had, NNI does not reliably say."""
        if parameter_id is not None:
            self._num_ended += 1

    def load_checkpoint(self) -> None:
        """NNI resumes: read the experiment's database once the search space is known."""
        self._resumes = True

    def save_checkpoint(self) -> None:
        """Nothing to save: the state is a function of what NNI has stored."""

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Tell results of another experiment, or the late result of a recovered trial.

        The first call after a resume is NNI's list of all earlier results, paired with the
        wrong parameters if trials were concurrent; the database was read instead.
        """
        if self._skips_import:
            self._skips_import = False
            return
        for entry in data:
            parameters = entry.get("parameter")
            recovered = [t for t, known in self._recovered.items() if known == parameters]
            if recovered and len(entry) == 2:  # an export would also have an id
                del self._recovered[recovered[0]]
                self._receive_repeated(recovered[0], entry["parameter"], entry["value"])
            else:
                self._import([entry])

    # -- results ------------------------------------------------------------------------

    def _receive(self, trial_id: str, parameters: Mapping[str, Any], value: Any) -> None:
        if trial_id in self._told:
            _logger.warning("Trial %s reported a second final metric; ignored", trial_id)
            return
        self._told.add(trial_id)
        self._num_results += 1
        architecture = self._architecture(parameters, value)
        if architecture is not None:
            self._resolve(architecture)
            self._tell(architecture, value)

    def _receive_repeated(self, trial_id: str, parameters: Mapping[str, Any], value: Any) -> None:
        """A trial that a stop had cut off has run again.

        NNI repeats it with the parameters of its row, which may be those that another trial
        ran and finished: such a result is the second of one proposal and is left out.
        """
        self._told.add(trial_id)
        architecture = self._architecture(parameters, value)
        if architecture is not None and self._pending[architecture]:
            self._resolve(architecture)
            self._tell(architecture, value)

    def _import(self, entries: Iterable[Mapping[str, Any]]) -> None:
        for entry in entries:
            trial_id = entry.get("trial", entry.get("trialJobId"))  # ours, or NNI's export
            if trial_id in self._told:
                continue
            if trial_id is not None:
                self._told.add(trial_id)
            value = decoded(entry.get("value"))
            architecture = self._architecture(entry.get("parameter", {}), value)
            if architecture is not None:
                self._tell(architecture, value)

    def _architecture(self, parameters: Mapping[str, Any], value: Any) -> Architecture | None:
        """What was measured: the metric says so, else the parameters."""
        space = self._ready().space
        reported = architecture_in(value)
        try:
            if reported is not None:
                return space.recall(reported)
            return architecture_of(space, parameters)
        except ArchitectureError as error:
            _logger.error("A result is left out, since it is of another space: %s", error)
            return None

    def _tell(self, architecture: Architecture, value: Any) -> None:
        score = score_in(value)
        if score is None:
            _logger.warning("Architecture %s failed: %s", architecture.id, failure_in(value))
        observation = Observation(architecture, None if score is None else self._sign * score)
        self._ready().tell(architecture, observation.score)
        self._history.append(observation)

    def _give_up_silent(self) -> None:
        """Tell as failed what ended without a word, once no doubt is left which it was.

        NNI reports such an end under a parameter id that may be another trial's. But when
        as many ended silently as are pending, then these are the ones.
        """
        if 0 < sum(self._pending.values()) == self._num_ended - self._num_results:
            for architecture in list(self._pending.elements()):
                self._num_results += 1
                self._resolve(architecture)
                self._tell(architecture, None)

    # -- state --------------------------------------------------------------------------

    def _propose(self, architecture: Architecture | None) -> None:
        self._num_proposed += 1
        if architecture is not None:  # else of an earlier search space
            self._proposed.add(architecture)
            self._pending[architecture] += 1

    def _resolve(self, architecture: Architecture) -> None:
        self._pending[architecture] -= 1
        self._pending += Counter()  # drops what is not positive

    def _read_experiment(self) -> None:
        checkpoints = self.get_checkpoint_path()
        if checkpoints is None:
            _logger.warning("No NNI_CHECKPOINT_DIRECTORY: relying on what NNI imports")
            return
        trials, imports = self._read(Path(checkpoints).parent)
        if dispatcher_env_vars.NNI_INCLUDE_INTERMEDIATE_RESULTS != "true":
            # NNI then never told what the stopped trials had reached, so they ended silently.
            trials = [replace(t, reported=None) if t.partial else t for t in trials]
        unfinished = [t for t in trials if t.status in UNFINISHED]  # NNI runs these again
        self._recovered = {t.trial_id: t.parameters for t in unfinished}
        # What happened again, in its order; of one moment results first and proposals last.
        moments: list[tuple[int, int, Callable[[], None]]] = [
            (imported.reported, 0, partial(self._import, imported.entries)) for imported in imports
        ]
        for trial in trials:
            if trial.proposed:
                moments.append((trial.submitted, 2, partial(self._propose_again, trial)))
            if trial.reported is not None:
                moments.append((trial.reported, 0, partial(self._receive_again, trial)))
            elif trial not in unfinished:
                moments.append((trial.ended, 1, self._end_silently))
        for _, _, again in sorted(moments, key=lambda moment: moment[:2]):
            again()
        self._skips_import = True
        _logger.info("Resumed with %d results of %d trials", len(self._history), len(trials))

    def _propose_again(self, trial: records.Trial) -> None:
        self._give_up_silent()
        self._propose(self._architecture(trial.parameters, None))

    def _receive_again(self, trial: records.Trial) -> None:
        if trial.repeated:
            self._receive_repeated(trial.trial_id, trial.parameters, trial.value)
        else:
            before = self._num_results
            self._receive(trial.trial_id, trial.parameters, trial.value)
            self._num_ended += self._num_results - before

    def _end_silently(self) -> None:
        self._num_ended += 1

    def _read(self, directory: Path) -> tuple[list[records.Trial], list[records.Imported]]:
        """The trials and imports that the strategy has to know of."""
        return records.read(directory)

    def _restart(self, space: SearchSpace) -> None:
        """Make the strategy, and tell it again what it was told that belongs to the space."""
        self._strategy = strategies.create(self._name, space, seed=self._seed, **self._options)
        self._history = [
            replace(o, architecture=recalled)
            for o in self._history
            if (recalled := _recalled(space, o.architecture)) is not None
        ]
        pending = {_recalled(space, a): count for a, count in self._pending.items()}
        self._pending = Counter({a: count for a, count in pending.items() if a is not None})
        self._strategy.replay(self._history)

    def _ready(self) -> Strategy:
        if self._strategy is None:
            raise RuntimeError("update_search_space has to come first")
        return self._strategy

    def _load_space(self, search_space: Mapping[str, Any]) -> SearchSpace:
        source = self._space_source
        if source is None:
            return from_nni(search_space)
        if source.endswith(".json"):
            return SearchSpace.from_json(Path(source).expanduser(), name=source)
        from nas_plugins.spaces import load  # imports torch, but NNI is connected by now

        space = load(source, **self._space_options)
        if set(from_nni(search_space).decisions) != set(space.decisions):
            raise UnsupportedSpaceError(
                f"the experiment's search space is not that of {source!r}; generate it again "
                "with: nas-plugins nni-config"
            )
        return space


def _recalled(space: SearchSpace, architecture: Architecture) -> Architecture | None:
    """An architecture of another space as one of this, where it is one."""
    try:
        return space.recall(architecture)
    except ArchitectureError:
        return None
