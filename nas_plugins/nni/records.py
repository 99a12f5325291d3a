"""What an experiment has stored: NNI's database, read only.

The database is the one place where each trial's metric lies beside the trial's own id and
the time it came. It is read directly, so a stopped experiment needs no server.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_plugins.errors import NasPluginsError

__all__ = [
    "ExperimentNotFoundError",
    "Imported",
    "Trial",
    "experiment_directory",
    "minimizes",
    "read",
]


_STOPPED = ("EARLY_STOPPED", "USER_CANCELED")
"""NNI 3.0 mostly writes the second of a trial that an assessor stopped as well."""


class ExperimentNotFoundError(NasPluginsError, LookupError):
    """No NNI experiment has this id, or the directory holds none."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        trial_id: NNI's id, unique for ever, unlike parameter and sequence ids.
        status: As NNI writes it, say ``SUCCEEDED``.
        parameters: Of NNI's row. Right as one of all rows, but with several trials at once
            not necessarily what *this* trial ran.
        proposed: Whether the tuner proposed it, not a user and not NNI repeating another.
        repeated: Whether it was cut off by a stop and run again on resume.
        value: Its final metric as reported, ``None`` if it reported none. Of a trial that an
            assessor or a user stopped, its last intermediate metric.
        reported: When, in milliseconds since 1970.
        submitted: When NNI had it.
        ended: When its status last changed.
        partial: Whether the value is such an intermediate metric.
    """

    trial_id: str
    status: str
    parameters: Mapping[str, Any]
    proposed: bool = True
    repeated: bool = False
    value: Any = None
    reported: int | None = None
    partial: bool = False
    submitted: int = 0
    ended: int = 0


@dataclass(frozen=True)
class Imported:
    """Results a user imported: NNI's list of ``{"parameter": ..., "value": ...}``."""

    entries: list[dict[str, Any]]
    reported: int


def read(directory: Path) -> tuple[list[Trial], list[Imported]]:
    """All trials in the order they were submitted, and all imports.

    Args:
        directory: Of the experiment, ``~/nni-experiments/<id>`` unless configured.

    Raises:
        ExperimentNotFoundError: No database there.
    """
    with closing(_connection(directory)) as connection:
        return list(_trials(connection)), list(_imports(connection))


def minimizes(directory: Path) -> bool:
    """Whether the experiment's tuner looks for the lowest score, as its configuration says.

    Raises:
        ExperimentNotFoundError: No database there.
    """
    with closing(_connection(directory)) as connection:
        row = connection.execute(
            "select params from ExperimentProfile order by revision desc limit 1"
        ).fetchone()
    tuner = (json.loads(row[0]).get("tuner") if row else None) or {}
    return (tuner.get("classArgs") or {}).get("optimize_mode") == "minimize"


def _connection(directory: Path) -> sqlite3.Connection:
    database = directory / "db" / "nni.sqlite"
    if not database.is_file():
        raise ExperimentNotFoundError(
            f"no NNI experiment in {directory}: {database} does not exist; expected the "
            "directory of an experiment, by default ~/nni-experiments/<id>"
        )
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)


def experiment_directory(experiment: str) -> Path:
    """Directory of an experiment given by its id, or by the directory itself.

    Raises:
        ExperimentNotFoundError: Neither; the message lists the known ids.
    """
    if (Path(experiment) / "db").is_dir():
        return Path(experiment)
    from nni.tools.nnictl.config_utils import Experiments

    known = Experiments().get_all_experiments()
    if experiment not in known:
        raise ExperimentNotFoundError(
            f"no experiment {experiment!r}; NNI knows {sorted(known)}. Give one of these ids, or "
            "the experiment's directory"
        )
    return Path(known[experiment]["logDir"]).expanduser() / experiment


def _trials(connection: sqlite3.Connection) -> Iterator[Trial]:
    finals: dict[str, tuple[Any, int]] = {}
    latest: dict[str, tuple[Any, int]] = {}  # of the intermediate metrics
    rows = connection.execute(
        "select trialJobId, type, data, timestamp from MetricData order by sequence, rowid"
    )
    for trial_id, kind, data, timestamp in rows:
        if kind == "FINAL":
            finals.setdefault(trial_id, (_unpacked(data), timestamp))
        elif kind == "PERIODICAL":
            latest[trial_id] = (_unpacked(data), timestamp)
    statuses: dict[str, str] = {}
    repeated: set[str] = set()
    packed: dict[str, dict[str, Any]] = {}
    rows = connection.execute(
        "select trialJobId, event, data, timestamp from TrialJobEvent "
        "where trialJobId != '' order by rowid"
    )
    span: dict[str, tuple[int, int]] = {}
    for trial_id, event, data, timestamp in rows:
        span[trial_id] = (span.get(trial_id, (timestamp,))[0], timestamp)
        statuses[trial_id] = "USER_CANCELED" if event == "USER_TO_CANCEL" else event
        if event == "ADD_RESUMED":
            repeated.add(trial_id)
        if data:
            packed.setdefault(trial_id, json.loads(data))
    for trial_id, status in statuses.items():
        parameters = packed.get(trial_id, {})
        partial = status in _STOPPED and trial_id not in finals and trial_id in latest
        value, reported = (latest if partial else finals).get(trial_id, (None, None))
        yield Trial(
            trial_id,
            status,
            parameters.get("parameters") or {},
            parameters.get("parameter_source") == "algorithm",
            trial_id in repeated,
            value,
            reported,
            partial,
            *span[trial_id],
        )


def _unpacked(data: str) -> Any:
    """NNI stores the JSON text of a JSON text."""
    value = json.loads(data)
    return json.loads(value) if isinstance(value, str) else value


def _imports(connection: sqlite3.Connection) -> Iterator[Imported]:
    rows = connection.execute(
        "select data, timestamp from TrialJobEvent where event = 'IMPORT_DATA' order by rowid"
    )
    for data, timestamp in rows:
        if data:
            yield Imported(json.loads(data), timestamp)
