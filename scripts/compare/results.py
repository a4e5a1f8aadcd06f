"""The results of ``compare.py``: one row a run, in a file that is whole at every moment."""

import csv
import fcntl
import json
import os
import shlex
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.compare.run import Run
from spikefit.deploy.report import Report
from spikefit.errors import SpikeFitError

FIGURES = (
    "accuracy_float",
    "accuracy_deployed",
    "unique_weights_max",
    "bits_per_weight",
    "model_bytes",
    "synops_per_inference",
    "energy_per_inference_j",
    "target",
    "samples",
    "fits",
    "neurons",
    "synapses",
)
PACKAGES = ("torch", "lightning", "numpy", "spikefit")
Result = dict[str, Any]


def read_results(path: Path) -> list[Result]:
    """The rows so far; none when there is no file."""
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SpikeFitError(f"{path} is no JSON: {error}. Mend it or move it away.") from error
    if not isinstance(rows, list):
        raise SpikeFitError(f"{path} holds no list of rows.")
    return rows


def write_atomically(path: Path, text: str) -> None:
    """Write ``path`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def write_results(path: Path, rows: list[Result]) -> None:
    """Write the rows."""
    write_atomically(path, json.dumps(rows, indent=1) + "\n")


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Holds a lock on the results ``path``; it ends with the process, however that ends.

    Raises:
        SpikeFitError: when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SpikeFitError(f"another compare.py writes {path} now; use its --jobs, or wait.") from error
        if not lock.exists() or lock.stat().st_ino != os.fstat(handle.fileno()).st_ino:
            raise SpikeFitError(f"another compare.py has just finished with {path}; start again.")
        try:
            yield
        finally:
            lock.unlink()


def key_of(result: Result) -> tuple[str, float | None, int]:
    """What :attr:`compare_run.Run.key` is for a run."""
    return result["name"], result["prune_fraction"], result["seed"]


def result_of(run: Run, folder: Path, arguments: list[str]) -> Result:
    """The row of a run that has finished.

    Args:
        run: which.
        folder: its files.
        arguments: its command line behind ``spikefit``.
    """
    report = Report.from_json((folder / "deployment" / "report.json").read_text(encoding="utf-8"))
    times = epoch_times(folder / "metrics.csv")
    row, parity = run.row, report.parity
    return {
        "name": row.name,
        "method": row.method,
        "levels": row.levels,
        "bits": row.bits,
        "scope": row.scope,
        "prune_method": row.prune_method,
        "prune_fraction": run.prune_fraction,
        "seed": run.seed,
        "dataset": run.grid.dataset,
        "train_samples": run.grid.train_samples,
        "epochs": run.grid.epochs_of(row),
        "epochs_of_start": run.grid.epochs_before(row),
        "from": row.start,
        **{name: getattr(report, name) for name in FIGURES},
        "units_pruned_fraction": report.units_pruned_fraction,
        "energy_model": report.energy.model,
        "epoch_seconds": times[0],
        "epoch_cpu_seconds": times[1],
        "parity_mismatches": parity.mismatches if parity else None,
        "recipe": run.digest(),
        "command": shlex.join(["spikefit", *arguments]),
        "versions": {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in PACKAGES}},
    }


def epoch_times(metrics: Path) -> tuple[float | None, float | None]:
    """Median wall-clock and processor seconds of an epoch, from a run's CSV metrics; None where it trained nothing."""
    medians: list[float | None] = []
    for column in ("time/epoch_seconds", "time/epoch_cpu_seconds"):
        values: list[float] = []
        if metrics.is_file():
            with metrics.open(encoding="utf-8", newline="") as lines:
                values = [float(line[column]) for line in csv.DictReader(lines) if line.get(column)]
        medians.append(round(statistics.median(values), 2) if values else None)
    return medians[0], medians[1]
