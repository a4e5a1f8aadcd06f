"""A report as one self-contained HTML page, without scripts or external resources, with all text escaped."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikefit.atomic import write_atomically
from spikefit.deploy.report import pictures
from spikefit.deploy.report.data import Report
from spikefit.deploy.report.sections import SourcedEntry
from spikefit.deploy.report.svg import number
from spikefit.deploy.report.terminal import quantity

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

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
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            origin=[(label, getattr(report.provenance, name)) for name, label in PROVENANCE.items()],
            confidences=CONFIDENCES,
            sections=_sections(report),
            **_weights_and_spikes(report),
            **_energies(report),
            **_cores(report),
            **_training(report),
            **_confusion(report),
        )
    )


def _sections(report: Report) -> list[tuple[str, str]]:
    """Anchor and title of the sections that the page has."""
    present = {
        ("codebooks", "Codebooks"): report.codebooks,
        ("spikes", "Spikes"): report.examples,
        ("rates", "Firing rates"): report.rates,
        ("energy", "Energy"): True,
        ("cores", "Cores"): True,
        ("training", "Training and pruning"): report.training and report.training.epochs,
        ("outcome", "Errors and parity"): True,
        ("chips", "Chips"): report.chips,
        ("layers", "Layers"): True,
        ("sources", "Sources"): True,
    }
    return [section for section, shown in present.items() if shown]


def _weights_and_spikes(report: Report) -> dict[str, Any]:
    letters = {letter for entry in report.examples for rows in entry.rows for row in rows.spikes for letter in row}
    return {
        "codebooks": [(entry, pictures.codebook(entry)) for entry in report.codebooks],
        "before": any(entry.before for entry in report.codebooks),
        "first_values": any(entry.first_values for entry in report.codebooks),
        "examples": [(entry, pictures.sample(entry), pictures.raster(entry)) for entry in report.examples],
        "several_spikes": bool(letters - {".", "1"}),
        "rates": [(entry, pictures.rates(entry)) for entry in report.rates],
    }


def _energies(report: Report) -> dict[str, Any]:
    """Bars of the energy, each term in its colour."""
    total, terms = report.energy_per_inference_j or 0.0, report.energy.terms_j
    colours = {name: pictures.colour(position) for position, name in enumerate(terms)}

    def parts(joules: Mapping[str, float | None]) -> list[tuple[float, str, str]]:
        return [(joule, colours[name], f"{name}: {amount(joule, 'J')}") for name, joule in joules.items() if joule]

    rows = [(layer.name, layer.energy_j, layer.energy_terms_j) for layer in report.layers]
    return {
        "terms": [
            {"name": name, "joule": joule, "bar": pictures.bar(parts({name: joule}), total)}
            for name, joule in terms.items()
        ],
        "shares": [
            {"name": name, "joule": joule, "bar": pictures.bar(parts(of_layer), total)}
            for name, joule, of_layer in rows
        ],
        "layer_terms": [name for name in terms if all(name in layer.energy_terms_j for layer in report.layers)],
    }


def _cores(report: Report) -> dict[str, Any]:
    cores, entry = report.cores, report.core_map
    neurons = dict[int, list[int]]()
    for layer, count in (part for parts in entry.parts for part in parts) if entry else ():
        neurons.setdefault(layer, []).append(count)
    return {
        "core_bar": pictures.bar([(cores.used, "c0", "")], cores.available) if cores.available else "",
        "core_map": pictures.core_map(entry) if entry else None,
        "core_layers": [
            (layer + 1, entry.layers[layer], pictures.colour(layer), len(held), sum(held))
            for layer, held in sorted(neurons.items())
        ]
        if entry
        else [],
        "utilisation": [
            (name, pictures.bar([(use.mean, "c0", "")], 1), pictures.bar([(use.max, "c7", "")], 1), use)
            for name, use in cores.utilisation.items()
        ],
    }


def _training(report: Report) -> dict[str, Any]:
    record, deployed = report.training, report.provenance.epoch
    if record is None or not record.epochs:
        return {}
    last = record.epochs[-1]
    names = (*record.layers, *(f"{name} weights" for name in record.masked))
    sizes = zip(names, (*record.units, *record.weights), (*last.alive, *last.synapses), strict=True)
    return {
        "deployed": deployed if any(entry.epoch == deployed for entry in record.epochs) else None,
        "marks": pictures.marks(record),
        "accuracy": pictures.accuracy(record, deployed),
        "has_val": any(entry.accuracy_val is not None for entry in record.epochs),
        "has_train": any(entry.accuracy_train is not None for entry in record.epochs),
        "energies": pictures.energy(record, deployed),
        "living": pictures.living(record),
        "removed": record.removed(),
        "prunable": list(sizes),
    }


def _confusion(report: Report, most: int = 5) -> dict[str, Any]:
    counts = report.confusion or ()
    errors = [
        (label, predicted, count, count / sum(row))
        for label, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and label != predicted
    ]
    return {
        "confusion": pictures.confusion(counts) if counts else None,
        "confused": sorted(errors, key=lambda error: -error[2])[:most],
    }


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
        "short_percent": lambda part: f"{part:.0%}" if part in (0, 1) or part >= 0.1 else f"{part:.1%}",
        "number": number,
        "zip": zip,
        "breakable": breakable,
        "plural": lambda items, noun: f"{len(items)} {noun}" + ("s are" if len(items) != 1 else " is"),
        "words": lambda name: str(name).replace("_", " "),
    }
    return page


def breakable(text: Any) -> "Markup":
    """``text``, escaped, that a browser may break after each slash of a path."""
    from markupsafe import Markup, escape

    return Markup("/<wbr>").join(map(escape, str(text).split("/")))


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
