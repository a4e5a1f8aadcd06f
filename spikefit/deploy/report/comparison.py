"""Comparison of reports: one row for each, as text, HTML, JSON and a plot."""

import html
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikefit.atomic import atomic_path, write_atomically
from spikefit.deploy.report.terminal import quantity
from spikefit.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from spikefit.deploy.report.data import Report

WIDTH = 140  # characters of a table outside of a terminal
MEASURES = ("energy_per_inference_j", "model_bytes")
FIGURES = (
    *("target", "fits", "partial", "samples", "accuracy_before_compression", "accuracy_float", "accuracy_deployed"),
    *("units_pruned_fraction", "cores_used", "neurons", "synapses", "unique_weights_max", "model_bytes"),
    *("bits_per_weight", "synops_per_inference", "relay_synops_per_inference", "energy_per_inference_j"),
    "overflows_per_inference",
)


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    Attributes:
        run: name of the run.
        chip: name of the chip.
        report: the report; None if the chip can't run this kind of network at any size.
        reasons: what the chip lacks; empty with a report.
    """

    run: str
    chip: str
    report: "Report | None"
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name of the row in a plot."""
        return f"{self.run}, {self.chip}" if self.run else self.chip


class Comparison:
    """Reports side by side.

    Args:
        entries: the rows.

    Example:
        >>> Comparison([Entry("a", "odin", None, ("conv1: layer: needs conv",))]).rows()
        [{'run': 'a', 'chip': 'odin', 'fits': "can't run it"}]
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)

    @classmethod
    def of(cls, reports: Iterable["Report"]) -> "Comparison":
        """The comparison of ``reports``, each with the name of its run."""
        return cls(Entry(report.provenance.run or "", report.target, report) for report in reports)

    def rows(self) -> list[dict[str, str]]:
        """The rows as text, by column; columns in which no row has anything are left out."""
        rows = [_row(entry) for entry in self.entries]
        if len({entry.run for entry in self.entries}) == 1 and len(self.entries) > 1:
            for row in rows:
                del row["run"]
        empty = {name for name in (rows[0] if rows else ()) if all(row[name] in ("", "-") for row in rows)}
        return [{name: text for name, text in row.items() if name not in empty} for row in rows]

    def __str__(self) -> str:
        """The table as text."""
        from rich.console import Console

        text = io.StringIO()
        self.print(Console(file=text, width=WIDTH))
        return text.getvalue()

    def print(self, console: "Console") -> None:
        """Print the table, and what the chips lack that can't run the network."""
        console.print(_table(self.rows()))
        for entry in self.entries:
            if entry.reasons:
                text = "; ".join(entry.reasons)
                console.print(f"{entry.chip} can't run it: {text}.", markup=False, soft_wrap=True)

    def _repr_html_(self) -> str:
        rows = self.rows()
        cells = [[html.escape(text) for text in row.values()] for row in rows]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in (rows[0] if rows else ()))
        body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def to_json(self, path: str | Path | None = None) -> str:
        """The figures of every row as JSON text, written to ``path`` too if one is given."""
        content = [
            {
                "run": entry.run,
                "chip": entry.chip,
                "runs": entry.report is not None,
                "findings": list(entry.reasons)
                if entry.report is None
                else [finding.text for finding in entry.report.findings],
                **({} if entry.report is None else _figures(entry.report)),
            }
            for entry in self.entries
        ]
        text = json.dumps(content, indent=1) + "\n"
        if path is not None:
            write_atomically(Path(path), text)
        return text

    def plot(self, path: str | Path) -> Path:
        """Plot the deployed accuracy against energy and bytes, and return the path of the image.

        Args:
            path: of the image; its suffix gives the format, such as ``.svg``.

        Raises:
            ConfigurationError: if matplotlib is not installed, or can't write this format.
            StorageError: if the file can't be written.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import EngFormatter
        except ImportError as error:
            raise ConfigurationError(
                "plot: the package matplotlib is not installed: pip install 'spikefit[plots]'."
            ) from error
        path = Path(path)
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        supported = figure.canvas.get_supported_filetypes()
        if path.suffix[1:] not in supported:
            raise ConfigurationError(f"plot: got {path}, expected a file name ending in .{', .'.join(supported)}.")
        titles = {"energy_per_inference_j": ("known energy of an inference", "J"), "model_bytes": ("model size", "B")}
        for axes, measure in zip(figure.subplots(1, 2, sharey=True), MEASURES, strict=True):
            title, unit = titles[measure]
            axes.set(xscale="log", xlabel=f"{title} ({unit})")
            axes.xaxis.set_major_formatter(EngFormatter())
            axes.grid(alpha=0.25)
            axes.margins(0.15)
            for entry in self.entries:
                value = None if entry.report is None else getattr(entry.report, measure)
                if entry.report is None or not value:
                    continue
                marker = "x" if entry.report.partial else "o"
                point = value, 100 * entry.report.accuracy_deployed
                axes.plot(*point, marker, label=entry.label)
                axes.annotate(entry.label, point, (5, 5), textcoords="offset points", fontsize=8)
        figure.axes[0].set_ylabel("accuracy, deployed (%); x: does not fit")
        with atomic_path(path) as draft:
            figure.savefig(draft, format=path.suffix[1:])
        return path


def _figures(report: "Report") -> dict[str, Any]:
    agreement = report.target_agreement
    return {
        **{name: getattr(report, name) for name in FIGURES},
        "cores_at_least": report.cores.lower_bound,
        "unplaced": list(report.cores.unplaced),
        "energy_model": report.energy.model,
        "energy_unknown_terms": list(report.energy.unknown),
        "agreement": None if agreement is None else agreement.agreement,
        "parity_mismatches": None if report.parity is None else report.parity.mismatches,
    }


COLUMNS = (
    *("run", "chip", "fits", "float", "trained", "deployed", "samples", "agreement", "bytes", "cores"),
    *("synops", "relays", "energy"),
)


def _yes(report: "Report") -> str:
    return "yes, as far as known" if report.unknown_limits else "yes"


def _row(entry: Entry) -> dict[str, str]:
    report, row = entry.report, dict.fromkeys(COLUMNS, "-")
    row |= {"run": entry.run, "chip": entry.chip}
    if report is None:
        return {**row, "fits": "can't run it"}
    partial = ", partial" if report.partial else ""
    relays, agreement = report.relay_synops_per_inference, report.target_agreement
    before = report.accuracy_before_compression
    return {
        **row,
        "fits": f"no, {_counted(report.findings, 'finding')}" if report.partial else _yes(report),
        "float": "-" if before is None else f"{before:.2%}",
        "trained": f"{report.accuracy_float:.2%}",
        "deployed": f"{report.accuracy_deployed:.2%}",
        "samples": f"{report.samples:,}",
        "agreement": "-" if agreement is None else _share(agreement.agreement),
        "bytes": f"{report.model_bytes:,}",
        "cores": _cores(report),
        "synops": f"{report.synops_per_inference:,.0f}",
        "relays": "unknown" if relays is None else f"{relays:,.0f}" if relays else "-",
        "energy": _energy(report) + partial,
    }


def _cores(report: "Report") -> str:
    return f"{report.cores_used:,}" + (f", without {', '.join(report.cores.unplaced)}" if report.cores.unplaced else "")


def _energy(report: "Report") -> str:
    known, unknown = report.energy_per_inference_j, report.energy.unknown
    return quantity(known, "J") + (f" + {len(unknown)} unknown" if unknown and known is not None else "")


def _share(value: float) -> str:
    return "100 %" if value == 1 else f"{min(value, 0.9999):.2%}"


def _counted(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def _table(rows: Sequence[dict[str, str]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in rows[0] if rows else ():
        left = name in ("run", "chip", "fits")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table
