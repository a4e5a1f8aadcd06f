"""The plots of ``compare.py``: accuracy against energy and against bytes."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scripts.compare.table import Statistic, Summary

if TYPE_CHECKING:  # it is imported when something is plotted
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

AXES = {
    "energy": ("energy_per_inference_j", "energy of an inference (J)"),
    "bytes": ("model_bytes", "model size (bytes)"),
}
COLOURS = (
    *("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    *("#0b3c5d", "#7a0c2e", "#0b5d1e", "#b35806", "#4a1486", "#5c4033", "#ad1457", "#404040", "#6b6b00", "#006d77"),
)
TICKS = (*range(0, 60, 10), *range(60, 85, 5), *range(85, 90), *(90 + tenth / 2 for tenth in range(21)))
POINT = 6.0


def family(summary: Summary) -> str:
    """Rows of one family share a colour: the method, its scope unless it is the layer, and the pruning."""
    method = summary.method if summary.scope in (None, "layer") else f"{summary.method} ({summary.scope})"
    return method if summary.prune_method is None else f"{method} + {summary.prune_method}"


def plot(summaries: list[Summary], out: Path) -> list[Path]:
    """Plot the deployed accuracy, with the seeds' spread, and return the paths of the images beside ``out``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paths = []
    for suffix, (measure, title) in AXES.items():
        shown = [summary for summary in summaries if summary.measures[measure] is not None]
        if not shown:
            continue
        figure, axes = pyplot.subplots(figsize=(10, 6.5), layout="constrained")
        _draw(axes, shown, measure)
        axes.set_xlabel(title)
        axes.set_ylabel("accuracy, deployed (%)")
        paths.append(out.with_name(f"{out.stem}_{suffix}.png"))
        figure.savefig(paths[-1], dpi=130)
        pyplot.close(figure)
    return paths


def _draw(axes: "Axes", summaries: list[Summary], measure: str) -> None:
    colours: dict[str, str] = {}
    for summary in summaries:
        colours.setdefault(family(summary), COLOURS[len(colours) % len(COLOURS)])
    points = [_point(summary, measure) for summary in summaries]
    spread = Spread(max(y.mean for _, y in points) + 1)
    axes.set_xscale("log")
    axes.set_yscale("function", functions=(spread.forward, spread.backward))
    axes.margins(0.1)
    for (x, y), summary in zip(points, summaries, strict=True):
        axes.errorbar(
            x.mean,
            y.mean,
            xerr=x.deviation,
            yerr=y.deviation,
            fmt=_marker(summary),
            color=colours[family(summary)],
            markersize=POINT,
            markeredgecolor="white",
            markeredgewidth=0.6,
            capsize=2,
            elinewidth=1,
        )
    for name in dict.fromkeys(summary.name for summary in summaries):
        series = [index for index, summary in enumerate(summaries) if summary.name == name]
        if len(series) > 1:
            x_means, y_means = ([points[index][axis].mean for index in series] for axis in (0, 1))
            axes.plot(x_means, y_means, color=colours[family(summaries[series[0]])], linewidth=1, zorder=1)
    markers = {family(summary): _marker(summary) for summary in summaries}
    for name, colour in colours.items():
        axes.plot([], [], markers[name], color=colour, label=name, markersize=POINT)
    axes.set_yticks(spread.ticks(*axes.get_ylim()))
    axes.set_xticks(_decades(*axes.get_xlim()))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_formatter(lambda value, _: _prefixed(value))
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _label(axes, points, summaries, colours)


def _marker(summary: Summary) -> str:
    return "o" if summary.prune_method is None else "s"


def _point(summary: Summary, measure: str) -> tuple[Statistic, Statistic]:
    x, y = summary.measures[measure], summary.measures["accuracy_deployed"]
    assert x is not None
    assert y is not None
    return x, Statistic(100 * y.mean, None if y.deviation is None else 100 * y.deviation)


def _text(summary: Summary) -> str:
    return summary.name if summary.prune_fraction is None else f"{summary.prune_fraction:.0%}"


class Spread:
    """A scale of accuracies in percent: logarithmic in the distance below ``top``.

    It spreads the methods that are close to the best one and keeps the poor ones in the picture.
    """

    def __init__(self, top: float) -> None:
        self.top = top

    def forward(self, accuracy: np.ndarray) -> np.ndarray:
        """Height of an accuracy."""
        return -np.log(np.clip(self.top - np.asarray(accuracy), 0.05, None))

    def backward(self, height: np.ndarray) -> np.ndarray:
        """Accuracy at a height."""
        return self.top - np.exp(-np.asarray(height))

    def ticks(self, low: float, high: float) -> list[float]:
        """Round accuracies from the top down, at least a thirtieth of the axis apart; finer ones for a narrow axis."""
        from matplotlib.ticker import MaxNLocator

        bottom, top = self.forward(np.array([low, high]))
        chosen: list[float] = []
        for tick in sorted(TICKS, reverse=True):
            height = float(self.forward(np.array(tick)))
            apart = not chosen or float(self.forward(np.array(chosen[-1]))) - height > (top - bottom) / 30
            if low <= tick <= high and apart:
                chosen.append(tick)
        if len(chosen) >= 3:
            return chosen
        locator = MaxNLocator(10, steps=[1, 2, 5, 10], min_n_ticks=3)
        return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between ``low`` and ``high``; finer steps where these are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for factors in ((1, 2, 5), range(1, 10), [1 + step / 4 for step in range(36)]):
        candidates = (factor * 10.0**power for power in powers for factor in factors)
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks


def _prefixed(value: float) -> str:
    for limit, prefix in ((1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p")):
        if value >= limit * 0.999:
            return f"{value / limit:.3g} {prefix}".strip()
    return f"{value:.2g}"


def _label(
    axes: "Axes", points: list[tuple[Statistic, Statistic]], summaries: list[Summary], colours: dict[str, str]
) -> None:
    """Put each text near its point, where it covers no point, error bar or other text."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    taken = [box for x, y in points for box in _boxes(axes, x, y)]
    for (x_mean, y_mean), summary in zip(points, summaries, strict=True):
        point = x_mean.mean, y_mean.mean
        colour = colours[family(summary)]
        note = axes.annotate(_text(summary), point, (0, 0), textcoords="offset points", fontsize=8, color=colour)

        def place(radius: float, degrees: float, note: "Annotation" = note) -> "Bbox":
            x, y = radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))
            note.set_position((x, y))
            note.set_horizontalalignment("left" if x > 1 else "right" if x < -1 else "center")
            note.set_verticalalignment("center" if abs(y) < radius / 2 else "bottom" if y > 0 else "top")
            return note.get_window_extent()

        def cost(spot: tuple[float, float], place: Callable[[float, float], "Bbox"] = place) -> float:
            return _overlap(place(*spot), taken, axes.bbox) + 2 * spot[0]

        best = min(product((7, 14, 22, 32, 44), range(0, 360, 30)), key=cost)
        taken.append(place(*best))
        if best[0] > 7:
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
            axes.annotate("", point, note.get_position(), textcoords="offset points", arrowprops=line)


def _boxes(axes: "Axes", x: Statistic, y: Statistic) -> list["Bbox"]:
    """What a point and its error bars cover, in pixels."""
    from matplotlib.transforms import Bbox

    def pixels(x_value: float, y_value: float) -> np.ndarray:
        return np.asarray(axes.transData.transform((x_value, y_value)))

    across, up = x.deviation or 0.0, y.deviation or 0.0
    ends = [((x.mean - across, y.mean), (x.mean + across, y.mean)), ((x.mean, y.mean - up), (x.mean, y.mean + up))]
    bars = [Bbox([pixels(*low), pixels(*high)]).padded(3) for low, high in ends]
    return [*bars, Bbox([pixels(x.mean, y.mean)] * 2).padded(POINT)]


def _overlap(box: "Bbox", taken: list["Bbox"], frame: "Bbox") -> float:
    """Area in pixels that ``box`` shares with ``taken``, and what of it lies outside of ``frame``."""
    return sum(_shared(box, other) for other in taken) + box.width * box.height - _shared(box, frame)


def _shared(one: "Bbox", other: "Bbox") -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)
