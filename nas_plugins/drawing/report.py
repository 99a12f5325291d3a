"""One HTML page of a whole search: scores against costs, and each architecture behind its point."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from nas_plugins.architecture import Architecture
from nas_plugins.drawing.page import compose
from nas_plugins.drawing.vector import svg
from nas_plugins.pareto import pareto_front
from nas_plugins.space import SearchSpace

__all__ = ["Objective", "Result", "write_report"]

_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Objective:
    """What a search tries to make large, or small.

    Attributes:
        name: With its unit, such as ``latency (ms)``.
        maximize: Whether higher is better.
    """

    name: str
    maximize: bool = True


@dataclass(frozen=True)
class Result:
    """One trial of a search.

    Attributes:
        number: Of the trial, in the order in which they were started; unique.
        architecture: What was evaluated.
        scores: One for each objective, as the host has them; ``None`` without a result.
        costs: Further facts by name, such as ``parameters``; less is better.
        note: What became of it, such as ``pruned``.
    """

    number: int
    architecture: Architecture
    scores: tuple[float, ...] | None
    costs: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def is_scored(self) -> bool:
        """Whether it has scores, all of them finite."""
        return self.scores is not None and all(map(math.isfinite, self.scores))


def write_report(
    space: SearchSpace,
    results: Iterable[Result],
    path: str | Path,
    *,
    objectives: Sequence[Objective] = (Objective("score"),),
    title: str | None = None,
    num_drawn: int = 100,
    space_arguments: str = "",
) -> Path:
    """Write what a search found as one page that needs no server, network or library.

    Two of objectives and costs are drawn against each other, which two is chosen on the page,
    and the best so far over the trials. A point opens the trial it stands for: its
    architecture drawn, scores, costs, JSON, and how to build it. All of it works from the
    keyboard; the page's address says which trial is open (``report.html#trial-12``).

    The front that is marked is that of all objectives, together with a cost if one is shown.

    Args:
        space: Where the architectures are from.
        results: Trials of any host, in any order.
        path: Of the page; its folder is made if absent.
        objectives: What ``scores`` are, in their order.
        title: Above the page; default: the space's name.
        num_drawn: How many architectures are drawn: those of the fronts first, then the best
            in each objective. The others open too, without a picture.
        space_arguments: How the command line names the space, such as ``--space darts``:
            the page then gives the command that draws.

    Returns:
        The path.

    Raises:
        ArchitectureError: A result is not of the space.
        ValueError: Scores and objectives differ in number, or a trial comes twice.
    """
    ordered = _checked(space, results, objectives)
    heading = title or f"Search in {space.name}"
    drawn = _drawn(ordered, objectives)[:num_drawn]
    content = {
        "objectives": [{"name": o.name, "maximize": o.maximize} for o in objectives],
        "costs": _cost_names(ordered),
        **_trials(ordered),
        "pictures": {
            a.id: svg(compose(space, a, ""), f"architecture {a.id}")
            for a in dict.fromkeys(result.architecture for result in drawn)
        },
        "spaceArguments": space_arguments,
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("{{title}}", escape(heading)).replace("{{content}}", _embedded(content))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _checked(
    space: SearchSpace, results: Iterable[Result], objectives: Sequence[Objective]
) -> list[Result]:
    ordered = sorted(results, key=lambda result: result.number)
    for before, result in zip([None, *ordered], ordered, strict=False):
        space.validate(result.architecture)
        if result.scores is not None and len(result.scores) != len(objectives):
            raise ValueError(
                f"trial {result.number} has {len(result.scores)} scores; expected one for each of "
                f"the objectives {[o.name for o in objectives]}"
            )
        if before is not None and before.number == result.number:
            raise ValueError(f"two results have the number {result.number}; expected one each")
    return ordered


def _drawn(results: Sequence[Result], objectives: Sequence[Objective]) -> list[Result]:
    """Scored results, those that are looked at first coming first."""
    scored = [result for result in results if result.is_scored]
    if not scored:
        return []
    signs = [1.0 if objective.maximize else -1.0 for objective in objectives]
    gains = np.array([result.scores for result in scored], float) * signs  # (trials, objectives)
    order = dict.fromkeys(np.flatnonzero(pareto_front(gains)))
    for name in _cost_names(results):
        cost = np.array([r.costs[name] if _has(r, name) else math.nan for r in scored], float)
        known = np.flatnonzero(np.isfinite(cost))
        front = pareto_front(np.column_stack([gains, -cost])[known])
        order.update(dict.fromkeys(known[front]))
    order.update(dict.fromkeys(np.argsort(-gains, axis=0, kind="stable").reshape(-1)))
    return [scored[i] for i in order]


def _cost_names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(name for r in results for name in r.costs if _has(r, name)))


def _has(result: Result, cost: str) -> bool:
    return math.isfinite(result.costs.get(cost, math.nan))


def _trials(results: Sequence[Result]) -> dict[str, Any]:
    """Compactly: labels once, choices as JSON texts once, and of each trial their positions."""
    labels = sorted({label for result in results for label in result.architecture})
    known: list[dict[str, int]] = [{} for _ in labels]
    costs = _cost_names(results)
    trials = []
    for r in results:
        choices = []
        for label, texts in zip(labels, known, strict=True):
            if label not in r.architecture:
                choices.append(-1)
                continue
            text = json.dumps(r.architecture[label], ensure_ascii=False)
            choices.append(texts.setdefault(text, len(texts)))
        scores = r.scores if r.is_scored else None
        values = [r.costs[name] if _has(r, name) else None for name in costs]
        trials.append([r.number, r.architecture.id, scores, values, choices, r.note])
    return {"labels": labels, "choices": [list(texts) for texts in known], "trials": trials}


def _embedded(content: Mapping[str, Any]) -> str:
    """JSON that may stand in a ``<script>``: nothing in it ends the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")
