"""Runs that are killed and resumed, compared with a run that nobody disturbed."""

import csv
import json
import random
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from scripts.trust.kill_points import Point
from scripts.trust.programs import Ended, run
from spikefit.checkpoints import read_checkpoint

EPOCHS, BATCHES = 6, 6  # of short.yaml
OTHER_FILESYSTEM = Path("/dev/shm")
Directory = Literal["same", "elsewhere", "moved"]


@dataclass(frozen=True)
class Kill:
    """Where a run is killed, and from where it is resumed.

    Attributes:
        point, epoch, batch: as in :class:`~scripts.trust.kill_points.KillItself`.
        other_filesystem: whether temporary files are on another filesystem than the run.
        directory: whether the run is resumed in its working directory, in another one, or after its folder was moved.
    """

    point: Point
    epoch: int
    batch: int
    other_filesystem: bool
    directory: Directory


def kills(count: int, seed: int = 0) -> list[Kill]:
    """``count`` kills; every point, directory and filesystem comes up before one is repeated."""
    generator = random.Random(seed)
    points, directories = get_args(Point), get_args(Directory)
    chosen = []
    for number in range(count):
        epoch, batch = generator.randrange(EPOCHS), generator.randrange(BATCHES)
        other = number // len(points) % 2 == 1 and OTHER_FILESYSTEM.is_dir()
        chosen.append(Kill(points[number % len(points)], epoch, batch, other, directories[number % len(directories)]))
    return chosen


def fit(folder: Path, *words: str, temporary: Path | None = None) -> Ended:
    """Train ``short.yaml`` in ``folder``."""
    variables = {} if temporary is None else {"TMPDIR": str(temporary)}
    return run(["fit", "--config", str(Path(__file__).with_name("short.yaml")), *words], folder, variables)


def reference_run(folder: Path) -> Path:
    """The directory of a run that nobody disturbs, trained in ``folder``."""
    ended = fit(folder)
    assert ended.status == 0, ended.printed
    return folder / "runs" / "short" / "version_0"


def killed_and_resumed(kill: Kill, reference: Path, folder: Path) -> str:
    """Train in ``folder``, kill, resume, and compare with the run in ``reference``: a word for the outcome.

    ``exact``, or ``restarted`` if there was no checkpoint yet and there could be none; anything else is a fault.
    """
    temporary = OTHER_FILESYSTEM / f"trust-{folder.name}" if kill.other_filesystem else folder / "tmp"
    temporary.mkdir(parents=True)
    try:
        options = {"point": kill.point, "epoch": kill.epoch, "batch": kill.batch}
        callback = {"class_path": "scripts.trust.kill_points.KillItself", "init_args": options}
        ended = fit(folder, f"--trainer.callbacks+={json.dumps(callback)}", temporary=temporary)
        if ended.hung or ended.status != -9:
            return "hung" if ended.hung else "not killed"
        killed = folder / "runs" / "short" / "version_0"
        if kill.directory == "moved":
            killed = killed.rename(folder / "moved")
        where = folder / "elsewhere" if kill.directory == "elsewhere" else folder
        last = killed / "checkpoints" / "last.ckpt"
        if not last.is_file():
            return "restarted" if kill.epoch == 0 else "no checkpoint"
        ended = fit(where, "--ckpt_path", str(last.resolve()), temporary=temporary)
        if ended.hung or ended.status:
            return "hung" if ended.hung else f"not resumed: {ended.printed[-300:]}"
        resumed = max((where / "runs" / "short").glob("version_*"), key=lambda path: path.stat().st_mtime_ns)
        return compare(reference, killed, resumed)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def compare(reference: Path, killed: Path, resumed: Path) -> str:
    """``exact``, or what differs first."""
    last = [path / "checkpoints" / "last.ckpt" for path in (reference, resumed, killed)]
    # A run that was killed after its training has nothing left to save.
    ours, theirs = (read_checkpoint(path, "") for path in (last[0], last[1] if last[1].is_file() else last[2]))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        if not same(ours[part], theirs[part]):
            return f"other {part}"
    if figures(reference) != figures(resumed):
        return "another report"
    found = {**epochs(killed), **epochs(resumed)}
    return "exact" if found == epochs(reference) else "other metrics"


def same(one: Any, other: Any) -> bool:
    """Whether two nested structures hold equal values, tensors to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def figures(directory: Path) -> dict[str, Any]:
    """All of a run's report but which run it is of."""
    report: dict[str, Any] = json.loads((directory / "deployment" / "report.json").read_text())
    for key in ("run", "configuration", "checkpoint"):
        del report["provenance"][key]
    return report


def epochs(directory: Path) -> dict[str, dict[str, str]]:
    """Validation metrics by epoch."""
    path = directory / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    return {row["epoch"]: {name: row[name] for name in ("val/loss", "val/accuracy")} for row in rows}


def kill_runs(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill and resume ``count`` runs; numbers of outcomes, and the kills that were not resumed exactly."""
    reference = reference_run(folder / "reference")
    outcomes: Counter[str] = Counter()
    faults = []
    for number, kill in enumerate(kills(count, seed)):
        outcome = killed_and_resumed(kill, reference, folder / f"kill{number}")
        print(f"{number + 1}/{count} {kill}: {outcome}", flush=True)
        outcomes[outcome if outcome in ("exact", "restarted", "hung") else "fault"] += 1
        if outcome in ("exact", "restarted"):
            shutil.rmtree(folder / f"kill{number}")
        else:
            faults.append({**asdict(kill), "outcome": outcome})
    return {
        "kills": count,
        **{name: outcomes[name] for name in ("exact", "restarted", "hung", "fault")},
        "faults": faults,
    }
