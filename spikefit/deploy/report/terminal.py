"""Output of a report as tables in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from spikefit.deploy.report.data import Report
    from spikefit.deploy.report.sections import ParityEntry


def print_report(report: "Report", *paths: Path) -> None:
    """Print the summary, the layers and all findings of ``report``, and the ``paths`` of its files."""
    from rich.console import Console

    console = Console()
    console.print(_table(f"Deployment on {report.target}", summary(report)))
    console.print(_layers(report))
    for finding in report.findings:
        console.print(f"does not fit: {finding.text}", markup=False)
    for position, path in enumerate(paths):
        console.print(f"{'        ' if position else 'Report: '}{path}", markup=False, soft_wrap=True)


def _table(title: str, rows: Sequence[tuple[str, str]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    return table


def _layers(report: "Report") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title="Layers, per inference", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for heading in ("layer", "neurons", "synapses", "values", "bits", "rate", "synops", "MACs", "energy"):
        table.add_column(heading, justify="left" if heading == "layer" else "right", no_wrap=True)
    for layer in report.layers:
        table.add_row(
            layer.name + (" encoder" if layer.encoder else ""),
            f"{layer.neurons:,}",
            f"{layer.synapses:,}",
            str(layer.unique_weights),
            str(layer.bits),
            "-" if layer.model == "readout" else f"{layer.rate:.3f}",
            f"{layer.synops:,.0f}",
            f"{layer.macs:,.0f}",
            quantity(layer.energy_j, "J"),
        )
    return table


def summary(report: "Report") -> list[tuple[str, str]]:
    """Labels and values of the summary; ``(partial)`` marks figures that presume a fit if the network does not fit."""
    return [
        ("fits", _verdict(report)),
        *_accuracies(report),
        (
            "units pruned",
            f"{report.units_total - report.units_alive} of {report.units_total} ({report.units_pruned_fraction:.1%})",
        ),
        ("neurons", f"{report.neurons:,}"),
        ("synapses", f"{report.synapses:,}"),
        ("unique weights, worst layer", str(report.unique_weights_max)),
        ("model size", f"{report.model_bytes:,} bytes, {report.bits_per_weight:.2f} bits a weight"),
        ("  in float32", "unknown" if report.float_bytes is None else f"{report.float_bytes:,} bytes"),
        (f"cores used{_partial(report)}", _cores(report)),
        ("synops", f"{report.synops_per_inference:,.0f} per inference of {report.time_steps} steps"),
        *_relays(report),
        ("MACs of the encoder", f"{report.macs_per_inference:,.0f} per inference"),
        *_energies(report),
        *_comparisons(report),
    ]


def _verdict(report: "Report") -> str:
    if not report.partial:
        unknown = [name.rpartition(".")[2] for name in report.unknown_limits]
        return f"yes, as far as known (unpublished: {', '.join(unknown)})" if unknown else "yes"
    unplaced = f", {_counted(report.cores.unplaced, 'layer')} unplaced" if report.cores.unplaced else ""
    return f"no ({_counted(report.findings, 'finding')} below{unplaced})"


def _counted(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def _partial(report: "Report") -> str:
    return " (partial)" if report.partial else ""


def _cores(report: "Report") -> str:
    without = f", without {', '.join(report.cores.unplaced)}" if report.cores.unplaced else ""
    return f"{report.cores_used:,}{without}"


def _relays(report: "Report") -> list[tuple[str, str]]:
    """Relays, if the chip needs any or may need some, and the ticks of an inference, if they are known."""
    cores, label, rows = report.cores, f"synops of relays{_partial(report)}", list[tuple[str, str]]()
    if cores.splitter_neurons is None:
        rows.append((label, "unknown"))
    elif cores.splitter_neurons:
        synops = report.relay_synops_per_inference
        performed = "unknown" if synops is None else f"{synops:,.0f} more per inference"
        rows.append((label, f"{performed}, by {cores.splitter_neurons:,} relay neurons"))
    if cores.ticks_per_inference is not None:
        of_relays = f", {cores.relay_ticks} of them for relays" if cores.relay_ticks else ""
        rows.append((f"latency{_partial(report)}", f"{cores.ticks_per_inference} ticks per inference{of_relays}"))
    return rows


def _accuracies(report: "Report") -> list[tuple[str, str]]:
    rows = []
    if report.accuracy_before_compression is not None:
        samples = report.samples_before_compression
        rows.append(("accuracy, float network", f"{report.accuracy_before_compression:.2%} of {samples} samples"))
    trained = "accuracy, trained network"
    if report.trained_with_integers_of is not None:
        whose = (
            "the chip's integers"
            if report.trained_with_integers_of == report.target
            else (f"the integers of {report.trained_with_integers_of}")
        )
        trained += f"\n (with {whose})"  # the line break keeps the table within 80 columns
    return [
        *rows,
        (trained, f"{report.accuracy_float:.2%} of {report.samples} samples"),
        ("accuracy, deployed", f"{report.accuracy_deployed:.2%} of {report.samples} samples"),
    ]


def _energies(report: "Report") -> list[tuple[str, str]]:
    energy, partial = report.energy, _partial(report)
    unknown = f"; unknown: {', '.join(energy.unknown)}" if energy.unknown else ""
    total = f"{quantity(report.energy_per_inference_j, 'J')} per inference (model {energy.model}{unknown})"
    terms = [
        (f"  {name}{partial if name in ('hops', 'relays') else ''}", quantity(joule, "J"))
        for name, joule in energy.terms_j.items()
    ]
    return [(f"energy{partial}", total), *terms]


def _comparisons(report: "Report") -> list[tuple[str, str]]:
    rows = []
    if report.overflows_per_inference:
        rows.append(("membrane overflows", f"{report.overflows_per_inference:,.1f} per inference"))
    if report.parity is not None:
        rows.append(("exact program = network", _mismatches(report.parity, report.parity.mismatches)))
    if report.target_agreement is not None:
        agreement = report.target_agreement
        differing = agreement.mismatches + agreement.ties  # a percentage would hide 2 of 500,000
        rows.append(("chip's spikes = network's", _mismatches(agreement, differing)))
    return rows


def _mismatches(parity: "ParityEntry", differing: int) -> str:
    return f"{differing:,} mismatches in {parity.compared:,} neuron steps"


def quantity(value: float | None, unit: str) -> str:
    """``value`` with a metric prefix, or ``unknown``."""
    if value is None:
        return "unknown"
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
