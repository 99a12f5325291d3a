"""A tuner whose first trial trains a supernet. Loads neither torch nor Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nni import NoMoreTrialError

from nas_plugins.errors import NasPluginsError
from nas_plugins.nni import records
from nas_plugins.nni.metric import SUPERNET, decoded, failure_in, is_of_supernet
from nas_plugins.nni.tuner import UNFINISHED, ArchitectureTuner

__all__ = ["SupernetFailedError", "SupernetTuner"]


class SupernetFailedError(NasPluginsError, RuntimeError):
    """The trial that trains the supernet ended without a ranking."""


class SupernetTuner(ArchitectureTuner):
    """Has a supernet trained, then its best architectures, then what a strategy proposes.

    The first trial (:mod:`nas_plugins.nni.supernet_trial`) reports what the supernet's search
    found out, as a :class:`~nas_plugins.prior.Prior`. NNI's requests wait until then. From it
    the strategy :class:`~nas_plugins.strategies.SupernetPrior` proposes the children.

    If the supernet's trial fails, so does the experiment: ``nnictl resume`` has it trained
    again, from its last checkpoint.

    Args:
        mutator: Name of the method, as the web portal is to show it.
        num_ranked: How many of the supernet's best architectures come before the strategy.
        strategy: Name of that strategy, or ``package.module:Class``.
        space, space_options, seed, optimize_mode, history: See :class:`ArchitectureTuner`.
        options: Of the strategy.

    Raises:
        StrategyNameError: Unknown strategy or option; the message lists the known ones.
    """

    def __init__(
        self,
        mutator: str,
        num_ranked: int,
        strategy: str = "regularized_evolution",
        space: str | None = None,
        space_options: Mapping[str, Any] | None = None,
        seed: int = 0,
        optimize_mode: str = "maximize",
        history: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            "supernet_prior",
            space,
            space_options,
            seed,
            optimize_mode,
            history,
            inner=strategy,
            inner_options=options,
            num_initial=num_ranked,
        )
        self._mutator = mutator
        self._submitted: int | None = None  # parameter id of the supernet's trial
        self._trains = self._knows = False
        self._waiting: list[int] = []
        self._send: Callable[[int, Any], None] | None = None

    # -- called by NNI ------------------------------------------------------------------

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], **kwargs: Any
    ) -> list[dict[str, Any]]:
        """As many proposals as there can be; the others follow when the supernet is trained."""
        self._send = kwargs.get("st_callback")
        found = super().generate_multiple_parameters(parameter_id_list, **kwargs)
        if not self._knows:
            self._waiting += parameter_id_list[len(found) :]
        return found

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """The supernet's training, or the next architecture.

        Raises:
            NoMoreTrialError: The supernet is being trained.
        """
        if self._knows:
            return super().generate_parameters(parameter_id, **kwargs)
        if self._trains:
            raise NoMoreTrialError("the supernet is being trained")
        self._trains, self._submitted = True, parameter_id
        return {SUPERNET: self._mutator}

    def receive_trial_result(
        self, parameter_id: int, parameters: Mapping[str, Any], value: Any, **kwargs: Any
    ) -> None:
        # Not by the parameters: NNI's message that there are no more trials blanks those of the
        # first one that was asked for.
        if parameter_id == self._submitted:
            self._start(value)
        else:
            super().receive_trial_result(parameter_id, parameters, value, **kwargs)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        if parameter_id is None or parameter_id != self._submitted:
            super().trial_end(parameter_id, success, **kwargs)
        elif not success and not self._knows:
            raise SupernetFailedError("the supernet's trial failed without a word; see its log")

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Among them the supernet, if a stop cut off its trial: NNI runs that again."""
        supernets = [e for e in data if is_of_supernet(e.get("parameter"))]
        for entry in [] if self._skips_import else supernets:
            self._start(decoded(entry.get("value")))
        super().import_data([entry for entry in data if entry not in supernets])

    # -- private ------------------------------------------------------------------------

    def _start(self, value: Any) -> None:
        """Go on with what the supernet's trial reported."""
        if not is_of_supernet(value):
            raise SupernetFailedError(f"the supernet's trial failed: {failure_in(value)}")
        if self._knows:
            return
        self._learn(value)
        waiting, self._waiting = self._waiting, []
        for parameter_id in waiting:
            assert self._send is not None
            self._send(parameter_id, self.generate_parameters(parameter_id))

    def _learn(self, value: Mapping[str, Any]) -> None:
        self._knows = True
        self._options["prior"] = value[SUPERNET]
        self._restart(self._ready().space)

    def _read(self, directory: Path) -> tuple[list[records.Trial], list[records.Imported]]:
        trials, imports = super()._read(directory)
        for trial in trials:
            if is_of_supernet(trial.value):
                self._learn(trial.value)
            elif is_of_supernet(trial.parameters) and trial.status in UNFINISHED:
                self._trains = True
        return [t for t in trials if not is_of_supernet(t.parameters)], imports
