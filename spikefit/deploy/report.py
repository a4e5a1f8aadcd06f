"""A deployment's figures as a file and as tables that a person can read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCALARS = (
    "accuracy_float",
    "accuracy_deployed",
    "fits",
    "cores_used",
    "neurons",
    "synapses",
    "unique_weights_max",
    "model_bytes",
    "bits_per_weight",
    "units_pruned_fraction",
    "synops_per_inference",
    "macs_per_inference",
    "spikes_per_inference",
    "energy_per_inference_j",
)
LAYER_COLUMNS = (
    "name",
    "neurons",
    "synapses",
    "unique_weights",
    "bits",
    "rate",
    "synops",
    "macs",
    "energy_j",
)


def write_report(report: dict[str, Any], folder: Path) -> Path:
    """Write ``report.json`` into ``folder``, whole or not at all, and return its path."""
    return write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n")


def write_whole(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` at once: a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def scalars(report: dict[str, Any]) -> dict[str, float]:
    """The report's numbers for a logger, as ``deploy/NAME``; unknown ones are left out."""
    return {f"deploy/{name}": float(report[name]) for name in SCALARS if report.get(name) is not None}


def layer_table(report: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the per-layer table."""
    return list(LAYER_COLUMNS), [[row[column] for column in LAYER_COLUMNS] for row in report["layers"]]


def print_report(report: dict[str, Any], path: Path | None = None) -> None:
    """Print the summary, the layers and every finding."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    summary = Table(
        title=f"Deployment on {report['target']}",
        show_header=False,
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for label, value in _summary(report):
        summary.add_row(label, value)
    layers = Table(title="Layers, per inference", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for heading in ("layer", "neurons", "synapses", "values", "bits", "rate", "synops", "MACs", "energy"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right", no_wrap=True)
    for row in report["layers"]:
        layers.add_row(
            row["name"] + (" encoder" if row["encoder"] else ""),
            f"{row['neurons']:,}",
            f"{row['synapses']:,}",
            str(row["unique_weights"]),
            str(row["bits"]),
            "-" if row["model"] == "readout" else f"{row['rate']:.3f}",
            f"{row['synops']:,.0f}",
            f"{row['macs']:,.0f}",
            quantity(row["energy_j"], "J"),
        )
    console.print(summary)
    console.print(layers)
    for finding in report["findings"]:
        console.print(f"does not fit: {finding['text']}", markup=False)
    if path is not None:
        console.print(f"Report: {path}", markup=False, soft_wrap=True)


def _summary(report: dict[str, Any]) -> Sequence[tuple[str, str]]:
    samples, energy = report["samples"], report["energy"]
    unknown = f"; unknown: {', '.join(energy['unknown'])}" if energy["unknown"] else ""
    parity, agreement = report["parity"], report["target_agreement"]
    rows = [
        ("fits", "yes" if report["fits"] else f"no ({len(report['findings'])} findings below)"),
        ("accuracy, trained network", f"{report['accuracy_float']:.2%} of {samples} samples"),
        ("accuracy, deployed", f"{report['accuracy_deployed']:.2%} of {samples} samples"),
        (
            "units pruned",
            f"{report['units_total'] - report['units_alive']} of {report['units_total']} "
            f"({report['units_pruned_fraction']:.1%})",
        ),
        ("neurons", f"{report['neurons']:,}"),
        ("synapses", f"{report['synapses']:,}"),
        ("unique weights, worst layer", str(report["unique_weights_max"])),
        ("model size", f"{report['model_bytes']:,} bytes, {report['bits_per_weight']:.2f} bits a weight"),
        ("cores used", f"{report['cores_used']:,}"),
        ("synops", f"{report['synops_per_inference']:,.0f} per inference of {report['time_steps']} steps"),
        ("MACs of the encoder", f"{report['macs_per_inference']:,.0f} per inference"),
        (
            "energy",
            f"{quantity(report['energy_per_inference_j'], 'J')} per inference (model {energy['model']}{unknown})",
        ),
    ]
    rows += [(f"  {name}", quantity(joule, "J")) for name, joule in energy["terms_j"].items()]
    if report["overflows_per_inference"]:
        rows.append(("membrane overflows", f"{report['overflows_per_inference']:,.1f} per inference"))
    if parity is not None:
        rows.append(
            (
                "exact program = network",
                f"{parity['mismatches']} mismatches in {parity['compared']:,} neuron steps",
            )
        )
    if agreement is not None:
        differing = agreement["mismatches"] + agreement["ties"]  # a percentage would round 2 of 500,000 away
        rows.append(
            ("chip's spikes = network's", f"{differing:,} mismatches in {agreement['compared']:,} neuron steps")
        )
    return rows


def quantity(value: float | None, unit: str) -> str:
    """``value`` with a metric prefix, or ``unknown``."""
    if value is None:
        return "unknown"
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
