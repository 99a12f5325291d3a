"""A page of shapes as SVG for a web page: a tenth of matplotlib's, and its text is text."""

from __future__ import annotations

from html import escape

from nas_plugins.drawing.layout import Point
from nas_plugins.drawing.shapes import BAR, MARGIN, Box, Curve, Panel, Word, stroke

__all__ = ["svg"]

_ANCHORS = {"left": "start", "center": "middle", "right": "end"}


def svg(page: Panel, title: str) -> str:
    """The element ``<svg>``, to be put into HTML.

    Boxes were made for DejaVu Sans; Verdana is as wide, other fonts are narrower.

    Args:
        page: What is drawn, as :func:`nas_plugins.drawing.page.compose` makes it.
        title: For those who hear the picture instead of seeing it.
    """
    width, height = page.width + 2 * MARGIN, page.height + 2 * MARGIN
    content = [
        *(_box(box) for box in page.boxes if box.behind),
        *map(_curve, page.curves),
        *(_box(box) for box in page.boxes if not box.behind),
        *map(_word, page.words),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" '
        f'viewBox="{-MARGIN:g} {-MARGIN:g} {width:.1f} {height:.1f}" width="{width:.0f}pt" '
        f'font-family="DejaVu Sans,Verdana,sans-serif">{"".join(content)}</svg>'
    )


def _box(box: Box) -> str:
    radius = min(box.radius, box.width / 2, box.height / 2)
    shape = (
        f'<rect x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}" '
        f'rx="{_n(radius)}" fill="{box.style.fill}" stroke="{box.style.line}" stroke-width="1.2"/>'
    )
    return shape + _bar(box, radius) if box.bar else shape


def _bar(box: Box, radius: float) -> str:
    """Along the box's left edge, inside its corners."""
    r, side = _n(radius), _n(box.height - 2 * radius)
    return (
        f'<path fill="{box.style.line}" d="M{_n(box.x + BAR)},{_n(box.y)}v{_n(box.height)}'
        f'h{_n(radius - BAR)}a{r},{r} 0 0 1 -{r},-{r}v-{side}a{r},{r} 0 0 1 {r},-{r}z"/>'
    )


def _curve(curve: Curve) -> str:
    drawn = stroke(curve)
    steps = "".join(("L" if len(s) == 1 else "C") + " ".join(map(_p, s)) for s in drawn.steps)
    dashes = ""
    if curve.style.dashes != "solid":
        lengths = ",".join(_n(length * curve.width) for length in curve.style.dashes[1])
        dashes = f' stroke-dasharray="{lengths}"'
    line = (
        f'<path fill="none" stroke="{curve.style.line}" stroke-width="{_n(curve.width)}"{dashes} '
        f'd="M{_p(drawn.start)}{steps}"/>'
    )
    if not drawn.head:
        return line
    return f'{line}<path fill="{curve.style.line}" d="M{"L".join(map(_p, drawn.head))}z"/>'


def _word(word: Word) -> str:
    bold = ' font-weight="bold"' if word.bold else ""
    return (
        f'<text x="{_n(word.x)}" y="{_n(word.y + 0.36 * word.size)}" font-size="{_n(word.size)}" '
        f'fill="{word.color}" text-anchor="{_ANCHORS[word.align]}"{bold}>{escape(word.text)}</text>'
    )


def _p(point: Point) -> str:
    return f"{_n(point[0])},{_n(point[1])}"


def _n(number: float) -> str:
    """At most one decimal: a tenth of a point is not seen."""
    return f"{number:.1f}".removesuffix(".0")
