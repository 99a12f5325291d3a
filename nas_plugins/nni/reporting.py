"""What a trial script says to NNI: give me an architecture, here is its score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import nni

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.nni.metric import failure_metric, final_metric
from nas_plugins.nni.search_space import architecture_of
from nas_plugins.space import SearchSpace

__all__ = ["failing_loudly", "receive_architecture", "receive_epochs", "report_score"]

BUDGET = "TRIAL_BUDGET"
"""Key under which NNI's Hyperband and BOHB say how long to train."""


def receive_architecture(space: SearchSpace) -> Architecture:
    """The architecture this trial is to evaluate; the default one outside NNI.

    Raises:
        ArchitectureError: The parameters are not of this space.
    """
    parameters = dict(nni.get_next_parameter() or {})
    parameters.pop(BUDGET, None)
    return architecture_of(space, parameters) if parameters else space.default()


def receive_epochs() -> int | None:
    """How long NNI's Hyperband or BOHB wants this trial to train; ``None`` under a tuner.

    To be asked once the architecture was received.
    """
    parameters = nni.get_current_parameter()  # of a NasExperiment's trial it is the model
    budget = parameters.get(BUDGET) if isinstance(parameters, Mapping) else None
    return None if budget is None else max(1, round(budget))


def report_score(
    architecture: Mapping[str, Choice], score: float, metrics: Mapping[str, float] | None = None
) -> None:
    """Report the final result with the architecture that earned it.

    Args:
        architecture: What was evaluated.
        score: What the tuner optimizes.
        metrics: Further numbers; those that are not finite are left out.

    Raises:
        ScoreError: The score is NaN or infinite.
    """
    nni.report_final_result(final_metric(architecture, score, metrics))


@contextmanager
def failing_loudly(architecture: Mapping[str, Choice]) -> Iterator[None]:
    """Report an exception as this architecture's result, then let it end the trial.

    Otherwise the tuner would learn that some trial failed, but not reliably which.
    """
    try:
        yield
    except Exception as error:
        nni.report_final_result(failure_metric(architecture, f"{type(error).__name__}: {error}"))
        raise
