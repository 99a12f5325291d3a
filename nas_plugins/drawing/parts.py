"""What a picture consists of: graphs, a stack of layers, tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

__all__ = ["Card", "Edge", "Frame", "Graph", "Node", "Picture", "Stack", "Table"]


@dataclass(frozen=True)
class Node:
    """A tensor of a cell, or a layer where operations sit on nodes.

    Attributes:
        name: Unique in its graph.
        caption: What is written on it.
        kind: ``input``, ``node``, ``output`` or ``layer``.
        operation: Of a ``layer``, what it does.
        lines: Further lines of text.
    """

    name: str
    caption: str
    kind: str = "node"
    operation: str | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A connection; with an operation it carries a label of its own."""

    source: str
    target: str
    operation: str | None = None
    lines: tuple[str, ...] = ()


@dataclass
class Graph:
    """A cell; ``direction`` is ``right`` with operations on edges, else ``down``."""

    title: str
    direction: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)


@dataclass(frozen=True)
class Card:
    """One layer of a stack."""

    caption: str
    operation: str | None
    text: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """Layers that exist inside one choice, under its caption."""

    caption: str
    items: tuple[Union[Card, Frame], ...]


@dataclass
class Stack:
    """Layers in sequence."""

    items: list[Card | Frame] = field(default_factory=list)


@dataclass
class Table:
    """Names and values."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Picture:
    """Everything that is drawn of one architecture.

    Attributes:
        operations: Every operation the space has, in a fixed order: who gets which colour.
    """

    graphs: list[Graph]
    stack: Stack
    tables: list[Table]
    operations: list[str]
