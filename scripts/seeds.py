"""Run one configuration with several seeds and print figures of the deployment reports.

    python -m scripts.seeds --config configs/quickstart.yaml --seeds 0 1 2 --out docs/results/quickstart.json

Options after ``--`` are passed to every run. Each run is an ordinary ``spikefit fit`` in a separate process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from spikefit.deploy.report import Report

FIGURES = (
    "accuracy_before_compression",
    "accuracy_float",
    "accuracy_deployed",
    "samples",
    "fits",
    "unique_weights_max",
    "units_pruned_fraction",
    "cores_used",
    "neurons",
    "synapses",
    "synops_per_inference",
    "energy_per_inference_j",
    "target",
)
PACKAGES = ("torch", "lightning", "spikefit")


def run(config: Path, seed: int, options: list[str]) -> dict[str, object]:
    """Run one seed and return its figures; files are written to a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        logger = {
            "class_path": "lightning.pytorch.loggers.CSVLogger",
            "init_args": {"save_dir": folder, "name": "seeds"},
        }
        command = [sys.executable, "-m", "spikefit.cli", "fit", "--config", str(config), f"--seed_everything={seed}"]
        command += [f"--trainer.logger={json.dumps(logger)}", "--trainer.enable_progress_bar=false", *options]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        path = Path(folder) / "seeds" / "version_0" / "deployment" / "report.json"
        report = Report.from_json(path.read_text(encoding="utf-8"))
    mismatches = report.parity.mismatches if report.parity else None
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "parity_mismatches": mismatches,
        **{name: getattr(report, name) for name in FIGURES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    parser.add_argument("options", nargs="*", help="options for every run, after --")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        rows.append(run(arguments.config, seed, arguments.options))
        print(" ".join(f"{name}={value}" for name, value in rows[-1].items()), flush=True)
    accuracies = [float(str(row["accuracy_deployed"])) for row in rows]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"accuracy_deployed: mean {statistics.mean(accuracies):.4f}, standard deviation {spread:.4f}")
    if arguments.out:
        command = " ".join(["python", "-m", "scripts.seeds", *sys.argv[1:]])
        versions = {name: version(name) for name in PACKAGES}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"command": command, "versions": versions, "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
