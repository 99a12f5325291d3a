"""How a benchmark shows its rows: a table, and JSON where asked for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")


def known(path: Path | None) -> list[dict[str, Any]]:
    """The rows that a file has from earlier runs; none where there is no file."""
    return (
        json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else []
    )


def merged(
    rows: list[dict[str, Any]], new: list[dict[str, Any]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """The new rows in place of those that are of the same measurement by their keys."""
    replaced = {tuple(row[key] for key in keys) for row in new}
    return [row for row in rows if tuple(row[key] for key in keys) not in replaced] + new


def write(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Into a file if there is one."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def report(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print rows of equal keys as a table, and write them to a file if there is one."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    write(rows, path)
