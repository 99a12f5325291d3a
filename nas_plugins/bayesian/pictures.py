"""What a Gaussian process believes along one or two numbers, as the trials came in."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.bayesian.acquisition import acquisition
from nas_plugins.bayesian.gaussian_process import GaussianProcess, number_of
from nas_plugins.errors import ArchitectureError, UnsupportedSpaceError
from nas_plugins.strategies.base import Observation

__all__ = ["draw_beliefs"]

_LINE, _BAND, _GAIN, _POINT = "#0072B2", "#56B4E9", "#D55E00", "#1A1A1A"


def draw_beliefs(
    strategy: GaussianProcess,
    history: Sequence[Observation],
    labels: str | Sequence[str],
    path: str | Path,
    *,
    after: Sequence[int] | None = None,
    at: Mapping[str, Choice] | None = None,
    points: int = 60,
) -> None:
    """Draw mean, deviation and acquisition over a slice of the space, at several moments.

    Brochu, Cora & de Freitas 2010, arXiv:1012.2599, figure 1. Observations elsewhere in the space
    are drawn at their place in the slice, so that they need not lie on the mean.

    Args:
        strategy: What would be told the history; left as it is. FABOLAS, which has more than one
            model, cannot be drawn.
        history: Observations in order of completion.
        labels: One decision or two, each a number, or choices in an order.
        path: The ending chooses the format: ``.png``, ``.svg``, ``.pdf`` ….
        after: Moments, as numbers of observations; default: three, the last among them.
        at: Choices of the other decisions; default: those of the best architecture.
        points: Along each axis.

    Raises:
        UnsupportedSpaceError: A label is no decision of the space, or not active there; or the
            slice goes through what is forbidden.
        ValueError: A moment at which there is no model yet, or not one or two labels.
    """
    names = [labels] if isinstance(labels, str) else list(labels)
    if len(names) not in (1, 2):
        raise ValueError(f"labels are {names}; expected one or two")
    if any(isinstance(o.score, tuple) for o in history):
        raise ValueError("scores are of several objectives; expected one score each")
    scored = [o for o in history if o.score is not None]
    if not scored:
        raise ValueError("nothing in the history has a score; there is no model to draw")
    strategy = copy.deepcopy(strategy)
    moments = list(after or _moments(strategy, history))
    best = max(scored, key=number_of).architecture
    axes_values = [_values(strategy, name, points) for name in names]
    slice_ = _slice(strategy, names, axes_values, {**best, **(at or {})})
    panels = []
    for moment in moments:
        strategy.replay(history[:moment])
        panels.append(_believe(strategy, slice_, moment))
    shape = tuple(len(values) for values in axes_values)
    figure = (_draw_line if len(names) == 1 else _draw_plane)(
        strategy, history, names, axes_values, moments, [_shaped(p, shape) for p in panels]
    )
    figure.savefig(path)


Belief = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, deviation and acquisition."""


def _moments(strategy: GaussianProcess, history: Sequence[Observation]) -> list[int]:
    """The first with a model, the middle, and the last."""
    scored = [i + 1 for i, o in enumerate(history) if o.score is not None]
    first, last = scored[min(strategy.num_initial, len(scored)) - 1], len(history)
    return sorted({first, (first + last) // 2, last})


def _values(strategy: GaussianProcess, label: str, points: int) -> list[Choice]:
    decision = strategy.space.decisions.get(label)
    if decision is None:
        raise UnsupportedSpaceError(
            f"{label!r} is no decision of space {strategy.space.name!r}; expected one of "
            f"{list(strategy.space.decisions)}"
        )
    return list(decision.all_choices(points))


def _slice(
    strategy: GaussianProcess,
    names: Sequence[str],
    values: Sequence[Sequence[Choice]],
    at: Mapping[str, Choice],
) -> list[Architecture]:
    grid = np.stack(np.meshgrid(*[np.arange(len(v)) for v in values], indexing="ij"), -1)
    found = []
    for place in grid.reshape(-1, len(names)):
        changed = {name: values[i][place[i]] for i, name in enumerate(names)}
        try:
            architecture = strategy.space.complete({**at, **changed})
        except ArchitectureError as error:
            raise UnsupportedSpaceError(f"the slice cannot be drawn: {error}") from error
        missing = [name for name in names if name not in architecture]
        if missing:
            raise UnsupportedSpaceError(
                f"{missing[0]!r} is not active in the slice at {dict(at)}; choose at= so that it is"
            )
        found.append(architecture)
    return found


def _believe(strategy: GaussianProcess, slice_: Sequence[Architecture], moment: int) -> Belief:
    if not strategy.has_model:
        raise ValueError(
            f"there is no model after {moment} observations; expected at least "
            f"{strategy.num_initial} with a score"
        )
    mean, deviation = strategy.predict(slice_)
    rows = strategy.inputs.rows(slice_)
    value = acquisition(strategy.acquisition, strategy.model, strategy.incumbent, rows, seed=0)
    gain = value(rows)
    logarithmic = strategy.acquisition in ("ei", "pi")
    return mean, deviation, np.exp(gain.numpy()) if logarithmic else gain.numpy()


def _shaped(belief: Belief, shape: tuple[int, ...]) -> Belief:
    mean, deviation, gain = (values.reshape(shape) for values in belief)
    return mean, deviation, gain


def _draw_line(
    strategy: GaussianProcess,
    history: Sequence[Observation],
    names: Sequence[str],
    values: Sequence[Sequence[Choice]],
    moments: Sequence[int],
    panels: Sequence[Belief],
) -> Figure:
    (label,), (places,) = names, values
    figure = Figure(figsize=(3.4 * len(moments) + 0.4, 4.2), layout="constrained")
    axes = figure.subplots(2, len(moments), squeeze=False, sharex=True, height_ratios=[2, 1])
    x = _ticks(axes[:, :].flat, places, "x", strategy.space.decisions[label].log)
    for i, (mean, deviation, gain) in enumerate(panels):
        top, bottom = axes[0, i], axes[1, i]
        top.plot(x, mean, color=_LINE, label="mean")
        top.fill_between(
            x, mean - 2 * deviation, mean + 2 * deviation,
            color=_BAND, alpha=0.35, label="2 deviations",
        )  # fmt: skip
        seen = [o for o in history[: moments[i]] if label in o.architecture and o.score is not None]
        top.plot(
            [_place(places, o.architecture[label]) for o in seen],
            [o.score for o in seen],
            "o", color=_POINT, markersize=3.5, label="observed",
        )  # fmt: skip
        top.set_title(f"after {moments[i]} trials", fontsize=10)
        bottom.plot(x, gain, color=_GAIN)
        bottom.plot(x[int(np.argmax(gain))], gain.max(), "v", color=_GAIN)
        bottom.set_xlabel(label, fontsize=9)
    axes[0, 0].set_ylabel("score", fontsize=9)
    axes[1, 0].set_ylabel(_name_of(strategy).replace(" ", "\n"), fontsize=9)
    axes[0, 0].legend(fontsize=8)
    return figure


def _draw_plane(
    strategy: GaussianProcess,
    history: Sequence[Observation],
    names: Sequence[str],
    values: Sequence[Sequence[Choice]],
    moments: Sequence[int],
    panels: Sequence[Belief],
) -> Figure:
    figure = Figure(figsize=(3.2 * len(moments) + 0.8, 8.0), layout="constrained")
    axes = figure.subplots(3, len(moments), squeeze=False, sharex=True, sharey=True)
    decisions = strategy.space.decisions
    x = _ticks(axes.flat, values[0], "x", decisions[names[0]].log)
    y = _ticks(axes.flat, values[1], "y", decisions[names[1]].log)
    titles = ("mean", "deviation", _name_of(strategy))
    for i, belief in enumerate(panels):
        for axis, shown, title in zip(axes[:, i], belief, titles, strict=True):
            mesh = axis.contourf(x, y, shown.T, levels=12, cmap="viridis")
            figure.colorbar(mesh, ax=axis, shrink=0.85)
            axis.set_title(f"{title}, after {moments[i]} trials", fontsize=9)
            seen = [o.architecture for o in history[: moments[i]]]
            both = [a for a in seen if all(name in a for name in names)]
            axis.plot(
                [_place(values[0], a[names[0]]) for a in both],
                [_place(values[1], a[names[1]]) for a in both],
                "o", color="white", markeredgecolor=_POINT, markersize=4,
            )  # fmt: skip
    figure.supxlabel(names[0], fontsize=9)
    figure.supylabel(names[1], fontsize=9)
    return figure


def _ticks(axes: Any, places: Sequence[Choice], which: str, log: bool) -> list[float]:
    """Positions along an axis: numbers at their own place, anything else in its order."""
    numeric = _are_numbers(places)
    for axis in axes:
        if numeric and log:
            getattr(axis, f"set_{which}scale")("log")
        elif not numeric:
            getattr(axis, f"set_{which}ticks")(range(len(places)), [str(p) for p in places])
    return [float(p) if numeric else float(i) for i, p in enumerate(places)]


def _place(places: Sequence[Choice], choice: Choice) -> float:
    return float(choice) if _are_numbers(places) else float(list(places).index(choice))


def _are_numbers(places: Sequence[Choice]) -> bool:
    return all(isinstance(p, (int, float)) and not isinstance(p, bool) for p in places)


def _name_of(strategy: GaussianProcess) -> str:
    return {
        "ei": "expected improvement",
        "pi": "probability of improvement",
        "ucb": "upper confidence bound",
        "mes": "max-value entropy",
    }[strategy.acquisition]
