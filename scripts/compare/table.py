"""The table of ``compare.py``: rows of one method and fraction become one line, with mean and standard deviation."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikefit.deploy.report.terminal import quantity

MEASURES = (
    "accuracy_float",
    "accuracy_deployed",
    "unique_weights_max",
    "bits_per_weight",
    "model_bytes",
    "synops_per_inference",
    "energy_per_inference_j",
    "epoch_cpu_seconds",
)
COLUMNS = (
    "",
    "seeds",
    "epochs",
    "accuracy, trained (%)",
    "deployed (%)",
    "to float (points)",
    "unique weights",
    "bits a weight",
    "bytes",
    "synops",
    "energy",
    "epoch (CPU s)",
)


@dataclass(frozen=True)
class Statistic:
    """Mean and standard deviation over seeds; the latter is None for a single one."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Summary:
    """One line of the table.

    Attributes:
        name, prune_fraction: which rows it sums up.
        method, prune_method: how weights are quantised and units pruned.
        scope: which weights share a codebook or a step; None in floating point.
        seeds: how many.
        epochs: of training altogether.
        measures: of each name in ``MEASURES``; None where a row does not know it.
        to_float: difference of the trained accuracy to the float row of the same seed; None without one.
    """

    name: str
    prune_fraction: float | None
    method: str
    prune_method: str | None
    scope: str | None
    seeds: int
    epochs: int
    measures: dict[str, Statistic | None]
    to_float: Statistic | None

    @property
    def label(self) -> str:
        """Name and fraction."""
        return self.name if self.prune_fraction is None else f"{self.name} {self.prune_fraction:.0%}"


def statistic(values: Sequence[float | None]) -> Statistic | None:
    """Mean and sample standard deviation; None for none, or when one is unknown."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Statistic(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None)


def summarise(results: list[dict[str, Any]], order: Sequence[tuple[str, float | None]]) -> list[Summary]:
    """One summary for each name and fraction.

    Args:
        results: one a run.
        order: names and fractions in the order wanted; others come behind them, and those without rows are left out.
    """
    groups: dict[tuple[str, float | None], list[dict[str, Any]]] = {key: [] for key in order}
    for row in results:
        groups.setdefault((row["name"], row["prune_fraction"]), []).append(row)
    reference: dict[int, float] = {}
    for rows in groups.values():
        if not reference:
            reference = {row["seed"]: row["accuracy_float"] for row in rows if row["method"] == "float"}
    return [_summary(rows, reference) for rows in groups.values() if rows]


def _summary(rows: list[dict[str, Any]], reference: dict[int, float]) -> Summary:
    first = rows[0]
    return Summary(
        first["name"],
        first["prune_fraction"],
        first["method"],
        first["prune_method"],
        first["scope"],
        len(rows),
        first["epochs"],
        {name: statistic([row[name] for row in rows]) for name in MEASURES},
        statistic([row["accuracy_float"] - reference[row["seed"]] for row in rows if row["seed"] in reference]),
    )


def table(summaries: list[Summary]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(summary)) + " |" for summary in summaries]
    return "\n".join(lines) + "\n"


def _cells(summary: Summary) -> list[str]:
    measures = summary.measures
    energy = measures["energy_per_inference_j"]
    return [
        summary.label,
        str(summary.seeds),
        str(summary.epochs),
        _spread(measures["accuracy_float"], 100),
        _spread(measures["accuracy_deployed"], 100),
        _spread(summary.to_float, 100, sign="+"),
        _mean(measures["unique_weights_max"], ".4g"),
        _mean(measures["bits_per_weight"], ".2f"),
        _mean(measures["model_bytes"], ",.0f"),
        _mean(measures["synops_per_inference"], ",.0f"),
        "unknown" if energy is None else quantity(energy.mean, "J"),
        _mean(measures["epoch_cpu_seconds"], ".1f"),
    ]


def _mean(value: Statistic | None, form: str) -> str:
    return "-" if value is None else format(value.mean, form)


def _spread(value: Statistic | None, factor: float, sign: str = "") -> str:
    if value is None:
        return "-"
    mean = format(value.mean * factor, f"{sign}.2f")
    return mean if value.deviation is None else f"{mean} ± {value.deviation * factor:.2f}"
