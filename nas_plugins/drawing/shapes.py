"""Shapes on a page: boxes, words and curves; lengths are in points (1/72 inch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from nas_plugins.drawing.layout import Point
from nas_plugins.drawing.palette import INK, Style

__all__ = [
    "BAR",
    "MARGIN",
    "Box",
    "Curve",
    "Panel",
    "Stroke",
    "Word",
    "insert",
    "join_panels",
    "stroke",
    "text_width",
]

BAR = 5.0
"""Width of the coloured bar at a card's left."""

MARGIN = 18.0
"""Around a page."""

_ARROW = 6.5


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
class Stroke:
    """A curve as a pen draws it.

    Attributes:
        start: Where the pen is put down.
        steps: One point for a straight line, three for a cubic Bézier curve.
        head: Corners of the arrow's head; empty without one.
    """

    start: Point
    steps: list[tuple[Point, ...]]
    head: list[Point]


def stroke(curve: Curve) -> Stroke:
    """Pieces, the bends between them, and the head, which shortens the last piece."""
    start = last = curve.pieces[0][0]
    steps: list[tuple[Point, ...]] = []
    for first, second in curve.pieces:
        if first != last:
            steps.append((*_controls(last, first, curve.axis), first))
        steps.append((second,))
        last = second
    if not curve.arrow:
        return Stroke(start, steps, [])
    back = (last[0] - _ARROW, last[1]) if curve.axis == 0 else (last[0], last[1] - _ARROW)
    steps[-1] = (back,)
    dx, dy = (0.0, 2.8) if curve.axis == 0 else (2.8, 0.0)
    head = [last, (back[0] + dx, back[1] + dy), (back[0] - dx, back[1] - dy)]
    return Stroke(start, steps, head)


def _controls(start: Point, end: Point, axis: int) -> tuple[Point, Point]:
    """Control points of a bend that leaves and arrives along the axis."""
    middle = (start[axis] + end[axis]) / 2
    if axis == 0:
        return (middle, start[1]), (middle, end[1])
    return (start[0], middle), (end[0], middle)


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
