"""Trials of what must never be lost: kills, damaged files, wrong configurations, a lost process.

    python -m scripts.trust --kills 40 --damaged 2000 --configurations 300 --lost 5 --out docs/results/trust.json

Nothing may be reported as ``hung``, ``fault``, ``accepted`` or ``tracebacks``; the exit status is then 1.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.trust.config_mutations import mutate_configs
from scripts.trust.damage import damage_bundle, damage_checkpoint
from scripts.trust.kills import kill_runs, reference_run
from scripts.trust.lost_process import lose_processes
from spikefit.atomic import write_atomically
from spikefit.deploy.report.git_commit import checkout_commit

FAULTS = ("hung", "hangs", "fault", "accepted", "tracebacks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials, print and write their figures, and return the exit status."""
    parser = argparse.ArgumentParser("python -m scripts.trust", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="runs that are killed and resumed")
    parser.add_argument("--damaged", type=int, default=2000, help="damaged copies of a checkpoint, and of a bundle")
    parser.add_argument("--configurations", type=int, default=300, help="configurations with a wrong value")
    parser.add_argument("--lost", type=int, default=5, help="runs of two processes of which one is killed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choices")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the figures")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, Any] = {"seed": given.seed, "commit": checkout_commit()}
    with tempfile.TemporaryDirectory(prefix="trust-") as name:
        folder = Path(name).resolve()
        if given.kills:
            found["kills"] = kill_runs(given.kills, given.seed, folder)
        if given.damaged:
            best = reference_run(folder / "damage") / "checkpoints" / "best.ckpt"
            found["checkpoints"] = damage_checkpoint(best, given.damaged, given.seed, folder)
            found["bundles"] = damage_bundle(best, given.damaged, given.seed, folder)
        if given.configurations:
            found["configurations"] = mutate_configs(given.configurations, given.seed)
        if given.lost:
            found["lost processes"] = lose_processes(given.lost, given.seed, folder)
    print(json.dumps(found, indent=1))
    if given.out is not None:
        write_atomically(given.out, json.dumps(found, indent=1) + "\n")
    parts = [part for part in found.values() if isinstance(part, dict)]
    return int(any(part.get(name) for part in parts for name in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
