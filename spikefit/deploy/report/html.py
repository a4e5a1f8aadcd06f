"""A report as one self-contained HTML page, without scripts or external resources, with all text escaped."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikefit.atomic import write_atomically
from spikefit.deploy.report.data import Report
from spikefit.deploy.report.sections import SourcedEntry
from spikefit.deploy.report.terminal import quantity

if TYPE_CHECKING:
    from jinja2 import Environment

CONFIDENCES = {
    "P": "paper",
    "V": "vendor's document",
    "T": "source code of a public tool",
    "S": "secondary source",
    "D": "derived",
    "R": "recalled, unverified",
}
PROVENANCE = {
    "data_set": "data set",
    "run": "run",
    "configuration": "configuration",
    "checkpoint": "checkpoint",
    "epoch": "last epoch, from 0",
    "seed": "seed",
    "version": "spikefit",
    "commit": "commit",
}
UNITS = {"j": "J", "w": "W", "s": "s"}


def write_html(report: Report, folder: Path) -> Path:
    """Write ``report.html`` into ``folder`` atomically and return its path."""
    return write_atomically(folder / "report.html", render(report))


def render(report: Report) -> str:
    """The HTML page of ``report``."""
    total, layers, terms = report.energy_per_inference_j, report.layers, report.energy.terms_j
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            terms=[_bar(name, joule, total) for name, joule in terms.items()],
            shares=[_bar(layer.name, layer.energy_j, total) for layer in layers],
            layer_terms=[name for name in terms if all(name in layer.energy_terms_j for layer in layers)],
            origin=[(label, getattr(report.provenance, name)) for name, label in PROVENANCE.items()],
            confidences=CONFIDENCES,
        )
    )


def _bar(name: str, joule: float | None, total: float | None) -> dict[str, Any]:
    return {"name": name, "joule": joule, "share": joule / total if joule and total else 0.0}


@lru_cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # imported late to keep the start-up fast

    page = Environment(
        loader=PackageLoader("spikefit.deploy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "count": count,
        "joule": lambda value: amount(value, "J"),
        "percent": lambda share: f"{share:.2%}",
        "share": share,
        "figure": figure,
        "plural": lambda items, noun: f"{len(items)} {noun}" + ("s are" if len(items) != 1 else " is"),
        "words": lambda name: str(name).replace("_", " "),
    }
    return page


def count(value: Any) -> str:
    """``value`` with thousands separators; ``unknown`` for None, text unchanged."""
    if value is None:
        return "unknown"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def amount(value: float | None, unit: str) -> str:
    """As :func:`~spikefit.deploy.report.terminal.quantity`, with the micro sign instead of ``u``."""
    return quantity(value, unit).replace(" u", " µ")


def figure(entry: SourcedEntry) -> str:
    """The value of a figure, in the unit given by the end of its name."""
    value, unit = entry.value, UNITS.get(entry.name.rpartition("_")[2])
    if unit is None:
        return plain(value)
    return ", ".join(amount(each, unit) for each in (value if isinstance(value, list | tuple) else [value]))


def share(value: float) -> str:
    """A share in percent, never rounded up to 100 %."""
    return "100 %" if value == 1 else f"{min(value, 0.999999):.4%}"


def plain(value: Any) -> str:
    """The value of a figure without unit: rounded numbers, lists separated by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
