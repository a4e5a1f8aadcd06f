"""Inline SVG: elements with escaped text, linear scales, ticks, and the axes that the pictures of a report share.

No colour is written into a picture. Its elements have classes, and the page's style sheet gives these their colours,
in a light, a dark and a printed page. A picture is about as wide as a column of the page, so that its text keeps its
size. Pictures are drawn directly, because matplotlib takes about 45 ms and 13 kB for each of them, and 0.6 s to import,
and writes colours that a dark page can't change.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH = 340.0  # of a picture, in units of about one pixel


class Scale(NamedTuple):
    """A linear map from values to positions.

    Example:
        >>> scale = Scale(0.0, 4.0, 100.0, 20.0)
        >>> scale(1.0)
        80.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The position of ``value``."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def element(name: str, *content: "Markup | str", **attributes: object) -> "Markup":
    """An element with escaped attributes and content; ``class_`` stands for ``class``, ``_`` in names for ``-``.

    Example:
        >>> print(element("text", "a < b", x=1.25, class_="label", font_size=11))
        <text x="1.25" class="label" font-size="11">a &lt; b</text>
    """
    from markupsafe import Markup, escape

    texts = (f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{''.join(texts)}>{''.join(map(escape, content))}</{name}>")


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def picture(
    kind: str, description: str, height: float, *content: "Markup", width: float = WIDTH, widest: float | None = None
) -> "Markup":
    """A picture of ``kind`` (its class), which a screen reader reads as ``description``.

    It is as wide as its place, but at most ``widest`` pixels (default: 1.2 times its ``width``).
    """
    return element(
        "svg",
        *content,
        viewBox=f"0 0 {_text(float(width))} {_text(float(height))}",
        class_=f"picture {kind}",
        role="img",
        aria_label=description,
        style=f"max-width: {width * 1.2 if widest is None else widest:.0f}px",
    )


def rectangle(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> "Markup":
    """A rectangle; ``title`` is shown when the pointer rests on it."""
    content = [element("title", title)] if title else []
    return element("rect", *content, x=float(x), y=float(y), width=float(width), height=float(height), class_=class_)


def label(text: str, x: float, y: float, anchor: str = "middle", class_: str = "label") -> "Markup":
    """A text whose ``anchor`` (``start``, ``middle`` or ``end``) is at a position."""
    return element("text", text, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(points: Iterable[tuple[float, float]], class_: str, **attributes: object) -> "Markup":
    """A line through ``points``."""
    path = " ".join(f"{_text(float(x))},{_text(float(y))}" for x, y in points)
    return element("polyline", points=path, class_=class_, **attributes)


def squares(places: Iterable[tuple[float, float]], width: float, height: float, class_: str) -> "Markup":
    """Many rectangles of one size as one path; ``places`` are their upper left corners."""
    w, h = _text(float(width)), _text(float(height))
    path = "".join(f"M{_text(float(x))} {_text(float(y))}h{w}v{h}h-{w}z" for x, y in places)
    return element("path", d=path, class_=class_)


def steps(edges: Sequence[float], heights: Sequence[float], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The outline of bars with ``edges``, one more than ``heights``."""
    points = [(x(edges[0]), y(y.low))]
    for left, right, height in zip(edges, edges[1:], heights, strict=False):
        points += [(x(left), y(height)), (x(right), y(height))]
    return [*points, (x(edges[-1]), y(y.low))]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` + 1 round values from ``low`` to ``high``.

    Example:
        >>> ticks(0, 30), ticks(-0.72, 0.55, 4)
        ([0.0, 10.0, 20.0, 30.0], [-0.5, 0.0, 0.5])
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{position * step:.10g}") for position in range(first, last + 1)]


def number(value: float) -> str:
    """A short number for a tick or a label, with a proper minus sign."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def x_axis(scale: Scale, y: float, name: str, values: Sequence[float] | None = None) -> list["Markup"]:
    """A horizontal axis at height ``y`` with ticks and a name."""
    marks = ticks(scale.low, scale.high) if values is None else values
    drawn = [line([(scale.start, y), (scale.end, y)], "axis")]
    for value in marks:
        drawn += [line([(scale(value), y), (scale(value), y + 4)], "axis"), label(number(value), scale(value), y + 15)]
    return [*drawn, label(name, (scale.start + scale.end) / 2, y + 29, class_="label name")]


def y_grid(scale: Scale, left: float, right: float, marks: Iterable[tuple[float, str]]) -> list["Markup"]:
    """Horizontal grid lines with texts at their left."""
    drawn = []
    for value, text in marks:
        height = scale(value)
        drawn += [line([(left, height), (right, height)], "grid"), label(text, left - 5, height + 3.5, "end")]
    return drawn
