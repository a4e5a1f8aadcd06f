"""The method table: the results of one row and fraction over all seeds become one line."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
COLUMNS = ["", "seeds", "epochs", *ACCURACIES.values(), "to float (points)", *(title for title, _ in FIGURES.values())]


class Statistic(NamedTuple):
    """Mean and standard deviation over seeds; the latter is None for a single one."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Summary:
    """One line of the table.

    Attributes:
        name, prune_fraction: of the row.
        method: rows of one method share a colour in the plots.
        seeds: their number.
        epochs: of training in total.
        measures: of ``ACCURACIES`` and ``FIGURES``; None where a run does not know one.
        to_float: trained accuracy minus that of the float row with the same seed; None without such a row.
    """

    name: str
    prune_fraction: float | None
    method: str
    seeds: int
    epochs: int
    measures: dict[str, Statistic | None]
    to_float: Statistic | None


def statistic(values: Sequence[float | None]) -> Statistic | None:
    """Mean and sample standard deviation; None without values, or when one is unknown."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Statistic(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None)


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
    return [
        Summary(
            name=rows[0]["name"],
            prune_fraction=rows[0]["prune_fraction"],
            method=method,
            seeds=len(rows),
            epochs=rows[0]["epochs"],
            measures={name: statistic([row[name] for row in rows]) for name in (*ACCURACIES, *FIGURES)},
            to_float=statistic([r["accuracy_float"] - reference[r["seed"]] for r in rows if r["seed"] in reference]),
        )
        for method, rows in named
    ]


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
    accuracies = [_points(summary.measures[name]) for name in ACCURACIES]
    first = [summary.name + fraction, str(summary.seeds), str(summary.epochs)]
    return [*first, *accuracies, _points(summary.to_float, "+"), *figures]


def _points(value: Statistic | None, sign: str = "") -> str:
    """An accuracy in percent, with its deviation."""
    if value is None:
        return "-"
    deviation = "" if value.deviation is None else f" ± {100 * value.deviation:.2f}"
    return format(100 * value.mean, f"{sign}.2f") + deviation
