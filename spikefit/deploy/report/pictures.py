"""The pictures of a report, as inline SVG."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from spikefit.deploy.report.picture_data import (
    DIGITS,
    CodebookEntry,
    CoreMapEntry,
    Histogram,
    RatesEntry,
    SampleEntry,
    TrainingRecord,
)
from spikefit.deploy.report.svg import (
    WIDTH,
    Scale,
    element,
    label,
    line,
    number,
    picture,
    rectangle,
    squares,
    steps,
    ticks,
    x_axis,
    y_grid,
)
from spikefit.deploy.report.terminal import quantity

if TYPE_CHECKING:
    from markupsafe import Markup

COLOURS = 8  # of layers and terms, as classes c0, c1, ...
LEFT, RIGHT, TOP = 44.0, WIDTH - 10, 12.0


def colour(position: int) -> str:
    """The class of the colour at ``position``; the colours repeat."""
    return f"c{position % COLOURS}"


def codebook(entry: CodebookEntry) -> "Markup":
    """Histograms of a layer's weights, with the values of its codebook as lines with the share of their synapses."""
    histograms = [entry.latent, *([entry.before] if entry.before else [])]
    marks = (*entry.values, *entry.first_values)
    low = min(*(found.low for found in histograms), *marks, entry.latent.low)
    high = max(*(found.high for found in histograms), *marks, entry.latent.high)
    x, bottom = Scale(low, high, 12, WIDTH - 12), 132.0
    peak = max(max(_density(found), default=0.0) for found in histograms) or 1.0
    y = Scale(0, peak, bottom, TOP + 14)
    drawn = [element("polygon", points=_points(_outline(entry.latent, x, y)), class_="mass")]
    if entry.before:
        drawn.append(line(_outline(entry.before, x, y), "outline"))
    drawn += x_axis(x, bottom, "weight")
    most, total = max(entry.counts, default=1) or 1, max(1, sum(entry.counts))
    ends = [x(value) for value in entry.values]
    roomy = all(right - left > 27 for left, right in pairwise(ends))
    if entry.binned:
        heights = [(bottom - TOP - 14) * count / most for count in entry.counts]
        path = "".join(
            f"M{end:.1f} {bottom}v-{height:.1f}" for end, height in zip(ends, heights, strict=True) if height
        )
        drawn.append(element("path", d=path, class_="stem"))
    for end, value, count in zip(ends, entry.values, entry.counts, strict=True) if not entry.binned else ():
        top = bottom - (bottom - TOP - 14) * count / most
        title = element("title", f"value {number(value)}: {count / total:.1%} of {total:,} synapses")
        drawn.append(element("g", title, line([(end, bottom), (end, top)], "stem"), _knob(end, top)))
        if roomy:
            drawn.append(label(f"{count / total:.0%}", end, top - 6, class_="label strong"))
    for value in entry.first_values:
        points = [(x(value) - 4, bottom + 7), (x(value) + 4, bottom + 7), (x(value), bottom + 1)]
        title = element("title", f"value {number(value)} when switched on")
        drawn.append(element("polygon", title, points=_points(points), class_="first"))
    return picture("codebook", f"Weights and codebook of {entry.layer}", bottom + 34, *drawn)


def _knob(x: float, y: float) -> "Markup":
    return element("circle", cx=x, cy=y, r=3.5, class_="knob")


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _density(found: Histogram) -> list[float]:
    """Share of the values per unit of weight, so that histograms of different widths can be compared."""
    scale = max(1, found.total) * (found.high - found.low) / len(found.counts)
    return [count / scale for count in found.counts]


def _outline(found: Histogram, x: Scale, y: Scale) -> list[tuple[float, float]]:
    return steps(found.edges, _density(found), x, y)


def rates(entry: RatesEntry) -> "Markup":
    """The histogram of firing rates, with numbers of neurons on a logarithmic scale."""
    bottom, powers = 112.0, max(1, math.ceil(math.log10(max(entry.rates.counts, default=1) + 1)))
    x, y = Scale(entry.rates.low, entry.rates.high, LEFT, RIGHT), Scale(-0.3, powers, bottom, TOP)
    drawn = y_grid(y, LEFT, RIGHT, [(power, f"{10**power:,}") for power in range(powers + 1)])
    edges = entry.rates.edges
    for left, right, count in zip(edges, edges[1:], entry.rates.counts, strict=False):
        if count:
            top = y(math.log10(count))
            title = f"{number(left)} to {number(right)} spikes per step: {count:,} neurons"
            drawn.append(rectangle(x(left) + 0.5, top, x(right) - x(left) - 1, bottom - top, "mass", title))
    drawn += x_axis(x, bottom, "spikes per step")
    return picture("rates", f"Firing rates of {entry.layer}", bottom + 34, *drawn)


def raster(entry: SampleEntry) -> "Markup":
    """The spikes of one sample: a row for each neuron, a column for each step, layers one below the other."""
    shown = max((len(row) for rows in entry.rows for row in rows.spikes), default=entry.steps)
    left, gap, top = 58.0, 9.0, 8.0
    x, drawn, most = Scale(0, shown, left, RIGHT), [], 1
    for rows in entry.rows:
        most = max(most, *(_digit(letter) for row in rows.spikes for letter in row), 1)
    wide = x(1) - x(0)
    width = min(wide - min(2.0, wide * 0.25), 22.0)
    for rows in entry.rows:
        height = max(3.6, 24 / max(1, len(rows.spikes)))  # room for the name
        end = top + height * len(rows.spikes)
        drawn.append(rectangle(left, top, RIGHT - left, end - top, "ground"))
        levels: dict[int, list[tuple[float, float]]] = {}
        for position, row in enumerate(rows.spikes):
            for step, letter in enumerate(row):
                if _digit(letter):
                    level = 4 if most == 1 else math.ceil(4 * _digit(letter) / most)
                    place = (x(step) + (wide - width) / 2, top + height * position + 0.4)
                    levels.setdefault(level, []).append(place)
        drawn += [squares(places, width, height - 0.8, f"spike i{level}") for level, places in sorted(levels.items())]
        name = rows.layer if len(rows.layer) <= 8 else f"…{rows.layer[-7:]}"
        drawn.append(label(name, left - 6, (top + end) / 2 + 1, "end", "label strong"))
        part = f"{len(rows.spikes)} of {rows.neurons:,}" if len(rows.spikes) < rows.neurons else f"{rows.neurons}"
        drawn.append(label(part, left - 6, (top + end) / 2 + 12, "end", "label tiny"))
        top = end + gap
    marks = [float(mark) for mark in ticks(0, shown, 6) if mark == int(mark)]
    drawn += x_axis(x, top - gap + 3, "step", marks)
    verdict = "correctly" if entry.correct else "wrongly"
    return picture("raster", f"Spikes of sample {entry.sample}, {verdict} classified", top - gap + 37, *drawn)


def _digit(letter: str) -> int:
    """The value of a base-36 digit; 0 for another letter."""
    return max(0, DIGITS.find(letter))


def sample(entry: SampleEntry) -> "Markup":
    """The input of a sample, in 16 shades."""
    rows, columns = len(entry.picture), max(map(len, entry.picture))
    by_level: dict[int, list[tuple[float, float]]] = {}
    for row, digits in enumerate(entry.picture):
        for column, digit in enumerate(digits):
            by_level.setdefault(_digit(digit), []).append((column, row))
    drawn = [rectangle(0, 0, columns, rows, "ground")]
    # A little larger than their distance, so that no seams show.
    drawn += [
        element("g", squares(places, 1.04, 1.04, "pixel"), fill_opacity=level / 15)
        for level, places in sorted(by_level.items())
        if level
    ]
    return picture(
        "sample", f"Input of sample {entry.sample}", rows, *drawn, width=columns, widest=480 if entry.over_time else 76
    )


def confusion(counts: Sequence[Sequence[int]]) -> "Markup":
    """The confusion matrix: a row for each class, a column for each predicted class."""
    classes = len(counts)
    numbers, edge, top = classes <= 12, 46.0, 34.0
    side = min(34.0, (WIDTH - edge - 4) / classes)
    drawn, places = [], dict[str, list[tuple[float, float]]]()
    for row, line_ in enumerate(counts):
        for column, count in enumerate(line_):
            share = count / max(1, sum(line_))
            kind = ("right" if row == column else "wrong") + f" i{min(4, math.ceil(4 * share))}" if count else "ground"
            if row != column and count:  # errors are few: a share of 30 % is as dark as all of the correct ones
                kind = f"wrong i{min(4, math.ceil(4 * share / 0.3))}"
            places.setdefault(kind, []).append((edge + column * side + 0.5, top + row * side + 0.5))
    for kind, corners in sorted(places.items()):
        drawn.append(squares(corners, side - 1, side - 1, f"cell {kind}"))
    every = 1 if classes <= 20 else 10 if classes <= 60 else 20
    for index in range(0, classes, every):
        middle = (index + 0.5) * side
        drawn.append(label(str(index), edge + middle, top - 5))
        drawn.append(label(str(index), edge - 6, top + middle + 4, "end"))
    if numbers:
        for row, line_ in enumerate(counts):
            for column, count in enumerate(line_):
                if count:
                    dark = row == column or count / max(1, sum(line_)) > 0.22
                    place = edge + (column + 0.5) * side, top + (row + 0.5) * side + 4
                    drawn.append(label(str(count), *place, class_="label on" if dark else "label strong"))
    drawn.append(label("predicted class", edge + classes * side / 2, 12, class_="label name"))
    turn = f"rotate(-90 12 {top + classes * side / 2:.0f})"
    drawn.append(element("g", label("class", 12, top + classes * side / 2, class_="label name"), transform=turn))
    height = top + classes * side + 4
    return picture("confusion", "Confusion matrix", height, *drawn, width=edge + classes * side + 4)


def core_map(entry: CoreMapEntry) -> "Markup":
    """The cores in use at their places: filled as far as their fullest limit is used, in the colour of their layer."""
    first_row, first_column = min(entry.row), min(entry.column)
    rows, columns = max(entry.row) - first_row + 1, max(entry.column) - first_column + 1
    side = min(44.0 if len(entry.row) > 4 else 88.0, WIDTH / columns, 520.0 / rows)
    gap = 2.0 if side > 12 else 0.5
    drawn, filled = [], dict[str, list[tuple[float, float]]]()
    taken = set(zip(entry.row, entry.column, strict=True))
    free = [
        ((column - first_column) * side + gap / 2, (row - first_row) * side + gap / 2)
        for row in range(first_row, first_row + rows)
        for column in range(first_column, first_column + columns)
        if (row, column) not in taken
    ]
    if entry.mesh and free:
        drawn.append(squares(free, side - gap, side - gap, "free"))
    for row, column, held, fill in zip(entry.row, entry.column, entry.parts, entry.fill, strict=True):
        x, y = (column - first_column) * side + gap / 2, (row - first_row) * side + gap / 2
        if side > 12:
            drawn.append(_core(entry, held, fill, x, y, side - gap))
        elif held:
            filled.setdefault(f"{colour(held[0][0])} i{max(1, min(4, math.ceil(fill / 25)))}", []).append((x, y))
    drawn += [squares(places, side - gap, side - gap, kind) for kind, places in sorted(filled.items())]
    return picture("cores", f"{len(entry.row)} cores", rows * side, *drawn, width=columns * side)


def _core(entry: CoreMapEntry, held: Sequence[tuple[int, int]], fill: int, x: float, y: float, size: float) -> "Markup":
    """A core, filled from below in the colours of its layers, and named by their numbers."""
    content = ", ".join(f"{entry.layers[layer]} {neurons:,}" for layer, neurons in held)
    title = element("title", f"neurons of {content}; {fill} % of the fullest limit")
    parts, bottom, neurons = [rectangle(x, y, size, size, "core")], y + size, sum(count for _, count in held)
    for layer, count in held:
        height = size * min(fill, 100) / 100 * count / max(1, neurons)
        parts.append(rectangle(x, bottom - height, size, height, colour(layer)))
        bottom -= height
    if size >= 22:
        names = "+".join(str(layer + 1) for layer, _ in held) if size > 60 else str(held[0][0] + 1) if held else ""
        plate = rectangle(x + size / 2 - 4 - 3.6 * len(names), y + size / 2 - 8, 8 + 7.2 * len(names), 16, "plate")
        parts += [plate, label(names, x + size / 2, y + size / 2 + 4, class_="label strong")]
    return element("g", title, *parts)


def accuracy(record: TrainingRecord, deployed: int | None = None) -> "Markup | None":
    """Accuracy over epochs, of the validation (solid) and the training set (dashed); None if none was recorded."""
    shown = [[(entry.epoch, value) for entry in record.epochs if (value := getattr(entry, name)) is not None]
             for name in ("accuracy_val", "accuracy_train")]  # fmt: skip
    values = [value for series in shown for _, value in series[len(series) // 5 :]]
    if not values:
        return None
    low = math.floor(20 * min(values)) / 20 if min(values) < 1 else 0.95
    y, bottom = Scale(low, 1, 128.0, TOP), 128.0
    x = _epochs(record)
    drawn = y_grid(y, LEFT, RIGHT, [(value, f"{value:.0%}") for value in ticks(low, 1, 4)])
    drawn += _events(record, x, bottom)
    for series, kind in zip(reversed(shown), ("curve thin" if shown[0] else "curve", "curve"), strict=True):
        drawn.append(line([(x(epoch), y(max(value, low))) for epoch, value in series], kind))
    drawn += [_circle(x(epoch), y(max(value, low))) for epoch, value in shown[0] or shown[1] if epoch == deployed]
    return picture("accuracy", "Accuracy over epochs", bottom + 34, *drawn, *x_axis(x, bottom, "epoch"))


def energy(record: TrainingRecord, deployed: int | None = None) -> "Markup | None":
    """Energy of an inference over epochs; None if none was recorded."""
    series = [(entry.epoch, entry.energy_j) for entry in record.epochs if entry.energy_j is not None]
    most = max((joule for _, joule in series), default=0.0)
    if most == 0:
        return None
    x, y, bottom = _epochs(record), Scale(0, most * 1.05, 128.0, TOP), 128.0
    unit = [(value, quantity(value, "J").replace(" u", " µ")) for value in ticks(0, most * 1.05, 4)]
    drawn = [*y_grid(y, LEFT + 8, RIGHT, [(value, text if value else "0") for value, text in unit])]
    drawn += [*_events(record, x, bottom), line([(x(epoch), y(joule)) for epoch, joule in series], "curve")]
    drawn += [_circle(x(epoch), y(joule)) for epoch, joule in series if epoch == deployed]
    return picture("energy", "Energy over epochs", bottom + 34, *drawn, *x_axis(x, bottom, "epoch"))


def living(record: TrainingRecord) -> "Markup | None":
    """Share of living units of each layer over epochs, as steps; None for a record without units."""
    if not record.layers or not record.epochs:
        return None
    x, y, bottom = _epochs(record), Scale(0, 1, 128.0, TOP), 128.0
    drawn = y_grid(y, LEFT, RIGHT, [(value, f"{value:.0%}") for value in (0, 0.25, 0.5, 0.75, 1)])
    drawn += _events(record, x, bottom)
    for position, units in enumerate(record.units):
        shares = [(entry.epoch, entry.alive[position] / max(1, units)) for entry in record.epochs]
        points = [(x(shares[0][0]), y(1))]
        for (epoch, share), (_, before) in zip(shares, [(0, 1.0), *shares], strict=False):
            if share != before or epoch == shares[-1][0]:
                points += [(x(epoch), y(before)), (x(epoch), y(share))]
        drawn.append(line(points, f"curve l{position % COLOURS}"))
    return picture("living", "Living units over epochs", bottom + 34, *drawn, *x_axis(x, bottom, "epoch"))


def _epochs(record: TrainingRecord) -> Scale:
    first, last = record.epochs[0].epoch, record.epochs[-1].epoch
    return Scale(first, max(last, first + 1), LEFT + 8, RIGHT)


def _circle(x: float, y: float) -> "Markup":
    return element("circle", element("title", "deployed epoch"), cx=x, cy=y, r=4.0, class_="deployed")


def _events(record: TrainingRecord, x: Scale, bottom: float) -> list["Markup"]:
    """When quantizers were switched on, when units were removed, and when the chip's integers began."""
    drawn, removed = [], [epoch for epoch, _ in record.removed()]
    if removed:
        left, right = x(removed[0]), max(x(removed[-1]), x(removed[0]) + 2)
        drawn.append(rectangle(left, TOP, right - left, bottom - TOP, "period"))
    for letter, epoch in marks(record):
        at = x(epoch)
        drawn += [line([(at, TOP), (at, bottom)], "event"), label(letter, at, TOP - 2, class_="label strong")]
    return drawn


def marks(record: TrainingRecord) -> list[tuple[str, int]]:
    """Letter and epoch of what began in training: ``Q`` quantizers at full strength, ``P`` pruning, ``I`` integers."""
    begun = {
        "Q": next((entry.epoch for entry in record.epochs if entry.quantised == 1), None),
        "P": next((epoch for epoch, _ in record.removed()), None),
        "I": next((entry.epoch for entry in record.epochs if entry.emulated), None),
    }
    return [(letter, epoch) for letter, epoch in begun.items() if epoch is not None]


def bar(parts: Sequence[tuple[float, str, str]], whole: float) -> "Markup":
    """A horizontal bar of parts (amount, class, title), as wide as its place; ``whole`` is the amount of its track."""
    drawn, start = [rectangle(0, 0, 100, 10, "track")], 0.0
    for amount, class_, title in parts:
        width = 100 * amount / whole if whole else 0.0
        drawn.append(rectangle(start, 0, min(width, 100 - start), 10, class_, title))
        start = min(100.0, start + width)
    return element("svg", *drawn, viewBox="0 0 100 10", preserveAspectRatio="none", class_="bar", aria_hidden="true")
