"""Pictures of architectures and of searches: SVG, PNG or PDF, or one HTML page of all.

Example:
    >>> import numpy as np, tempfile, pathlib
    >>> from nas_plugins import spaces
    >>> space = spaces.load("nas_bench_201")
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cell.svg"
    >>> draw(space, space.sample(np.random.default_rng(0)), path) == path
    True
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_plugins.architecture import Choice
from nas_plugins.drawing.report import Objective, Result, write_report
from nas_plugins.space import SearchSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Objective",
    "Result",
    "draw",
    "draw_history",
    "figure",
    "log_drawing",
    "write_report",
]

_FORMATS = (".pdf", ".png", ".svg")
_saving = threading.Lock()


def draw(
    space: SearchSpace,
    architecture: Mapping[str, Choice],
    path: str | Path,
    *,
    title: str | None = None,
) -> Path:
    """Draw an architecture into a file; its suffix says how.

    Cells are graphs, other layers a stack in the order of the network, hyper-parameters a
    table; operations have one colour and line style in every picture of a space. The same
    architecture gives the same bytes.

    Args:
        space: Where the architecture is from.
        architecture: What is drawn.
        path: Ends in ``.svg``, ``.png`` or ``.pdf``; its folder is made if absent.
        title: Above the picture; default: the space's name and the architecture's id.

    Returns:
        The path.

    Raises:
        ArchitectureError: Not an architecture of the space.
        ValueError: Another suffix.
    """
    checked = _checked_path(path)
    return _save(figure(space, architecture, title=title), checked)


def figure(
    space: SearchSpace, architecture: Mapping[str, Choice], *, title: str | None = None
) -> Figure:
    """The picture of :func:`draw` as a matplotlib figure, for TensorBoard and other loggers.

    It has a canvas of its own and is unknown to ``pyplot``: nothing needs closing.
    """
    from nas_plugins.drawing.page import compose, paint

    return paint(compose(space, space.validate(architecture), title))


def log_drawing(
    logger: Any,
    space: SearchSpace,
    architecture: Mapping[str, Choice],
    *,
    step: int = 0,
    tag: str = "architecture",
    title: str | None = None,
) -> None:
    """Show an architecture among TensorBoard's images.

    Args:
        logger: A ``SummaryWriter``, or a Lightning ``TensorBoardLogger``.
        space: Where the architecture is from.
        architecture: What is drawn.
        step: TensorBoard's global step.
        tag: TensorBoard's name of the image.
        title: As in :func:`draw`.

    Raises:
        TypeError: The logger takes no images.
    """
    import numpy as np

    writer: Any = logger if hasattr(logger, "add_image") else getattr(logger, "experiment", None)
    if not hasattr(writer, "add_image"):
        raise TypeError(
            f"logger is a {type(logger).__name__}; expected a SummaryWriter or a Lightning "
            "TensorBoardLogger. Other loggers take the file that draw() writes"
        )
    canvas = figure(space, architecture, title=title).canvas
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    writer.add_image(tag, pixels, step, dataformats="HWC")


def draw_history(
    scores: Iterable[float | None],
    path: str | Path,
    *,
    title: str = "",
    ylabel: str = "score",
    maximize: bool = True,
) -> Path:
    """Draw scores in order of trials, with the best so far.

    Args:
        scores: One per trial; ``None`` or NaN for a trial that failed, which leaves a gap.
        path: As in :func:`draw`.
        title: Above the picture.
        ylabel: What the score is, with its unit.
        maximize: Whether higher is better.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    checked = _checked_path(path)
    pairs = [(i, s) for i, s in enumerate(scores) if s is not None and math.isfinite(s)]
    better = max if maximize else min
    best: list[float] = []
    for _, score in pairs:
        best.append(better(best[-1], score) if best else score)
    picture = Figure(figsize=(6.4, 3.6), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    numbers = [number for number, _ in pairs]
    axes.plot(numbers, [s for _, s in pairs], "o", ms=3.5, color="#56B4E9", label="trial")
    axes.step(numbers, best, where="post", lw=1.8, color="#D55E00", label="best so far")
    axes.set(xlabel="trial", ylabel=ylabel)
    axes.set_title(title, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return _save(picture, checked)


def _checked_path(path: str | Path) -> Path:
    checked = Path(path)
    if checked.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"picture path is {str(path)!r}; expected it to end in one of {', '.join(_FORMATS)}"
        )
    return checked


def _save(picture: Figure, path: Path) -> Path:
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()[1:]
    # Dates and random ids would make equal pictures differ.
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    # The salt of SVG ids can only be set globally: one picture at a time.
    with _saving, matplotlib.rc_context({"svg.hashsalt": "nas-plugins", "svg.fonttype": "path"}):
        picture.savefig(path, format=kind, metadata=undated, facecolor="white")
    return path
