"""The page: panels below a title, painted with matplotlib.

Only matplotlib's objects are used, never ``pyplot``: no global state, no display.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas_plugins.architecture import Architecture
from nas_plugins.drawing.palette import INK
from nas_plugins.drawing.panels import graph_panel, legend_panel, stack_panel, table_panel
from nas_plugins.drawing.parts import Card, Frame, Picture
from nas_plugins.drawing.shapes import (
    BAR,
    MARGIN,
    Box,
    Curve,
    Panel,
    Word,
    join_panels,
    stroke,
    text_width,
)
from nas_plugins.drawing.structure import picture
from nas_plugins.space import SearchSpace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

__all__ = ["compose", "paint"]

_WIDTH = 700.0  # beyond it, panels go to the next shelf


def compose(space: SearchSpace, architecture: Architecture, title: str | None = None) -> Panel:
    """All shapes of the picture of an architecture, on one page."""
    drawn = picture(space, architecture)
    panels = [graph_panel(graph, drawn.operations) for graph in drawn.graphs]
    if drawn.stack.items:
        panels.append(stack_panel(drawn.stack, drawn.operations))
    panels += [table_panel(table) for table in drawn.tables]
    body = join_panels(panels, _WIDTH)
    shown = _shown(drawn)
    on_lines = any(edge.operation for graph in drawn.graphs for edge in graph.edges)
    room = max(body.width, 520.0)
    legend = [legend_panel(shown, drawn.operations, room, lines=on_lines)] if shown else []
    heading = title if title is not None else f"{space.name}  ·  {architecture.id}"
    head = Panel(text_width(heading, 13, True), 16 if heading else 0)
    if heading:
        head.words.append(Word(0, 8, heading, 13, True, INK, "left"))
    if not panels:
        head.words.append(Word(0, 30, "no decisions", 10, align="left"))
        head.height = 40
    return join_panels([head, body, *legend], 0.0, gap=18.0)


def _shown(drawn: Picture) -> list[str]:
    """Operations in the picture, in the order of their colours."""
    used = {edge.operation for graph in drawn.graphs for edge in graph.edges}
    used |= {node.operation for graph in drawn.graphs for node in graph.nodes.values()}

    def visit(items: Any) -> None:
        for item in items:
            if isinstance(item, Card):
                used.add(item.operation)
            elif isinstance(item, Frame):
                visit(item.items)

    visit(drawn.stack.items)
    return [operation for operation in drawn.operations if operation in used]


def paint(page: Panel) -> Figure:
    """A figure as large as the page, with its own Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = page.width + 2 * MARGIN, page.height + 2 * MARGIN
    figure = Figure(figsize=(width / 72, height / 72), dpi=144, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-MARGIN, width - MARGIN)
    axes.set_ylim(height - MARGIN, -MARGIN)
    for curve in page.curves:
        _paint_curve(axes, curve)
    _paint_boxes(axes, page)
    for word in page.words:
        axes.text(
            word.x,
            word.y,
            word.text,
            fontsize=word.size,
            fontfamily="DejaVu Sans",
            fontweight="bold" if word.bold else "normal",
            color=word.color,
            ha=word.align,
            va="center_baseline",
            parse_math=False,
            zorder=4,
        )
    return figure


def _paint_boxes(axes: Axes, page: Panel) -> None:
    from matplotlib.patches import PathPatch, Rectangle

    for box in page.boxes:
        shape = PathPatch(
            _rounded(box),
            facecolor=box.style.fill,
            edgecolor=box.style.line,
            linewidth=1.2,
            zorder=0 if box.behind else 3,
        )
        axes.add_patch(shape)
        if box.bar:
            bar = Rectangle(
                (box.x, box.y), BAR, box.height, facecolor=box.style.line, linewidth=0, zorder=3
            )
            axes.add_patch(bar)
            bar.set_clip_path(shape)


def _rounded(box: Box) -> Path:
    """Rectangle with corners that are quarters of a circle."""
    from matplotlib.path import Path

    r = min(box.radius, box.width / 2, box.height / 2)
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    k = r * (1 - 0.5523)  # control points of a Bézier quarter circle
    corners = [
        ((right - r, top), (right - k, top), (right, top + k), (right, top + r)),
        ((right, bottom - r), (right, bottom - k), (right - k, bottom), (right - r, bottom)),
        ((left + r, bottom), (left + k, bottom), (left, bottom - k), (left, bottom - r)),
        ((left, top + r), (left, top + k), (left + k, top), (left + r, top)),
    ]
    vertices = [point for corner in corners for point in corner]
    codes = [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4] * 4
    codes[0] = Path.MOVETO
    return Path([*vertices, vertices[0]], [*codes, Path.CLOSEPOLY])


def _paint_curve(axes: Axes, curve: Curve) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    drawn = stroke(curve)
    vertices, codes = [drawn.start], [Path.MOVETO]
    for step in drawn.steps:
        vertices += step
        codes += [Path.LINETO] if len(step) == 1 else [Path.CURVE4] * 3
    if drawn.head:
        axes.add_patch(Polygon(drawn.head, closed=True, color=curve.style.line, lw=0, zorder=2))
    axes.add_patch(
        PathPatch(
            Path(vertices, codes),
            fill=False,
            edgecolor=curve.style.line,
            linewidth=curve.width,
            linestyle=curve.style.dashes,
            capstyle="butt",
            zorder=1,
        )
    )
