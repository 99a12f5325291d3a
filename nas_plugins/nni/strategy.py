"""The strategies inside ``nni.nas.experiment.NasExperiment``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from nni.mutable import SampleValidationError
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy import Strategy as NNIStrategy

from nas_plugins import strategies
from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.nni.metric import failure_in, score_in
from nas_plugins.nni.model_space import ArchitectureModelSpace, load_space, sample_of
from nas_plugins.nni.mutables import Translation
from nas_plugins.space import SearchSpace
from nas_plugins.strategies import Observation, Strategy

__all__ = ["ArchitectureStrategy"]

_logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 500
_LATE_S = 10.0


class ArchitectureStrategy(NNIStrategy):
    """Runs a strategy of nas-plugins over any model space of ``nni.nas``.

    Over an :class:`ArchitectureModelSpace` it searches the space's own decisions, with their
    conditions; over any other, NNI's hub included, the mutables of ``simplify()``. A sample
    that the model space's constraints refuse is drawn again.

    The metric is maximized, as everywhere in ``nni.nas``. A failed training is told as
    failed. A checkpoint holds the history in plain types, which ``torch.load`` reads under
    ``weights_only=True``, so ``NasExperiment.resume`` works on today's torch.

    Args:
        strategy: Name of a strategy, or ``package.module:Class``.
        seed: Source of all randomness.
        options: Of the strategy.

    Raises:
        StrategyNameError: Unknown strategy or option; the message lists the known ones.
    """

    def __init__(
        self, strategy: str = "regularized_evolution", *, seed: int = 0, **options: Any
    ) -> None:
        super().__init__()
        strategies.check(strategy, options)
        self._name, self._seed, self._options = strategy, seed, options
        self._lock = threading.Lock()  # events come in a thread of the engine's
        self._num_proposed = 0
        self._history: list[Observation] = []
        # The training service engine forgets a model, and its events, that no one else holds.
        self._models: list[ExecutableModelSpace] = []
        self._running: dict[int, Architecture] = {}

    @property
    def history(self) -> list[Observation]:
        """Everything told so far, in order."""
        return list(self._history)

    def extra_repr(self) -> str:
        return f"{self._name!r}, seed={self._seed}"

    def state_dict(self) -> dict[str, Any]:
        history = [[dict(o.architecture), o.score] for o in self._history]
        return {"num_proposed": self._num_proposed, "history": history}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._num_proposed = state_dict["num_proposed"]
        self._history = [Observation(Architecture(a), s) for a, s in state_dict["history"]]
        self._strategy.replay(self._history)

    # -- called by nni.nas --------------------------------------------------------------

    def _initialize(
        self, model_space: ExecutableModelSpace, engine: ExecutionEngine
    ) -> ExecutableModelSpace:
        mutables = {str(label): m for label, m in model_space.simplify().items()}
        own = _own_space(model_space)
        rest = {k: m for k, m in mutables.items() if own is None or k not in own.decisions}
        self._translation = Translation.of(rest)
        self._own = own
        space = self._translation.space if own is None else own
        if own is not None and self._translation.mutables:  # the evaluator's
            space = own.join(self._translation.space)
        self._strategy: Strategy = strategies.create(
            self._name, space, seed=self._seed, **self._options
        )
        return model_space

    def _run(self) -> None:
        self.engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        while self.wait_for_resource():
            model, architecture = self._propose()
            self._models.append(model)
            self._running[id(model)] = architecture
            self.engine.submit_models(model)
        self._wait()

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    # -- private ------------------------------------------------------------------------

    def _propose(self) -> tuple[ExecutableModelSpace, Architecture]:
        refused: SampleValidationError | None = None
        for attempt in range(_MAX_ATTEMPTS):
            with self._lock:
                pending = len(self._running)
                architecture = self._strategy.ask(self._num_proposed, attempt, pending=pending)
            try:
                model = self.model_space.freeze(self._sample(architecture))
            except SampleValidationError as error:
                refused = error
                continue
            self._num_proposed += 1
            return model, architecture
        raise UnsupportedSpaceError(
            f"{_MAX_ATTEMPTS} proposals in a row violate the constraints of the model space, the "
            f"last one: {refused}"
        )

    def _sample(self, architecture: Architecture) -> dict[str, Any]:
        sample = self._translation.sample(architecture)
        return sample if self._own is None else {**sample, **sample_of(self._own, architecture)}

    def _on_metric(self, event: FinalMetricEvent) -> None:
        self._tell(event.model, event.metric)

    def _on_end(self, event: TrainingEndEvent) -> None:
        if event.status is not ModelStatus.Trained:  # else its metric has come, or will
            self._tell(event.model, None)

    def _tell(self, model: ExecutableModelSpace, metric: Any) -> None:
        with self._lock:
            architecture = self._running.pop(id(model), None)
            if architecture is None:
                return
            score = score_in(metric)
            if score is None:
                _logger.warning("Architecture %s failed: %s", architecture.id, failure_in(metric))
            self._strategy.tell(architecture, score)
            self._history.append(Observation(architecture, score))

    def _wait(self) -> None:
        """Wait for what is in flight, whose results would be lost after this run."""
        if not self._running:
            return
        self.engine.wait_models()
        end = time.monotonic() + _LATE_S  # the last events; a model beyond the budget has none
        while self._running and time.monotonic() < end:
            time.sleep(0.1)


def _own_space(model_space: ExecutableModelSpace) -> SearchSpace | None:
    """The space behind a model space of ours, in whichever format NNI keeps it."""
    raw = getattr(model_space, "model_space", None)
    if isinstance(raw, ArchitectureModelSpace):
        return raw.search_space
    traced = getattr(model_space, "model", None)
    symbol = getattr(traced, "trace_symbol", None)
    if isinstance(symbol, type) and issubclass(symbol, ArchitectureModelSpace):
        return load_space(*traced.trace_args, **traced.trace_kwargs)  # type: ignore[union-attr]
    return None
