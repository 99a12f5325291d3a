"""Graphs, stacks and tables that an architecture consists of, read from its labels.

A label ``cell/to<-from`` is an edge of a cell and its choice the operation there. ``inputs``
at ``cell/to`` connects node ``to``; at ``cell/3/x``, with one source and the layer
``cell/3/x/operation``, it is an edge to node 3. Other layers are cards of a stack, in the
order in which the network asks for them, and a choice made inside a candidate is shown
inside its card. ``train/...`` and what belongs to no layer are rows of a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.drawing.outline import Entry, natural_key, outline
from nas_plugins.drawing.palette import is_absent
from nas_plugins.drawing.parts import Card, Edge, Frame, Graph, Node, Picture, Stack, Table
from nas_plugins.space import SearchSpace

__all__ = ["picture"]

_EDGE = re.compile(r"(?:(?P<cell>.*)/)?(?P<to>[^/<]+)<-(?P<source>[^/<]+)")
_SIDE = re.compile(r"(?P<cell>.+)/(?P<to>\d+)/(?P<side>[^/]+)")
_INPUT_WORDS = {"from", "in", "input", "inputs", "skip", "skips", "sources"}
_OP_WORDS = {"choice", "kind", "layer", "op", "operation", "type"}


def picture(space: SearchSpace, architecture: Architecture) -> Picture:
    """Sort every decision of an architecture into graphs, a stack and tables."""
    sorter = _Sorter(outline(space, architecture))
    captions = getattr(space.network, "cell_captions", {})
    graphs = [*sorter.take_sided_graphs(captions), *sorter.take_graphs(captions)]
    stack = Stack(list(sorter.take_items(sorter.top_level())))
    return Picture(graphs, stack, sorter.take_tables(), _operations(space))


def _operations(space: SearchSpace) -> list[str]:
    names: dict[str, None] = {}
    for label in sorted(space.decisions, key=natural_key):
        decision = space.decisions[label]
        if decision.choices is not None and (decision.verb == "layer" or _EDGE.fullmatch(label)):
            names.update(dict.fromkeys(map(str, decision.choices)))
    return list(names)


class _Sorter:
    """Hands each entry to the one place where it is drawn."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._left = {entry.label: entry for entry in entries}
        self._children: dict[str, list[str]] = {}
        for entry in self._left.values():
            if entry.parent is not None:
                self._children.setdefault(entry.parent, []).append(entry.label)
        self._details: dict[str, list[str]] = {}
        for entry in self._left.values():
            owner = self._owner(entry)
            if owner is not None:
                self._details.setdefault(owner, []).append(entry.label)

    def _owner(self, entry: Entry) -> str | None:
        """The layer that an entry is a property of, instead of a layer of its own.

        Of a value, the one layer of its folder, or else the choice it was asked inside; of
        a layer, the layer it was asked inside if its label says that it belongs there.
        """
        folder = _folder(entry.label)
        parent = self._left.get(entry.parent or "")
        if entry.verb == "layer":
            if parent is None or parent.verb != "layer" or not folder:
                return None
            belongs = folder in (parent.label, _folder(parent.label))
            return parent.label if belongs and not _has_digit(_base(entry.label)) else None
        if entry.verb != "value":
            return None
        if parent is not None and parent.verb == "layer" and parent.label == folder:
            return folder
        beside = [
            e.label
            for e in self._left.values()
            if folder
            and e.verb == "layer"
            and _folder(e.label) == folder
            and _folder(e.parent or "") != folder
        ]
        if beside:
            return beside[0] if len(beside) == 1 else None
        return None if _is_numbered_folder(entry.label) else entry.parent

    # -- graphs -------------------------------------------------------------------------

    def take_sided_graphs(self, captions: Mapping[str, Mapping[str, str]]) -> list[Graph]:
        """Cells whose nodes have sides, each with a source and an operation of its own."""
        cells: dict[str, list[tuple[Entry, str, Entry]]] = {}
        for entry in self._left.values():
            side = _SIDE.fullmatch(entry.label)
            operation = self._left.get(f"{entry.label}/operation")
            if (
                side is not None
                and operation is not None
                and (entry.verb, operation.verb, len(entry.inputs)) == ("inputs", "layer", 1)
                and side["side"] not in _INPUT_WORDS
            ):
                cells.setdefault(side["cell"], []).append((entry, side["to"], operation))
        graphs = [self._sided_graph(c, sides, captions) for c, sides in cells.items()]
        return [graph for graph in graphs if graph is not None]

    def _sided_graph(
        self,
        cell: str,
        sides: list[tuple[Entry, str, Entry]],
        captions: Mapping[str, Mapping[str, str]],
    ) -> Graph | None:
        edges = [(entry.inputs[0], to) for entry, to, _ in sides]
        known = sorted({name for edge in edges for name in edge}, key=natural_key)
        if _has_cycle(known, edges):
            return None
        graph = Graph(_title(cell, max(entry.times for entry, _, _ in sides)), "right")
        for (source, to), (entry, _, operation) in zip(edges, sides, strict=True):
            del self._left[entry.label], self._left[operation.label]
            lines = self._inner_lines(operation)
            graph.edges.append(Edge(source, to, str(operation.choice), lines))
        shown = dict(captions.get(cell, {}))
        for to in dict.fromkeys(to for _, to in edges):
            own = [e.label for e in self._left.values() if _folder(e.label) == f"{cell}/{to}"]
            choices = [_value(self._left.pop(label).choice) for label in own]
            if choices:  # how the sides are combined
                shown[to] = "  ".join([shown.get(to, to), *choices])
        _name_cell_nodes(graph, known, shown)
        return graph

    def take_graphs(self, captions: Mapping[str, Mapping[str, str]]) -> list[Graph]:
        cells: dict[str, list[Entry]] = {}
        for entry in self._left.values():
            place = _place(entry)
            if place is not None:
                cells.setdefault(place[0], []).append(entry)
        graphs = []
        for cell, entries in cells.items():
            graph = self._graph(cell, entries, captions.get(cell, {}))
            if graph is not None:
                graphs.append(graph)
        return graphs

    def _graph(self, cell: str, entries: list[Entry], captions: Mapping[str, str]) -> Graph | None:
        on_edges = any(_EDGE.fullmatch(entry.label) for entry in entries)
        wired = {_place(e)[1]: e for e in entries if e.verb == "inputs"}  # type: ignore[index]
        names = {_place(e)[1] for e in entries}  # type: ignore[index]
        if not on_edges:
            names |= self._unwired_nodes(cell, names)
        nodes = sorted(names, key=natural_key)
        edges = [(m["source"], m["to"]) for e in entries if (m := _EDGE.fullmatch(e.label))]
        edges += [
            pair
            for node, entry in wired.items()
            for name in entry.inputs
            if not is_absent(name) and (pair := (_resolve(name, nodes), node)) not in edges
        ]
        known = [*dict.fromkeys(source for source, _ in edges if source not in names), *nodes]
        if _has_cycle(known, edges):
            return None
        times = max(entry.times for entry in entries)
        fallback, direction = ("cell", "right") if on_edges else ("network", "down")
        graph = Graph(_title(cell or fallback, times), direction)
        labels = {(m["source"], m["to"]): e for e in entries if (m := _EDGE.fullmatch(e.label))}
        for entry in entries:
            self._left.pop(entry.label)
        for source, target in edges:
            label = labels.get((source, target))
            operation = None if label is None else str(label.choice)
            lines = () if label is None else self._inner_lines(label)
            graph.edges.append(Edge(source, target, operation, lines))
        if on_edges:
            _name_cell_nodes(graph, known, captions)
        else:
            self._name_layer_nodes(graph, cell, known, set(wired), captions)
        return graph

    def _unwired_nodes(self, cell: str, names: set[str]) -> set[str]:
        """Layers named like the cell's nodes that ask for no inputs, such as the first."""
        stems = {re.sub(r"\d+$", "", name) for name in names}
        found = set()
        for entry in self._left.values():
            folder = _folder(entry.label)
            if folder and _folder(folder) == cell and entry.verb == "layer":
                name = _base(folder)
                if name != re.sub(r"\d+$", "", name) and re.sub(r"\d+$", "", name) in stems:
                    found.add(name)
        return found

    def _name_layer_nodes(
        self,
        graph: Graph,
        cell: str,
        known: list[str],
        wired: set[str],
        captions: Mapping[str, str],
    ) -> None:
        """Boxes of the layers, and what joins those that nothing does.

        In ``captions``, ``concat`` says that all layers leave the graph, not only those that no
        other reads, and ``unwired`` that a layer without inputs reads the graph's own.
        """
        layers = []
        for name in known:
            path = f"{cell}/{name}" if cell else name
            own = [e for e in self._left.values() if _folder(e.label) == path]
            if not own and name not in wired:
                graph.nodes[name] = Node(name, f"input {name}", "input")
                continue
            layers.append(name)
            layers_here = [e for e in own if e.verb == "layer"]
            named = [e for e in layers_here if _base(e.label) in _OP_WORDS]
            operation = next(iter(named or layers_here), None)
            lines: list[str] = []
            for entry in own:
                if self._left.pop(entry.label, None) is not None:
                    lines += [] if entry is operation else [_line(entry.label, entry.choice)]
                    lines += self._inner_lines(entry)
            graph.nodes[name] = Node(
                name,
                name,
                "layer",
                None if operation is None else str(operation.choice),
                tuple(lines),
            )
        inputs = [name for name in graph.nodes if graph.nodes[name].kind == "input"]
        if len(inputs) == 1:
            graph.nodes[inputs[0]] = Node(inputs[0], "input", "input")
        for i, name in enumerate(layers):
            if name not in wired:
                before = layers[i - 1] if i else _input_of(graph)
                graph.edges.append(Edge(before, name))
            elif "unwired" in captions and all(edge.target != name for edge in graph.edges):
                graph.edges.append(Edge(_input_of(graph), name))
        _join_ends(graph, layers, all_leave="concat" in captions)

    # -- stack --------------------------------------------------------------------------

    def top_level(self) -> list[str]:
        return [label for label, e in self._left.items() if e.parent not in self._left]

    def take_items(self, labels: Iterable[str]) -> Iterable[Card | Frame]:
        for label in labels:
            entry = self._left.get(label)
            if entry is None:
                continue
            if entry.verb in ("layer", "repeat") and self._owner(entry) is None:
                if entry.verb == "layer" or not self._drawn_elsewhere(entry):
                    yield self._item(entry)
            elif entry.verb == "value" and _is_numbered_folder(label) and not self._owner(entry):
                yield self._value_card(entry)

    def _drawn_elsewhere(self, entry: Entry) -> bool:
        inner = self._children.get(entry.label, [])
        return bool(inner) and not any(label in self._left for label in inner)

    def _item(self, entry: Entry) -> Card | Frame:
        self._left.pop(entry.label)
        lines = self._take_lines(self._details.get(entry.label, []))
        if entry.verb == "repeat":
            text = f"{entry.choice} block" + ("" if entry.choice == 1 else "s")
            operation, caption = None, entry.label
        else:
            text = operation = str(entry.choice)
            folder = _folder(entry.label)
            caption = folder if folder and _base(entry.label) in _OP_WORDS else entry.label
        caption = _title(caption, entry.times)
        items = tuple(self.take_items(self._children.get(entry.label, [])))
        if not items:
            return Card(caption, operation, text, lines)
        return Frame("  ·  ".join([f"{caption}: {text}", *lines]), items)

    def _value_card(self, entry: Entry) -> Card:
        folder = _folder(entry.label)
        own = [e for e in self._left.values() if _folder(e.label) == folder and e.verb == "value"]
        lines = [_line(self._left.pop(e.label).label, e.choice) for e in own]
        return Card(_title(folder, entry.times), None, lines[0], tuple(lines[1:]))

    def _inner_lines(self, entry: Entry) -> tuple[str, ...]:
        """What was chosen inside a candidate, however deep, one line each."""
        details = self._details.get(entry.label, [])
        return self._take_lines([*self._children.get(entry.label, []), *details])

    def _take_lines(self, labels: Iterable[str]) -> tuple[str, ...]:
        lines: list[str] = []
        for label in labels:
            entry = self._left.pop(label, None)
            if entry is not None:
                lines += [_line(label, entry.choice), *self._inner_lines(entry)]
        return tuple(lines)

    # -- tables -------------------------------------------------------------------------

    def take_tables(self) -> list[Table]:
        tables: dict[str, Table] = {}
        for entry in self._left.values():
            folder = _folder(entry.label)
            table = tables.setdefault(folder, Table(folder or "values"))
            table.rows.append((_base(entry.label), _value(entry.choice)))
        self._left.clear()
        return list(tables.values())


# -- cells ------------------------------------------------------------------------------


def _name_cell_nodes(graph: Graph, known: list[str], captions: Mapping[str, str]) -> None:
    """Captions, and the node that intermediate ones are concatenated into if there is one.

    ``captions`` is the network's own note, ``cell_captions[cell]``: node to caption. A name
    there that no edge has is the concatenation of all nodes but the inputs; under the name
    ``unread``, of those that no other node reads.
    """
    targets = {edge.target for edge in graph.edges}
    sources = {edge.source for edge in graph.edges}
    for name in known:
        kind = "node" if name in targets else "input"
        if name in targets and name not in sources and not set(captions) - set(known):
            kind = "output"
        graph.nodes[name] = Node(name, captions.get(name, name), kind)
    inner = [name for name, node in graph.nodes.items() if node.kind == "node"]
    for name in captions:
        if name not in graph.nodes and name.isdigit():  # an input that no edge reads
            graph.nodes[name] = Node(name, captions[name], "input")
        elif name not in graph.nodes:
            graph.nodes[name] = Node(name, captions[name], "output")
            joined = [node for node in inner if name != "unread" or node not in sources]
            graph.edges += [Edge(node, name) for node in joined]


def _join_ends(graph: Graph, layers: list[str], *, all_leave: bool) -> None:
    sources = set() if all_leave else {edge.source for edge in graph.edges}
    graph.nodes[_OUTPUT] = Node(_OUTPUT, "output", "output")
    graph.edges += [Edge(name, _OUTPUT) for name in layers if name not in sources]


_INPUT, _OUTPUT = "<input>", "<output>"  # no label has these: "<" is not allowed in a node


def _input_of(graph: Graph) -> str:
    inputs = [name for name, node in graph.nodes.items() if node.kind == "input"]
    if inputs:
        return inputs[-1]
    graph.nodes = {_INPUT: Node(_INPUT, "input", "input"), **graph.nodes}
    return _INPUT


def _resolve(name: str, nodes: list[str]) -> str:
    """The node an input's name means: itself, or the one whose trailing number it is."""
    if name in nodes:
        return name
    numbered = [node for node in nodes if re.fullmatch(rf"\D+{re.escape(name)}", node)]
    return numbered[0] if name.isdigit() and len(numbered) == 1 else name


def _has_cycle(nodes: list[str], edges: list[tuple[str, str]]) -> bool:
    left = set(nodes)
    while left:
        free = {n for n in left if not any(s in left and t == n for s, t in edges)}
        if not free:
            return True
        left -= free
    return False


def _place(entry: Entry) -> tuple[str, str] | None:
    """Cell and node that an edge or an ``inputs`` decision leads to."""
    edge = _EDGE.fullmatch(entry.label)
    if edge is not None and entry.verb in ("layer", "value"):
        return edge["cell"] or "", edge["to"]
    if entry.verb != "inputs" or _base(entry.label) == "operations":
        return None
    path = entry.label
    if _folder(path) and _base(path) in _INPUT_WORDS:
        path = _folder(path)
    return _folder(path), _base(path)


# -- words ------------------------------------------------------------------------------


def _folder(label: str) -> str:
    return label.rpartition("/")[0]


def _base(label: str) -> str:
    return label.rpartition("/")[2]


def _is_numbered_folder(label: str) -> bool:
    return _has_digit(_base(_folder(label)))


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _title(name: str, times: int) -> str:
    return name + (f"  ×{times}" if times > 1 else "")


def _line(label: str, choice: Choice) -> str:
    return f"{_base(label)} {_value(choice)}"


def _value(choice: Choice) -> str:
    return f"{choice:.4g}" if isinstance(choice, float) else str(choice)
