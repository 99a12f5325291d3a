"""What an experiment has really found, read from each trial's own metric."""

from __future__ import annotations

from typing import Any

from nas_plugins.nni import records
from nas_plugins.nni.metric import architecture_in, failure_in, is_of_supernet, score_in

__all__ = ["report"]


def report(experiment: str) -> list[dict[str, Any]]:
    """All trials of an experiment, in the order in which they finished.

    NNI's own table, ``nnictl experiment export`` and web portal pair scores with the wrong
    parameters when several trials run at once; here each score stands with the architecture
    that its trial reported.

    Written as JSON, the list is what ``nnictl experiment import`` and the tuner's ``history``
    take in.

    Args:
        experiment: Its id as nnictl prints it, or its directory. It may run or be stopped.

    Returns:
        Rows with ``trial``, ``status``, ``partial`` (whether it was stopped early, so that its
        score is that of a part of the training), ``score`` (``None`` when it failed or runs),
        ``architecture``, ``value`` (the metric as reported), ``parameter`` (the architecture
        under the name NNI's import expects), ``error`` (``None``, or why there is no score).
        A trial that trained a supernet has neither score nor architecture; its value holds
        what it found out.

    Raises:
        ExperimentNotFoundError: No such experiment.
    """
    trials, _ = records.read(records.experiment_directory(experiment))
    finished = sorted((t for t in trials if t.reported is not None), key=lambda t: t.reported or 0)
    rest = [t for t in trials if t.reported is None]
    return [_row(trial) for trial in (*finished, *rest)]


def _row(trial: records.Trial) -> dict[str, Any]:
    score = score_in(trial.value)
    architecture = architecture_in(trial.value)
    failed = trial.reported is not None and score is None and not is_of_supernet(trial.value)
    return {
        "trial": trial.trial_id,
        "status": trial.status,
        "partial": trial.partial,
        "score": score,
        "architecture": None if architecture is None else dict(architecture),
        "value": trial.value,
        "parameter": dict(trial.parameters if architecture is None else architecture),
        "error": failure_in(trial.value) if failed else None,
    }
