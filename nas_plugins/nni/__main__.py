"""``python -m nas_plugins.nni report|export EXPERIMENT``: the true results of an experiment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_plugins.errors import NasPluginsError
from nas_plugins.nni import records
from nas_plugins.nni.metric import is_of_supernet
from nas_plugins.nni.results import report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the results of an experiment."""
    parser = argparse.ArgumentParser(prog="python -m nas_plugins.nni")
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("report", help="print every trial, the best first")
    export = commands.add_parser(
        "export", help="write JSON that `nnictl experiment import` and the tuner's history read"
    )
    for command in (table, export):
        command.add_argument("experiment", help="id as nnictl prints it, or its directory")
    export.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        rows = report(options.experiment)
        minimizes = records.minimizes(records.experiment_directory(options.experiment))
    except NasPluginsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.command == "export":
        scored = _whole(rows)
        options.file.write_text(json.dumps(scored, indent=2) + "\n", encoding="utf-8")
        print(f"{len(scored)} results in {options.file}")
        return 0
    if not rows:
        log = records.experiment_directory(options.experiment) / "log" / "dispatcher.log"
        print(f"no trial yet; what the tuner says is in {log}", file=sys.stderr)
    sign = 1.0 if minimizes else -1.0
    rows.sort(key=lambda row: (row["score"] is None, row["partial"], sign * (row["score"] or 0.0)))
    for row in rows:
        score = "-" if row["score"] is None else f"{row['score']:.4f}"
        found = row["error"] or json.dumps(row["architecture"] or row["parameter"])
        if row["status"] == "FAILED" and not row["error"]:
            found = _last_words(records.experiment_directory(options.experiment), row["trial"])
        print(f"{row['trial']}  {row['status']:<10} {score:>8}  {found}")
    return 0


def _last_words(directory: Path, trial: str) -> str:
    """Why a trial failed that did not report it, as far as its standard error tells."""
    for path in directory.glob(f"environments/*/trials/{trial}/trial.stderr"):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        return f"{said[-1]} ({path})" if said else str(path)
    return "without a word"


def _whole(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What was trained to its end: a score after a part of a training is none."""
    known = [row for row in rows if row["value"] is not None and not row["partial"]]
    known = [row for row in known if not is_of_supernet(row["parameter"])]
    longest = max((_epochs(row) for row in known), default=0.0)
    return [row for row in known if _epochs(row) in (0.0, longest)]


def _epochs(row: Mapping[str, Any]) -> float:
    """How long Hyperband had it trained, 0 for a trial that it did not."""
    value = row["value"]
    return float(value.get("epochs", 0)) if isinstance(value, Mapping) else 0.0


if __name__ == "__main__":
    sys.exit(main())
