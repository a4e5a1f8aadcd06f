"""Helpers of the benchmarks: interleaved timing, peak memory, the common network, and results as JSON."""

import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.networks import ConvSNN, Network
from spikefit.quantize import Codebook
from spikefit.quantize.base import attach

Step = Callable[[], object]
Key = TypeVar("Key")
Forward = Callable[[Tensor], Tensor]


def spikefit_network(codebook: bool = False, channels: tuple[int, ...] = (32, 64), side: int = 28) -> Network:
    """Network with conv-norm-LIF-pool for each of ``channels``, a dense layer of 128 neurons and a readout of 10."""
    network = ConvSNN((1, side, side), 10, channels=channels, hidden=(128,))
    if codebook:
        for _, layer in network.named_synapses():
            attach(layer, Codebook(layer.weight.detach()))
    return network


def training_step(module: nn.Module, forward: Forward, x: Tensor) -> Step:
    """Build a training step: forward, cross entropy, backward, SGD."""
    labels = torch.arange(x.shape[1]) % 10
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(x).float(), labels).backward()
        optimizer.step()

    return step


def interleaved(steps: dict[Key, Step], rounds: int, warm_up: int = 2) -> dict[Key, list[float]]:
    """Milliseconds of every call. In each round each step runs once, so that slow phases of the machine affect all."""
    for step in steps.values():
        for _ in range(warm_up):
            step()
    times: dict[Key, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def quartiles(times: list[float]) -> dict[str, float]:
    """Median and quartiles of times in milliseconds."""
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
    return {"median_ms": round(median, 2), "q1_ms": round(q1, 2), "q3_ms": round(q3, 2)}


def peak_mib(step: Step, small: Step) -> float:
    """Peak increase of this process's resident memory during two calls of ``step``, in MiB.

    ``small`` runs first and does the same on little data, so that compilation and imports are not counted. Linux only.
    """
    for _ in range(2):
        small()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    for _ in range(2):
        step()
    return round((_status("VmHWM") - before) / 1024, 1)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def versions(*packages: str) -> dict[str, str]:
    """Versions of the installed packages among torch, numba, spikefit and ``packages``."""
    found = {}
    for package in ("torch", "numba", "spikefit", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path | None, rows: list[dict[str, Any]], used: dict[str, str]) -> None:
    """Write rows as JSON, with the command, the number of threads and the versions; nothing if ``path`` is None."""
    if path is None:
        return
    script = sys.modules["__main__"].__spec__
    command = " ".join(["python", "-m", script.name if script else sys.argv[0], *sys.argv[1:]])
    content = {"command": command, "threads": torch.get_num_threads(), "versions": used, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Format rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "versions"))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "-")) for name in names) + " |" for row in rows]
    return "\n".join(lines)
