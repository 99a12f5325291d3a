"""How a search decided: the probabilities of every decision's choices over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas_plugins.drawing.palette import style_of

__all__ = ["draw_curves"]


def draw_curves(
    history: Sequence[Mapping[str, Sequence[float]]],
    choices: Mapping[str, Sequence[object]],
    path: str | Path,
) -> None:
    """Write one panel per decision, probability over epochs, to an image file.

    Args:
        history: After each epoch, decision to the probabilities of its choices.
        choices: Decision to the names of its choices.
        path: The ending chooses the format: ``.png``, ``.svg``, ``.pdf`` ….

    Raises:
        ValueError: Nothing to draw.
    """
    if not history or not history[-1]:
        raise ValueError("no epoch with alphas in the history: train first, with alphas")
    labels = list(history[-1])
    names = list(dict.fromkeys(str(c) for label in labels for c in choices[label]))
    columns = min(4, len(labels))
    rows = math.ceil(len(labels) / columns)
    figure = Figure(figsize=(2.6 * columns + 1.6, 1.9 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    handles = {}
    for i, axis in enumerate(axes.flat):
        if i >= len(labels):
            axis.set_visible(False)
            continue
        label = labels[i]
        axis.set_title(label, fontsize=9)
        axis.set_ylim(0, 1)
        axis.set_xlim(0.5, len(history) + 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        axis.tick_params(labelbottom=i + columns >= len(labels))
        for j, choice in enumerate(map(str, choices[label])):
            style = style_of(choice, names)
            curve = [epoch[label][j] for epoch in history if label in epoch]
            marker = "o" if len(curve) == 1 else None
            (handles[choice],) = axis.plot(
                range(1, len(curve) + 1),
                curve,
                color=style.line,
                linestyle=style.dashes,
                marker=marker,
            )
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    figure.savefig(path)
