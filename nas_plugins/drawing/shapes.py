"""Shapes on a page: boxes, words and curves; lengths are in points (1/72 inch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from nas_plugins.drawing.layout import Point
from nas_plugins.drawing.palette import INK, Style

__all__ = ["BAR", "Box", "Curve", "Panel", "Word", "insert", "join_panels", "text_width"]

BAR = 5.0
"""Width of the coloured bar at a card's left."""


@dataclass(frozen=True)
class Box:
    """Rounded rectangle with its upper left corner at ``(x, y)``.

    Attributes:
        bar: Whether there is a coloured bar at its left.
        behind: Whether curves run over it.
    """

    x: float
    y: float
    width: float
    height: float
    style: Style
    radius: float = 4.0
    bar: bool = False
    behind: bool = False


@dataclass(frozen=True)
class Word:
    """Text whose left, middle or right is at ``x`` and whose middle is at ``y``."""

    x: float
    y: float
    text: str
    size: float = 9.0
    bold: bool = False
    color: str = INK
    align: str = "center"


@dataclass(frozen=True)
class Curve:
    """Straight pieces with bends between them; bends leave in direction ``axis``."""

    pieces: tuple[tuple[Point, Point], ...]
    style: Style
    axis: int = 0
    arrow: bool = True
    width: float = 1.4


@dataclass
class Panel:
    """Shapes in a rectangle whose upper left corner is the origin; y points down."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width in points, in the font that the figure uses."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def insert(target: Panel, part: Panel, dx: float, dy: float) -> None:
    """Copy a panel's shapes into another, moved."""
    for box in part.boxes:
        target.boxes.append(replace(box, x=box.x + dx, y=box.y + dy))
    for word in part.words:
        target.words.append(replace(word, x=word.x + dx, y=word.y + dy))
    for curve in part.curves:
        pieces = tuple(((a[0] + dx, a[1] + dy), (b[0] + dx, b[1] + dy)) for a, b in curve.pieces)
        target.curves.append(replace(curve, pieces=pieces))


def join_panels(panels: Sequence[Panel], width: float, gap: float = 28.0) -> Panel:
    """Shelves from left to right, top to bottom."""
    page = Panel()
    x = y = shelf = 0.0
    for panel in panels:
        if x and x + panel.width > width:
            x, y, shelf = 0.0, y + shelf + gap, 0.0
        insert(page, panel, x, y)
        page.width = max(page.width, x + panel.width)
        shelf = max(shelf, panel.height)
        page.height = max(page.height, y + shelf)
        x += panel.width + gap
    return page
