"""The results file: one row for each run, complete at every moment."""

import csv
import fcntl
import json
import shlex
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.compare.run import Key, Run
from spikefit.deploy.report import Report
from spikefit.errors import SpikeFitError

FIGURES = (
    *("accuracy_float", "accuracy_deployed", "unique_weights_max", "bits_per_weight", "model_bytes"),
    *("synops_per_inference", "energy_per_inference_j", "target", "samples", "fits", "neurons", "synapses"),
    "units_pruned_fraction",
)
PACKAGES = ("torch", "lightning", "numpy", "spikefit")
Result = dict[str, Any]


def read_results(path: Path) -> list[Result]:
    """The rows written so far; none without a file."""
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SpikeFitError(f"{path} is no JSON: {error}. Repair it or move it away.") from error
    if not isinstance(rows, list):
        raise SpikeFitError(f"{path} holds no list of rows.")
    return rows


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold a lock on the results ``path``; it ends with the process, however that ends.

    Raises:
        SpikeFitError: when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SpikeFitError(f"another comparison writes {path} now; use its --jobs, or wait.") from error
        yield


def key_of(result: Result) -> Key:
    """:attr:`Run.key` of the run that gave ``result``."""
    return result["name"], result["prune_fraction"], result["seed"]


def result_of(run: Run, folder: Path, arguments: list[str]) -> Result:
    """The row of a finished run.

    Args:
        run: the run.
        folder: its files.
        arguments: its command line after ``spikefit``.
    """
    report = Report.from_json((folder / "deployment" / "report.json").read_text(encoding="utf-8"))
    wall, processor = epoch_times(folder / "metrics.csv")
    return {
        "name": run.row.name,
        "method": run.row.method,
        "prune_fraction": run.prune_fraction,
        "seed": run.seed,
        "train_samples": run.grid.train_samples,
        "epochs": run.grid.epochs_of(run.row),
        "accuracy_held_out": held_out_accuracy(folder / "metrics.csv"),
        **{name: getattr(report, name) for name in FIGURES},
        "energy_model": report.energy.model,
        "epoch_seconds": wall,
        "epoch_cpu_seconds": processor,
        "parity_mismatches": report.parity.mismatches if report.parity else None,
        "recipe": run.digest(),
        "command": shlex.join(["spikefit", *arguments]),
        "versions": {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in PACKAGES}},
    }


def held_out_accuracy(metrics: Path) -> float | None:
    """Accuracy on the validation images after the last epoch, from a run's CSV metrics; None without validation."""
    accuracies = _column(metrics, "val/accuracy")
    return round(accuracies[-1], 4) if accuracies else None


def epoch_times(metrics: Path) -> list[float | None]:
    """Median wall-clock and processor seconds of an epoch, from a run's CSV metrics; None where nothing was trained."""
    columns = [_column(metrics, name) for name in ("time/epoch_seconds", "time/epoch_cpu_seconds")]
    return [round(statistics.median(values), 2) if values else None for values in columns]


def _column(metrics: Path, name: str) -> list[float]:
    text = metrics.read_text(encoding="utf-8") if metrics.is_file() else ""
    return [float(line[name]) for line in csv.DictReader(text.splitlines()) if line.get(name)]
