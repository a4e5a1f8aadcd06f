"""Runs of two processes of which one is killed: the other ends with one message."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from scripts.trust.programs import HANG_SECONDS, ROOT


def lose_process(folder: Path, rank: int, seconds: float) -> str:
    """Train on two processes, kill process ``rank`` after ``seconds`` of training: a word for the outcome.

    ``ended`` (exit status not 0, no traceback), ``tracebacks``, or ``hung``.
    """
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "spikefit.cli", "fit", "--config", str(Path(__file__).with_name("short.yaml"))]
    words += ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=100000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = folder / "printed.txt"
    with log.open("w") as file:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + HANG_SECONDS
        while not list(folder.glob("runs/short/*/checkpoints/last.ckpt")):
            if process.poll() is not None or time.monotonic() > end:
                return "never trained"
            time.sleep(0.2)
        time.sleep(seconds)
        (child,) = [pid for pid in _children(process.pid) if "LOCAL_RANK=1" in _environment(pid)]
        os.kill(child if rank else process.pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while process.poll() is None or (Path(f"/proc/{child}").exists() and _state(child) != "Z"):
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                return "hung"
            time.sleep(0.2)
        return "tracebacks" if "Traceback" in log.read_text() else "ended"
    finally:
        process.kill()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def lose_processes(count: int, seed: int, folder: Path) -> dict[str, int]:
    """Lose a process ``count`` times, each rank in turn; numbers of outcomes."""
    generator = random.Random(seed)
    found = Counter(lose_process(folder / f"lost{n}", n % 2, generator.uniform(0, 2)) for n in range(count))
    return {"lost": count, **{name: found[name] for name in ("ended", "tracebacks", "hung", "never trained")}}
