"""Plots of the method table: deployed accuracy against energy and against size."""

import math
from itertools import cycle, groupby, product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator
from matplotlib.transforms import Bbox

from scripts.compare.table import Statistic, Summary

AXES = {
    "energy": ("energy_per_inference_j", "energy of an inference (J)"),
    "bytes": ("model_bytes", "model size (bytes)"),
}
COLOURS = [*matplotlib.colormaps["tab10"](range(10)), *matplotlib.colormaps["Dark2"](range(8))]
OFFSETS = list(product((7, 14, 22, 32, 44), range(0, 360, 30)))  # of a label from its point: distance, degrees


def plot(summaries: list[Summary], out: Path) -> list[Path]:
    """Plot the deployed accuracy, with the deviation over seeds, and return the paths of the images next to ``out``."""
    paths = []
    for suffix, (measure, title) in AXES.items():
        shown = [summary for summary in summaries if summary.measures[measure] is not None]
        if shown:
            figure = Figure(figsize=(10, 6.5), layout="constrained")
            draw(figure, shown, measure).set_xlabel(title)
            paths.append(out.with_name(f"{out.stem}_{suffix}.png"))
            figure.savefig(paths[-1], dpi=130)
    return paths


def draw(figure: Figure, summaries: list[Summary], measure: str) -> Axes:
    """One point for each summary, in the colour of its method, and a line through the fractions of a row.

    The accuracy axis is logarithmic in the distance below a round value above the best accuracy: it separates the good
    methods and keeps the poor ones in the picture.
    """
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", ylabel="accuracy, deployed (%)")
    axes.invert_yaxis()
    axes.margins(0.1)
    top = math.ceil(max(100 * _known(summary, "accuracy_deployed").mean for summary in summaries)) + 1
    colours = dict(zip(dict.fromkeys(summary.method for summary in summaries), cycle(COLOURS), strict=False))
    labels, covered = [], []
    legend: dict[str, Any] = {}
    for name, row in groupby(summaries, lambda summary: summary.name):
        line = []
        for summary in row:
            (x, x_error), (accuracy, y_error) = _known(summary, measure), _known(summary, "accuracy_deployed")
            y, x_error, y_error = top - 100 * accuracy, x_error or 0, 100 * (y_error or 0)
            text, marker = (name, "o") if summary.prune_fraction is None else (f"{summary.prune_fraction:.0%}", "s")
            colour = colours[summary.method]
            point = axes.errorbar(x, y, y_error, x_error, marker, color=colour, capsize=2, elinewidth=1)
            legend.setdefault(summary.method, point)
            line.append((x, y))
            labels.append((text, (x, y), colour))
            covered += [[(x - x_error, y), (x + x_error, y)], [(x, max(y - y_error, 0.1)), (x, y + y_error)]]
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=1, zorder=1)
    high, low = axes.get_ylim()
    axes.set_xticks(ticks(*axes.get_xlim()))
    axes.set_yticks(ticks(low, min(high, top)))  # no accuracy below 0
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.yaxis.set_major_formatter(lambda y, _: f"{top - y:.4g}")
    axes.grid(alpha=0.25)
    axes.legend(list(legend.values()), list(legend), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.draw_without_rendering()  # sets the scale of the pixels, in which labels are placed
    taken = [Bbox(axes.transData.transform(bar)).padded(3) for bar in covered]
    for text, place, colour in labels:
        _label(axes, text, place, colour, taken)
    return axes


def _known(summary: Summary, measure: str) -> Statistic:
    value = summary.measures[measure]
    assert value is not None
    return value


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between ``low`` and ``high``; finer steps where these are fewer than three."""
    for locator in (LogLocator(subs=(1, 2, 5), numticks=30), MaxNLocator(6, min_n_ticks=3)):
        found = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
        if len(found) >= 3:
            break
    return found


def _label(axes: Axes, text: str, point: tuple[float, float], colour: str, taken: list[Bbox]) -> None:
    """Write ``text`` near ``point``, where it covers none of ``taken`` if possible, and add its box to ``taken``."""
    note = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=8, color=colour)
    corners = np.array([other.extents for other in taken]).reshape(-1, 4)

    def cost(offset: tuple[float, float]) -> float:
        box = _place(note, *offset)
        outside = box.width * box.height - shared(box, axes.bbox)
        low, high = np.maximum(corners[:, :2], box.min), np.minimum(corners[:, 2:], box.max)
        return float((high - low).clip(0).prod(axis=1).sum()) + outside + 2 * offset[0]

    best = min(OFFSETS, key=cost)
    taken.append(_place(note, *best))
    if best[0] > OFFSETS[0][0]:
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", point, note.get_position(), textcoords="offset points", arrowprops=line)


def _place(note: Annotation, distance: float, degrees: float) -> Bbox:
    """Move ``note`` away from its point, and return its box in pixels."""
    x, y = distance * math.cos(math.radians(degrees)), distance * math.sin(math.radians(degrees))
    note.set_position((x, y))
    note.set_horizontalalignment("left" if x > 1 else "right" if x < -1 else "center")
    note.set_verticalalignment("center" if abs(y) < distance / 2 else "bottom" if y > 0 else "top")
    return note.get_window_extent()


def shared(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height
