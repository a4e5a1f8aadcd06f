"""The method table: the results of one row and fraction over all seeds become one line."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scipy.stats import ttest_1samp

from spikefit.deploy.report.terminal import quantity

ACCURACIES = {"accuracy_float": "accuracy, trained (%)", "accuracy_deployed": "deployed (%)"}
FIGURES = {
    "unique_weights_max": ("unique weights", "{:.4g}".format),
    "bits_per_weight": ("bits a weight", "{:.2f}".format),
    "model_bytes": ("bytes", "{:,.0f}".format),
    "synops_per_inference": ("synops", "{:,.0f}".format),
    "energy_per_inference_j": ("energy", lambda joules: quantity(joules, "J")),
    "epoch_cpu_seconds": ("epoch (CPU s)", "{:.1f}".format),
}
COLUMNS = [
    *("", "seeds", "epochs", "held out (%)", *ACCURACIES.values(), "to float (points)", "95 % interval"),
    *(title for title, _ in FIGURES.values()),
    *("chip", "fits"),
]


class Statistic(NamedTuple):
    """Mean and standard deviation over seeds; the latter is None for a single one."""

    mean: float
    deviation: float | None


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One line of the table.

    Attributes:
        name, prune_fraction: of the row.
        method: rows of one method share a colour in the plots.
        seeds: their number.
        epochs: of training in total.
        measures: of ``ACCURACIES`` and ``FIGURES``; None where a run does not know one.
        held_out: accuracy on held-out training images; None without such images.
        to_float: trained accuracy minus that of the float row with the same seed; None without such a row.
        interval: of 95 % for the mean of ``to_float``, by Student's t; None for a single seed.
        chip: the chips that the runs were deployed on.
        fits: number of runs that fit.
    """

    name: str
    prune_fraction: float | None
    method: str
    seeds: int
    epochs: int
    measures: dict[str, Statistic | None]
    held_out: Statistic | None
    to_float: Statistic | None
    interval: Interval | None
    chip: str
    fits: int


def statistic(values: Sequence[float | None]) -> Statistic | None:
    """Mean and sample standard deviation; None without values, or when one is unknown."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Statistic(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None)


def interval(differences: Sequence[float]) -> Interval | None:
    """95 % confidence interval of the mean of paired ``differences``; None for fewer than two, or if all are equal.

    Example:
        >>> low, high = interval([0.01, 0.01, 0.02])
        >>> round(low, 4), round(high, 4)
        (-0.001, 0.0277)
    """
    if len(set(differences)) < 2:
        return None
    low, high = ttest_1samp(differences, 0).confidence_interval(0.95)
    return Interval(float(low), float(high))


def summarise(
    results: list[dict[str, Any]], order: Sequence[tuple[str, float | None]], methods: Mapping[str, str]
) -> list[Summary]:
    """One summary for each name and fraction.

    Args:
        results: one for each run.
        order: names and fractions in the order of the lines. Other results follow; a line without results is left out.
        methods: by name; those of other results are in the results.
    """
    groups: dict[tuple[str, float | None], list[dict[str, Any]]] = {key: [] for key in order}
    for row in results:
        groups.setdefault((row["name"], row["prune_fraction"]), []).append(row)
    named = [(methods.get(rows[0]["name"], rows[0]["method"]), rows) for rows in groups.values() if rows]
    floats = next((rows for method, rows in named if method == "float"), [])
    reference = {row["seed"]: row["accuracy_float"] for row in floats}
    return [_summary(method, rows, reference) for method, rows in named]


def _summary(method: str, rows: list[dict[str, Any]], reference: Mapping[int, float]) -> Summary:
    differences = [row["accuracy_float"] - reference[row["seed"]] for row in rows if row["seed"] in reference]
    return Summary(
        name=rows[0]["name"],
        prune_fraction=rows[0]["prune_fraction"],
        method=method,
        seeds=len(rows),
        epochs=rows[0]["epochs"],
        measures={name: statistic([row[name] for row in rows]) for name in (*ACCURACIES, *FIGURES)},
        held_out=statistic([row.get("accuracy_held_out") for row in rows]),
        to_float=statistic(differences),
        interval=interval(differences),
        chip=", ".join(dict.fromkeys(row["target"] for row in rows)),
        fits=sum(row["fits"] for row in rows),
    )


def table(summaries: list[Summary]) -> str:
    """The summaries in Markdown."""
    lines = [COLUMNS, *map(_cells, summaries)]
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([first, "|" + "---|" * len(COLUMNS), *others]) + "\n"


def _cells(summary: Summary) -> list[str]:
    unknown = {"energy_per_inference_j": "unknown"}
    figures = [
        unknown.get(name, "-") if (value := summary.measures[name]) is None else written(value.mean)
        for name, (_, written) in FIGURES.items()
    ]
    fraction = "" if summary.prune_fraction is None else f" {summary.prune_fraction:.0%}"
    accuracies = [_points(summary.held_out), *(_points(summary.measures[name]) for name in ACCURACIES)]
    first = [summary.name + fraction, str(summary.seeds), str(summary.epochs)]
    between = "-" if summary.interval is None else " to ".join(f"{100 * end:+.2f}" for end in summary.interval)
    fits = "yes" if summary.fits == summary.seeds else f"{summary.fits} of {summary.seeds}" if summary.fits else "no"
    return [*first, *accuracies, _points(summary.to_float, "+"), between, *figures, summary.chip, fits]


def _points(value: Statistic | None, sign: str = "") -> str:
    """An accuracy in percent, with its deviation."""
    if value is None:
        return "-"
    deviation = "" if value.deviation is None else f" ± {100 * value.deviation:.2f}"
    return format(100 * value.mean, f"{sign}.2f") + deviation
