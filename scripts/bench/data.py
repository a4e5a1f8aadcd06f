"""Benchmark of event data: framing against tonic's ToFrame, caches against DiskCachedDataset, waiting in training.

    python -m scripts.bench.data --out docs/results/bench_data.json

The data are N-MNIST's recordings in ``SPIKEFIT_DATA_DIR/nmnist4``, in batches of 32 recordings as a training loop gets
them, ``[B, T, 2, 34, 34]`` with labels. Times are milliseconds per batch, in one process, without worker processes.

Cold: recordings are converted to frames. ``tonic`` applies ``ToFrame`` to each recording and collates batches with
``PadTensors``; ``spikefit`` frames a batch together. With ``events`` the recordings are in memory, with ``files`` each
is first read from its file, by tonic for both. ``spikefit, spikes`` gives uint8 spikes and ``spikefit, counts`` int16
counts, as tonic does. ``spikefit, cache of a batch`` also writes its spikes to a separate file and flushes it to disk.

Warm: batches are read from an existing cache. ``tonic`` is ``DiskCachedDataset`` with its default compression.

Waiting: a training step of a ConvSNN with 16 and 32 channels, and the time it waits for its batch. ``share`` is the
waiting time divided by the sum of both. With ``augment``, batches are made of cached events by ``DropEvent`` and a
flip.

Rows of a table are interleaved. ``speed-up`` is the median, over rounds, of the first row's time divided by that of the
row in the same round.
"""

import argparse
import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from scripts.bench.timing import Step, interleaved, quartiles, table, training_step, versions, write
from spikefit.data.events import NMNIST
from spikefit.data.events.pipeline import EventPipeline, FramedEvents
from spikefit.networks import ConvSNN

SENSOR = (34, 34, 2)
BATCH = 32
DROP = {"class_path": "tonic.transforms.DropEvent", "init_args": {"p": 0.1}}
FLIP = {"class_path": "tonic.transforms.RandomFlipLR"}
Batches = Iterator[tuple[Tensor, Tensor]]


class Recorded:
    """Recordings of N-MNIST in files or, with ``held``, in memory as tonic reads them."""

    sensor_size = SENSOR

    def __init__(self, root: Path, number: int, held: bool) -> None:
        source = NMNIST(str(root), classes=[6, 7, 8, 9], download=False)
        self.recordings = source.recordings("train")
        self.places = np.random.default_rng(0).permutation(len(self.recordings))[:number].tolist()
        self.labels = self.recordings.labels[self.places]
        self.held = [self._read(place) for place in self.places] if held else None
        self.identity = f"N-MNIST/{number}"

    def _read(self, place: int) -> np.ndarray:
        return self.recordings.dataset[self.recordings.indices[place]][0]

    def raw(self, index: int) -> np.ndarray:
        """A recording as tonic reads it."""
        return self._read(self.places[index]) if self.held is None else self.held[index]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.recordings[self.places[index]] if self.held is None else self.held[index]


class Tonic(torch.utils.data.Dataset[tuple[Any, int]]):
    """Data set of tonic's frames of the same recordings."""

    def __init__(self, recordings: Recorded, steps: int) -> None:
        from tonic import transforms

        self.recordings = recordings
        self.to_frame = transforms.ToFrame(sensor_size=SENSOR, n_time_bins=steps)

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.to_frame(self.recordings.raw(index)), int(self.recordings.labels[index])


def batches(dataset: Any, collate: Callable[[Any], Any] | None = None) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a function that gives the next batch at each call, and starts again after the last one."""

    def endless() -> Batches:
        while True:
            yield from DataLoader(dataset, batch_size=BATCH, collate_fn=collate, drop_last=True)

    return endless().__next__


def sped_up(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Quartiles of each row, and the median of its speed-up over the first row, round by round."""
    first = next(iter(times.values()))
    return [
        {"data": name}
        | quartiles(own)
        | {"speed-up": round(statistics.median(a / b for a, b in zip(first, own, strict=True)), 2)}
        for name, own in times.items()
    ]


def framed(recordings: Recorded, steps: int, **options: Any) -> FramedEvents:
    return EventPipeline(**options).dataset(recordings, steps, train=True)


def fill(recordings: Recorded, steps: int, folder: Path) -> None:
    """Empty the cache and write its file."""
    for path in folder.glob("*.cache"):
        path.unlink()
    framed(recordings, steps, cache="disk", cache_dir=str(folder))


def cold(root: Path, number: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    from tonic.collation import PadTensors

    rows = []
    for kind in ("events", "files"):
        recordings = Recorded(root, number, held=kind == "events")
        calls: dict[str, Step] = {
            f"{kind}: tonic": batches(Tonic(recordings, steps), PadTensors()),
            f"{kind}: spikefit, spikes": batches(framed(recordings, steps, cache="none")),
            f"{kind}: spikefit, counts": batches(framed(recordings, steps, cache="none", binary=False)),
        }
        with tempfile.TemporaryDirectory() as folder:
            if kind == "files":
                part = Recorded(root, BATCH, held=False)
                calls[f"{kind}: spikefit, cache of a batch"] = partial(fill, part, steps, Path(folder))
            rows += sped_up(interleaved(calls, rounds))
    return [{"table": "cold", "T": steps, "batch": BATCH} | row for row in rows]


def warm(root: Path, number: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    from tonic import DiskCachedDataset
    from tonic.collation import PadTensors

    recordings = Recorded(root, number, held=False)
    with tempfile.TemporaryDirectory() as folder:
        theirs = DiskCachedDataset(Tonic(recordings, steps), cache_path=f"{folder}/tonic")
        for index in range(number):
            _ = theirs[index]
        calls: dict[str, Step] = {
            "tonic, DiskCachedDataset": batches(theirs, PadTensors()),
            "spikefit, disk, spikes": batches(framed(recordings, steps, cache="disk", cache_dir=folder)),
            "spikefit, disk, counts": batches(framed(recordings, steps, cache="disk", cache_dir=folder, binary=False)),
            "spikefit, memory, spikes": batches(framed(recordings, steps, cache="memory")),
        }
        rows = sped_up(interleaved(calls, rounds))
    return [{"table": "warm", "T": steps, "batch": BATCH} | row for row in rows]


def waiting(root: Path, number: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    recordings = Recorded(root, number, held=False)
    network = ConvSNN((2, 34, 34), 10, channels=(16, 32), hidden=())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sources = {
            "disk": batches(framed(recordings, steps, cache="disk", cache_dir=folder)),
            "memory": batches(framed(recordings, steps, cache="memory")),
            "memory, augment": batches(framed(recordings, steps, cache="memory", augment=[DROP, FLIP])),
            "none": batches(framed(recordings, steps, cache="none")),
        }
        for name, source in sources.items():
            rows.append({"data": name} | _share(network, source, rounds))
    return [{"table": "waiting", "T": steps, "batch": BATCH} | row for row in rows]


def _share(network: Any, source: Callable[[], tuple[Tensor, Tensor]], rounds: int) -> dict[str, Any]:
    held: list[Tensor] = []

    def wait() -> None:
        held[:] = [source()[0]]

    def step() -> None:
        x = held[0].transpose(0, 1).float()  # as the data module encodes it
        training_step(network, lambda x: network.logits(network(x)), x)()

    times = interleaved({"wait": wait, "step": step}, rounds)
    share = statistics.median(a / (a + b) for a, b in zip(times["wait"], times["step"], strict=True))
    step_ms = round(statistics.median(times["step"]), 2)
    return quartiles(times["wait"]) | {"step_ms": step_ms, "share": round(share, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with NMNIST; SPIKEFIT_DATA_DIR/nmnist4 by default")
    parser.add_argument("--recordings", type=int, default=640)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)  # hides a message per cache
    root = arguments.root or Path(os.environ.get("SPIKEFIT_DATA_DIR", "data"), "nmnist4")
    found: list[dict[str, Any]] = []
    for measure in (cold, warm, waiting):
        rows = measure(root, arguments.recordings, arguments.steps, arguments.rounds)
        print(table(rows), end="\n\n", flush=True)
        found += rows
    write(arguments.out, found, versions("tonic", "numpy", "h5py"))


if __name__ == "__main__":
    main()
