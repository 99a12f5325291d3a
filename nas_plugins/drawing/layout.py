"""Layered drawing of an acyclic graph whose edges run through no box.

After Sugiyama, Tagawa & Toda 1981: boxes stand in ranks, an edge that spans several ranks
gets a waypoint in each, ranks are ordered so that few edges cross, and positions across are
the least squares that keep boxes and waypoints apart. Within a rank an edge runs straight
at its own waypoint, and it bends only in the gap between ranks, where no box is: so it
cannot run through one. Lengths are in points (1/72 inch); ``along`` is the direction of the
ranks, ``across`` the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Layout", "Link", "Size", "layered"]

Point = tuple[float, float]

_SEPARATION = 12.0  # between boxes of one rank
_WAYPOINT = 7.0  # room across that an edge takes in a rank it passes
_GAPS = (26.0, 64.0)  # least and most between two ranks


@dataclass(frozen=True)
class Size:
    """Extent of a box in points."""

    along: float
    across: float


@dataclass(frozen=True)
class Link:
    """An edge between two boxes, through the box ``via`` if it has a label."""

    source: str
    target: str
    via: str | None = None


@dataclass
class Layout:
    """Where everything is.

    Attributes:
        centers: Box to (along, across) of its centre.
        routes: For each link its parts, two with ``via``, else one. A part is the straight
            pieces it consists of, one per rank; between two pieces it bends.
        along, across: Extent of the whole.
    """

    centers: dict[str, tuple[float, float]]
    routes: list[list[list[tuple[Point, Point]]]]
    along: float
    across: float


def layered(sizes: Mapping[str, Size], links: Sequence[Link]) -> Layout:
    """Place boxes of the given sizes; ``links`` must have no cycle."""
    return _Layered(sizes, links).layout()


class _Layered:
    def __init__(self, sizes: Mapping[str, Size], links: Sequence[Link]) -> None:
        self.sizes = dict(sizes)
        self.links = links
        self.rank = self._ranks()
        self.chains = self._chains()
        self.order = self._initial_order()
        self.above, self.below = self._neighbours()

    def layout(self) -> Layout:
        self._reduce_crossings()
        across = self._across()
        middles, widths = self._along(across)
        lowest = min(across[i] - self._room(i) / 2 for i in across)
        across = {item: y - lowest for item, y in across.items()}

        def straight(item: str, start: str, end: str) -> tuple[Point, Point]:
            """Where an edge runs straight: from its box's side, or across the whole rank."""
            x, half = middles[self.rank[item]], widths[self.rank[item]] / 2
            left = x + self.sizes[item].along / 2 if item == start else x - half
            right = x - self.sizes[item].along / 2 if item == end else x + half
            return (left, across[item]), (right, across[item])

        routes = []
        for link, chain in zip(self.links, self.chains, strict=True):
            stops = [link.source, *([link.via] if link.via else []), link.target]
            route = []
            for start, end in itertools.pairwise(stops):
                items = chain[chain.index(start) : chain.index(end) + 1]
                route.append([straight(item, start, end) for item in items])
            routes.append(route)
        return Layout(
            {item: (middles[self.rank[item]], across[item]) for item in self.sizes},
            routes,
            middles[-1] + widths[-1] / 2,
            max(across[i] + self._room(i) / 2 for i in across),
        )

    # -- ranks --------------------------------------------------------------------------

    def _ranks(self) -> dict[str, int]:
        """Longest path from a source; two ranks per step where labels stand in between."""
        labels = {link.via for link in self.links}
        step = 2 if labels - {None} else 1
        rank = {name: 0 for name in self.sizes if name not in labels}
        for _ in rank:
            for link in self.links:
                rank[link.target] = max(rank[link.target], rank[link.source] + step)
        crowd: dict[int, int] = {}
        spans = [(rank[a], rank[b], via) for a, b, via in self._labelled()]
        for start, end, via in sorted(spans, key=lambda span: span[1] - span[0]):
            # A label of a long edge goes where fewest are, next to the middle among these.
            free = range(start + 1, end, 2)
            best = min(free, key=lambda r: (crowd.get(r, 0), abs(2 * r - start - end)))
            rank[via] = best
            crowd[best] = crowd.get(best, 0) + 1
        used = sorted(set(rank.values()))
        return {name: used.index(r) for name, r in rank.items()}

    def _labelled(self) -> list[tuple[str, str, str]]:
        return [(link.source, link.target, link.via) for link in self.links if link.via]

    def _chains(self) -> list[list[str]]:
        """Each link as the boxes and waypoints it passes, one per rank."""
        chains = []
        for number, link in enumerate(self.links):
            fixed = {self.rank[n]: n for n in (link.source, link.via, link.target) if n is not None}
            chain = []
            for r in range(self.rank[link.source], self.rank[link.target] + 1):
                name = fixed.get(r, f"\0{number}@{r}")
                self.rank[name] = r
                chain.append(name)
            chains.append(chain)
        return chains

    def _neighbours(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        above: dict[str, list[str]] = {item: [] for item in self.rank}
        below: dict[str, list[str]] = {item: [] for item in self.rank}
        for chain in self.chains:
            for first, second in itertools.pairwise(chain):
                below[first].append(second)
                above[second].append(first)
        return above, below

    # -- order --------------------------------------------------------------------------

    def _initial_order(self) -> list[list[str]]:
        order: list[list[str]] = [[] for _ in range(max(self.rank.values(), default=0) + 1)]
        for item in [*self.sizes, *(i for chain in self.chains for i in chain)]:
            if item not in order[self.rank[item]]:
                order[self.rank[item]].append(item)
        return order

    def _reduce_crossings(self) -> None:
        """Barycentre sweeps, then exchanges of neighbours, from a few starting orders."""
        initial = self.order
        best: tuple[int, list[list[str]]] | None = None
        for flips in range(4):
            self.order = [r[::-1] if flips >> (i % 2) & 1 else r[:] for i, r in enumerate(initial)]
            for sweep in range(8):
                self._sweep(downwards=sweep % 2 == 0)
                self._exchange()
                crossings = self._crossings()
                if best is None or crossings < best[0]:
                    best = crossings, [row[:] for row in self.order]
        assert best is not None
        self.order = best[1]

    def _sweep(self, *, downwards: bool) -> None:
        neighbours = self.above if downwards else self.below
        ranks = range(1, len(self.order)) if downwards else range(len(self.order) - 2, -1, -1)
        for r in ranks:
            beside = {item: i for i, item in enumerate(self.order[r - 1 if downwards else r + 1])}
            own = {item: i for i, item in enumerate(self.order[r])}

            def key(item: str, beside: dict[str, int] = beside, own: dict[str, int] = own) -> float:
                near = [beside[n] for n in neighbours[item]]
                return sum(near) / len(near) if near else own[item]

            self.order[r].sort(key=key)

    def _exchange(self) -> None:
        for r, row in enumerate(self.order):
            for i in range(len(row) - 1):
                before = self._crossings_at(r)
                row[i], row[i + 1] = row[i + 1], row[i]
                if self._crossings_at(r) >= before:
                    row[i], row[i + 1] = row[i + 1], row[i]

    def _crossings(self) -> int:
        return sum(self._crossings_between(r) for r in range(len(self.order) - 1))

    def _crossings_at(self, r: int) -> int:
        return sum(self._crossings_between(q) for q in (r - 1, r) if 0 <= q < len(self.order) - 1)

    def _crossings_between(self, r: int) -> int:
        place = {item: i for i, item in enumerate(self.order[r + 1])}
        ends = [
            (i, place[n]) for i, item in enumerate(self.order[r]) for n in set(self.below[item])
        ]
        return sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(ends, 2))

    # -- positions ----------------------------------------------------------------------

    def _room(self, item: str) -> float:
        return self.sizes[item].across if item in self.sizes else _WAYPOINT

    def _across(self) -> dict[str, float]:
        """Least squares of the slopes of all segments, boxes kept apart in each rank."""
        across = {}
        for row in self.order:
            offsets = self._offsets(row)
            across.update({i: o - (offsets[-1] / 2) for i, o in zip(row, offsets, strict=True)})
        for _ in range(100):
            for row in (*self.order, *self.order[::-1]):
                wanted, weights = [], []
                for item in row:
                    pulls = [
                        (across[n], self._stiffness(item, n))
                        for n in (*self.above[item], *self.below[item])
                    ]
                    total = sum(w for _, w in pulls)
                    wanted.append(sum(y * w for y, w in pulls) / total if pulls else across[item])
                    weights.append(total or 1.0)
                across.update(zip(row, _apart(wanted, weights, self._offsets(row)), strict=True))
        self._straighten(across)
        return across

    def _straighten(self, across: dict[str, float]) -> None:
        """Put what a long edge passes, its label included, at one position if there is room."""
        for chain in self.chains:
            ends = [chain.index(n) for n in chain if n in self.sizes]
            runs = [chain[1:-1], *(chain[a + 1 : b] for a, b in itertools.pairwise(ends))]
            for run in runs:
                limits = [self._limits(item, across) for item in run]
                low = max((a for a, _ in limits), default=0.0)
                high = min((b for _, b in limits), default=0.0)
                if len(run) > 1 and low <= high:
                    middle = sum(across[item] for item in run) / len(run)
                    across.update(dict.fromkeys(run, min(max(middle, low), high)))
                    break

    def _limits(self, item: str, across: Mapping[str, float]) -> tuple[float, float]:
        """How far an item can move without its neighbours in the rank."""
        row = self.order[self.rank[item]]
        i = row.index(item)

        def room(other: str) -> float:
            return (self._room(item) + self._room(other)) / 2 + _SEPARATION

        low = across[row[i - 1]] + room(row[i - 1]) if i else -math.inf
        high = across[row[i + 1]] - room(row[i + 1]) if i + 1 < len(row) else math.inf
        return low, high

    def _stiffness(self, first: str, second: str) -> float:
        """Long edges are kept straight, after Gansner et al. 1993, section 4."""
        return (4.0, 1.0, 40.0)[(first not in self.sizes) + (second not in self.sizes)]

    def _offsets(self, row: Sequence[str]) -> list[float]:
        """Positions of a row packed as tightly as allowed, the first at 0."""
        offsets = [0.0]
        for first, second in itertools.pairwise(row):
            half = (self._room(first) + self._room(second)) / 2
            offsets.append(offsets[-1] + half + _SEPARATION)
        return offsets

    def _along(self, across: Mapping[str, float]) -> tuple[list[float], list[float]]:
        """Middle and width of each rank; a gap is wider where edges climb."""
        widths = [
            max((self.sizes[i].along for i in row if i in self.sizes), default=0.0)
            for row in self.order
        ]
        middles = [widths[0] / 2]
        for r in range(1, len(self.order)):
            climbs = [
                abs(across[item] - across[n]) for item in self.order[r] for n in self.above[item]
            ]
            gap = min(max(0.4 * max(climbs, default=0.0), _GAPS[0]), _GAPS[1])
            middles.append(middles[-1] + (widths[r - 1] + widths[r]) / 2 + gap)
        return middles, widths


def _apart(
    wanted: Sequence[float], weights: Sequence[float], offsets: Sequence[float]
) -> list[float]:
    """Nearest positions to the wanted that keep order and distance: isotonic regression.

    Pool adjacent violators on ``wanted - offsets``.
    """
    blocks: list[list[float]] = []  # value, weight, count
    for target, weight, offset in zip(wanted, weights, offsets, strict=True):
        blocks.append([target - offset, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, mass, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + value * mass) / (last[1] + mass)
            last[1] += mass
            last[2] += count
    pooled = [value for value, _, count in blocks for _ in range(int(count))]
    return [value + offset for value, offset in zip(pooled, offsets, strict=True)]
