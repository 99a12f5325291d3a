"""Pictures of what benchmarks wrote as JSON.

python -m benchmarks.pictures speedup benchmarks/results/workers.json speedup.png
python -m benchmarks.pictures regret benchmarks/results/regret_fcnet.json regret_fcnet.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

PUBLISHED_BOHB = (32, 15)
"""Workers and speed-up of Falkner et al. 2018, arXiv:1807.01774."""
OURS = "-"
HOSTS = "--"


def speedup(rows: list[dict[str, Any]]) -> Figure:
    """How much sooner so many workers are as good as one."""
    figure, axes = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        found = [r for r in rows if r["strategy"] == strategy and r["speedup"] is not None]
        workers = [row["workers"] for row in found]
        axes.plot(workers, [row["speedup"] for row in found], "o-", label=strategy)
    most = max(row["workers"] for row in rows)
    axes.plot([1, most], [1, most], ":", color="grey", label="as many as workers")
    axes.plot(*PUBLISHED_BOHB, "k*", markersize=11, label="bohb, as published")
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up")
    ticks = sorted({row["workers"] for row in rows})
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_ticks(ticks)
        axis.set_ticks([], minor=True)
    axes.legend(fontsize=7)
    return figure


def regret(rows: list[dict[str, Any]]) -> Figure:
    """Median regret by time, one map for each data set; the hosts' own searches are dashed."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    names = list(dict.fromkeys(row["search"] for row in rows))
    columns = min(2, len(datasets))
    lines = -(-len(datasets) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(5 * columns + 2.4, 3.6 * lines),
        squeeze=False,
        layout="constrained",
    )
    colours = plt.colormaps["tab20"]
    for axes, dataset in zip(grid.flat, datasets, strict=False):
        for row in (row for row in rows if row["dataset"] == dataset):
            _draw_regret(axes, row, colours(names.index(row["search"]) % 20))
        axes.set(xscale="log", yscale="log", title=dataset, xlabel="full trainings' time")
        axes.set_ylabel("median immediate regret")
    handles = {h.get_label(): h for axes in grid.flat for h in axes.get_lines()}
    figure.legend(handles=list(handles.values()), loc="outside right upper", fontsize=7)
    return figure


def _draw_regret(axes: Axes, row: dict[str, Any], colour: Any) -> None:
    points = [(t, v) for t, v in zip(row["at"], row["median"], strict=True) if v]  # zero: no log
    of_hosts = row["search"].startswith(("optuna", "tpe", "hpbandster", "pruner+tpe", "pruner+opt"))
    axes.plot(
        [t for t, _ in points],
        [v for _, v in points],
        HOSTS if of_hosts else OURS,
        color=colour,
        label=row["search"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=["speedup", "regret"])
    parser.add_argument("json", type=Path, help="what a benchmark wrote")
    parser.add_argument("out", type=Path, help="the picture, .png or .svg")
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text(encoding="utf-8"))
    figure = speedup(rows) if arguments.kind == "speedup" else regret(rows)
    figure.savefig(arguments.out, dpi=80)


if __name__ == "__main__":
    main()
