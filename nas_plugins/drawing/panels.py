"""Shapes of graphs, stacks, tables and the legend: boxes, words and curves, in points.

Every word is measured before its box is made, so text fits by construction.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nas_plugins.drawing.layout import Layout, Link, Point, Size, layered
from nas_plugins.drawing.palette import INK, NEUTRAL, ROLES, Style, is_absent, style_of
from nas_plugins.drawing.parts import Card, Edge, Frame, Graph, Node, Stack, Table
from nas_plugins.drawing.shapes import BAR, Box, Curve, Panel, Word, insert, text_width

__all__ = ["graph_panel", "legend_panel", "stack_panel", "table_panel"]

_MUTED = "#5A5A5A"
_FRAME = Style("#9A9A9A", "#FAFAFA")
_PADDING = 7.0
_CARD_GAP = 16.0
_COLUMN_HEIGHT = 620.0


# -- text blocks ------------------------------------------------------------------------

Line = tuple[str, float, bool, str]  # text, size, bold, colour


def _block_size(lines: Sequence[Line]) -> tuple[float, float]:
    width = max(text_width(text, size, bold) for text, size, bold, _ in lines)
    return width + 2 * _PADDING, sum(size * 1.35 for _, size, _, _ in lines) + _PADDING


def _write(panel: Panel, lines: Sequence[Line], x: float, y: float) -> None:
    """Centred lines, their middle at (x, y)."""
    top = y - sum(size * 1.35 for _, size, _, _ in lines) / 2
    for text, size, bold, color in lines:
        panel.words.append(Word(x, top + size * 1.35 / 2, text, size, bold, color))
        top += size * 1.35


# -- graphs -----------------------------------------------------------------------------


def graph_panel(graph: Graph, operations: Sequence[str]) -> Panel:
    """A cell, its operations in boxes on the edges, or layers as boxes with skips."""
    right = graph.direction == "right"
    boxes: dict[str, tuple[list[Line], Style]] = {}
    for name, node in graph.nodes.items():
        boxes[name] = (_node_lines(node), _node_style(node, operations))
    links = []
    for number, edge in enumerate(graph.edges):
        via = None
        if edge.operation is not None:
            via = f"\1{number}"
            boxes[via] = (_edge_lines(edge, operations), style_of(edge.operation, operations))
        links.append(Link(edge.source, edge.target, via))
    sizes = {}
    for name, (lines, _) in boxes.items():
        width, height = _block_size(lines)
        if name in graph.nodes and right:  # a pill; of a short name, a circle
            height = max(height, 22.0)
            width = height if width <= height + 4 else width + 4
        sizes[name] = Size(width, height) if right else Size(height, width)
    layout = layered(sizes, links)
    return _paint_graph(graph, boxes, sizes, layout, operations)


def _paint_graph(
    graph: Graph,
    boxes: dict[str, tuple[list[Line], Style]],
    sizes: dict[str, Size],
    layout: Layout,
    operations: Sequence[str],
) -> Panel:
    right = graph.direction == "right"
    top = 24.0
    title_width = text_width(graph.title, 11, True)

    def place(point: Point) -> Point:
        along, across = point
        return (along, across + top) if right else (across, along + top)

    width, height = place((layout.along, layout.across))
    if not right:
        width, height = layout.across, layout.along + top
    panel = Panel(max(width, title_width), height)
    panel.words.append(Word(0, 8, graph.title, 11, True, align="left"))
    for edge, route in zip(graph.edges, layout.routes, strict=True):
        style = style_of(edge.operation, operations)
        for i, part in enumerate(route):
            pieces = tuple((place(a), place(b)) for a, b in part)
            absent = is_absent(edge.operation)
            last = i == len(route) - 1
            panel.curves.append(
                Curve(pieces, style, 0 if right else 1, last and not absent, 0.9 if absent else 1.4)
            )
    for name, (lines, style) in boxes.items():
        x, y = place(layout.centers[name])
        size = sizes[name]
        w, h = (size.along, size.across) if right else (size.across, size.along)
        is_node = name in graph.nodes
        round_node = is_node and right
        if is_node or not is_absent(lines[0][0]):
            box = Box(x - w / 2, y - h / 2, w, h, style, min(w, h) / 2 if round_node else 4.0)
            panel.boxes.append(box)
        else:  # the word interrupts the faint line
            panel.boxes.append(Box(x - w / 2, y - 6, w, 12, Style("#FFFFFF", "#FFFFFF"), 0.0))
        _write(panel, lines, x, y)
    return panel


def _node_lines(node: Node) -> list[Line]:
    if node.kind != "layer":
        return [(node.caption, 9.5, True, INK)]
    lines: list[Line] = [(node.caption, 8, False, _MUTED)]
    if node.operation is not None:
        lines.append((node.operation, 10, True, INK))
    return [*lines, *((line, 8.5, False, INK) for line in _joined(node.lines))]


def _joined(lines: Sequence[str], most: float = 150.0) -> list[str]:
    """Short lines side by side."""
    joined: list[str] = []
    for line in lines:
        longer = f"{joined[-1]}  ·  {line}" if joined else line
        if joined and text_width(longer, 8.5) <= most:
            joined[-1] = longer
        else:
            joined.append(line)
    return joined


def _node_style(node: Node, operations: Sequence[str]) -> Style:
    return ROLES[node.kind] if node.operation is None else style_of(node.operation, operations)


def _edge_lines(edge: Edge, operations: Sequence[str]) -> list[Line]:
    assert edge.operation is not None
    color = style_of(edge.operation, operations).text
    return [(edge.operation, 9, False, color), *((line, 8, False, _MUTED) for line in edge.lines)]


# -- stack ------------------------------------------------------------------------------


def stack_panel(stack: Stack, operations: Sequence[str]) -> Panel:
    """Cards one below the other, in as many columns as a readable height needs."""
    width = _card_width(stack.items)
    blocks = [_item_panel(item, operations, width) for item in stack.items]
    columns: list[list[Panel]] = [[]]
    height = 0.0
    for block in blocks:
        if columns[-1] and height + block.height > _COLUMN_HEIGHT:
            columns.append([])
            height = 0.0
        columns[-1].append(block)
        height += block.height + _CARD_GAP
    panel = Panel()
    x, tail = 0.0, None
    for column in columns:
        width = max(block.width for block in column)
        y, middle = 0.0, x + width / 2
        if tail is not None:
            panel.curves.append(_fold(tail, (middle, 0.0), x - _CARD_GAP))
        for block in column:
            if y:
                piece = ((middle, y - _CARD_GAP), (middle, y))
                panel.curves.append(Curve((piece,), NEUTRAL, 1))
            insert(panel, block, middle - block.width / 2, y)
            y += block.height + _CARD_GAP
        tail = (middle, y - _CARD_GAP)
        panel.height = max(panel.height, y - _CARD_GAP)
        x += width + 2 * _CARD_GAP
    panel.width = x - 2 * _CARD_GAP
    if len(columns) > 1:  # room for the connectors above and below
        shifted = Panel(panel.width, panel.height + 2 * _CARD_GAP)
        insert(shifted, panel, 0, _CARD_GAP)
        return shifted
    return panel


def _fold(tail: Point, head: Point, gutter: float) -> Curve:
    """From the bottom of one column through the gutter to the top of the next."""
    low, high = tail[1] + _CARD_GAP * 0.7, head[1] - _CARD_GAP * 0.9
    corners = [tail, (tail[0], low), (gutter, low), (gutter, high), (head[0], high), head]
    return Curve(tuple(itertools.pairwise(corners)), NEUTRAL, 1)


def _item_panel(item: Card | Frame, operations: Sequence[str], width: float) -> Panel:
    if isinstance(item, Card):
        return _card(item, operations, width)
    return _frame(item, operations, width)


def _card_lines(card: Card) -> list[Line]:
    lines: list[Line] = [(card.caption, 8, False, _MUTED), (card.text, 10, True, INK)]
    return [*lines, *((line, 8.5, False, INK) for line in _joined(card.lines))]


def _card_width(items: Sequence[Card | Frame]) -> float:
    """Of the widest card, frames' included: all get the same."""
    widths = [
        _card_width(item.items) if isinstance(item, Frame) else _block_size(_card_lines(item))[0]
        for item in items
    ]
    return max(110.0, *widths) + BAR


def _card(card: Card, operations: Sequence[str], width: float) -> Panel:
    lines = _card_lines(card)
    height = _block_size(lines)[1]
    style = style_of(card.operation, operations)
    panel = Panel(width, height, [Box(0, 0, width, height, style, 4.0, bar=True)])
    _write(panel, lines, (width + BAR) / 2, height / 2)
    return panel


def _frame(frame: Frame, operations: Sequence[str], width: float) -> Panel:
    inner = [_item_panel(item, operations, width) for item in frame.items]
    margin, head = 10.0, 22.0
    width = max(
        max(block.width for block in inner) + 2 * margin,
        text_width(frame.caption, 9, True) + 2 * margin,
    )
    panel = Panel(width)
    y = head
    for i, block in enumerate(inner):
        if i:
            piece = ((width / 2, y - _CARD_GAP), (width / 2, y))
            panel.curves.append(Curve((piece,), NEUTRAL, 1))
        insert(panel, block, (width - block.width) / 2, y)
        y += block.height + _CARD_GAP
    panel.height = y - _CARD_GAP + margin
    panel.boxes.insert(0, Box(0, 0, width, panel.height, _FRAME, 6.0, behind=True))
    panel.words.append(Word(margin, head / 2, frame.caption, 9, True, _MUTED, "left"))
    return panel


# -- tables and legend ------------------------------------------------------------------


def table_panel(table: Table) -> Panel:
    """Names on the left, values on the right, every other row shaded."""
    row = 17.0
    names = max(text_width(name, 9) for name, _ in table.rows)
    values = max(text_width(value, 9, True) for _, value in table.rows)
    width = max(names + values + 4 * _PADDING, text_width(table.title, 11, True))
    panel = Panel(width, 20 + row * len(table.rows))
    panel.words.append(Word(0, 8, table.title, 11, True, align="left"))
    for i, (name, value) in enumerate(table.rows):
        y = 20 + row * i
        if i % 2 == 0:
            panel.boxes.append(Box(0, y, width, row, Style("#F2F2F2", "#F2F2F2"), 0.0))
        panel.words.append(Word(_PADDING, y + row / 2, name, align="left"))
        panel.words.append(Word(width - _PADDING, y + row / 2, value, bold=True, align="right"))
    return panel


def legend_panel(
    shown: Sequence[str], operations: Sequence[str], available: float, *, lines: bool
) -> Panel:
    """Colour of each operation in the picture, and line style if it is on ``lines``."""
    panel = Panel()
    x, y = 0.0, 8.0
    for operation in shown:
        swatch = 26.0 if lines else 10.0
        width = swatch + 6 + text_width(operation, 8.5)
        if x and x + width > available:
            x, y = 0.0, y + 18
        style = style_of(operation, operations)
        if lines:
            sample = (((x, y), (x + swatch, y)),)
            panel.curves.append(Curve(sample, style, arrow=False, width=1.8))
        if not (lines and is_absent(operation)):
            panel.boxes.append(Box(x + swatch / 2 - 5, y - 5, 10, 10, style, 2.0))
        panel.words.append(Word(x + swatch + 6, y, operation, 8.5, align="left"))
        x += width + 16
        panel.width = max(panel.width, x - 16)
    panel.height = y + 8
    return panel
