"""The values of a report for loggers (W&B, CSV, TensorBoard): scalars, and the table of layers."""

from typing import Any

from spikefit.deploy.report.data import Report
from spikefit.hardware.energy import unknown_energy

SCALARS = (
    "accuracy_before_compression",
    "accuracy_float",
    "accuracy_deployed",
    "fits",
    "cores_used",
    "neurons",
    "synapses",
    "unique_weights_max",
    "model_bytes",
    "bits_per_weight",
    "float_bytes",
    "units_pruned_fraction",
    "synops_per_inference",
    "relay_synops_per_inference",
    "macs_per_inference",
    "spikes_per_inference",
    "energy_per_inference_j",
)
CORE_SCALARS = ("relay_ticks", "ticks_per_inference")
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


def scalars(report: Report) -> dict[str, float]:
    """The report's numbers for a logger, as ``deploy/NAME``; unknown values are omitted.

    ``deploy/energy_unknown_terms`` is the number of terms that are missing in ``deploy/energy_per_inference_j``, and
    each of them is named by a metric of value 1, such as ``deploy/energy_unknown/static``.
    """
    named = {name: getattr(report, name) for name in SCALARS}
    named |= {name: getattr(report.cores, name) for name in CORE_SCALARS}
    numbers = {f"deploy/{name}": float(value) for name, value in named.items() if value is not None}
    return {**numbers, **unknown_energy("deploy", report.energy.unknown)}


def layer_table(report: Report) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the per-layer table."""
    return list(LAYER_COLUMNS), [[getattr(layer, column) for column in LAYER_COLUMNS] for layer in report.layers]
