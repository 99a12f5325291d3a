"""Colours of operations, told apart by people who are blind to some, and without colour.

Okabe & Ito 2008, "Color Universal Design": eight colours that stay distinct under the
common colour-vision deficiencies. Each operation has a line style too, and its name is
always written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["INK", "NEUTRAL", "ROLES", "Style", "is_absent", "style_of"]

_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_DASHES: tuple[Any, ...] = (
    "solid",
    (0, (7, 2)),
    (0, (7, 2, 1.5, 2)),
    (0, (3.5, 1.8)),
    (0, (7, 1.8, 1.5, 1.8, 1.5, 1.8)),
)
_ABSENT = {"none", "zero", "zeroize"}
_IDENTITY = {"id", "identity", "skip", "skip_connect", "skip_connection"}

INK = "#1A1A1A"


@dataclass(frozen=True)
class Style:
    """How an operation looks: colour of its lines, of its box, of its text, line style."""

    line: str
    fill: str
    dashes: Any = "solid"
    text: str = INK


def _tint(color: str, share: float = 0.72) -> str:
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(p + (255 - p) * share):02X}" for p in parts)


NEUTRAL = Style("#6B6B6B", "#F2F2F2")
_FAINT = Style("#BDBDBD", "#FFFFFF", (0, (1, 2.2)), "#8A8A8A")
_SKIP = Style("#333333", "#FFFFFF", (0, (4, 2.2)))

ROLES = {
    "input": Style("#4F7F4F", "#DDEBDD"),
    "node": Style("#44617B", "#DCE7F2"),
    "output": Style("#8A7430", "#F6EDCB"),
    "layer": NEUTRAL,
}


def is_absent(operation: str | None) -> bool:
    """Whether an operation means that there is no connection."""
    return operation is not None and operation.lower() in _ABSENT


def style_of(operation: str | None, operations: Sequence[str]) -> Style:
    """Style of an operation among all those of its space; ``None`` is neutral."""
    if operation is None:
        return NEUTRAL
    if is_absent(operation):
        return _FAINT
    if operation.lower() in _IDENTITY:
        return _SKIP
    coloured = [o for o in operations if not is_absent(o) and o.lower() not in _IDENTITY]
    index = coloured.index(operation) if operation in coloured else len(coloured)
    color = _OKABE_ITO[index % len(_OKABE_ITO)]
    # With more operations than colours, a colour comes back with another line style.
    turn = index // len(_OKABE_ITO)
    return Style(color, _tint(color), _DASHES[(index + turn) % len(_DASHES)])
