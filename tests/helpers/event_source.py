"""Artificial recordings, and a data set of them with a pipeline, for tests and their configurations."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from spikefit.data.events import NMNIST
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.tonic_source import TonicRecordings
from spikefit.data.source import DataSource, LabelledDataset, Part
from spikefit.input_kind import InputKind

DTYPE = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
AUDIO = np.dtype([("t", int), ("x", int), ("p", int)])


def events_of(seed: int, number: int, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Events anywhere within 100 ms, the corners of the sensor included."""
    rng = np.random.default_rng(seed)
    audio = sensor_size[1:] == (1, 1)
    events = np.zeros(number, AUDIO if audio else DTYPE)
    for name, high in zip("xyp", sensor_size, strict=True):
        if name in events.dtype.names:
            events[name] = rng.integers(0, high, number)
            events[name][:2] = (0, high - 1)[:number]
    events["t"] = np.sort(rng.integers(0, 100_000, number))
    return events


@dataclass
class MadeUp:
    """Recordings in memory; ``reads`` says which were read."""

    sensor_size: tuple[int, int, int] = (12, 10, 2)
    number: int = 20
    events: int = 80
    identity: str = "made up"
    reads: list[int] = field(default_factory=list)

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.number) % 2

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> np.ndarray:
        self.reads.append(index)
        return events_of(index, 0 if index == 3 else self.events + index, self.sensor_size)


class MadeUpEvents(DataSource):
    """A data set of two classes."""

    event, num_classes = True, 2

    def __init__(self, pipeline: EventPipeline | None = None, sensor_size: tuple[int, int, int] = (12, 10, 2)) -> None:
        self.pipeline = pipeline or EventPipeline()
        self.sensor_size = sensor_size

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.pipeline.shape(self.sensor_size)

    @property
    def input_kind(self) -> InputKind:  # type: ignore[override]
        return self.pipeline.input_kind

    def prepare(self) -> None: ...

    def load(self, part: Part, time_steps: int) -> LabelledDataset:
        recordings = MadeUp(self.sensor_size, identity=f"made up/{part}")
        return self.pipeline.dataset(recordings, time_steps, part == "train")


def real_nmnist(root: str, part: Part, number: int) -> TonicRecordings:
    """Some recordings of N-MNIST's digits 6 to 9."""
    source = NMNIST(root=root, classes=[6, 7, 8, 9], download=False)
    dataset = source.open(part, download=False)
    chosen = source._chosen(dataset)
    places = np.linspace(0, len(chosen.labels) - 1, number).astype(int).tolist()
    return TonicRecordings(f"N-MNIST/{part}/{number}", source.sensor_size, dataset, chosen.only(places))


class Twice:
    """A transform of a user's own that says nothing of itself."""

    def __init__(self, shift: int = 1) -> None:
        self.shift = shift

    def __call__(self, events: np.ndarray) -> np.ndarray:
        again = events.copy()
        again["t"] += self.shift
        return np.concatenate([events, again])


class TwiceAlways(Twice):
    """A transform of a user's own that is not random."""

    deterministic = True


class LeftHalf:
    """A transform of a user's own that changes the sensor."""

    deterministic = True

    def __init__(self, sensor_size: tuple[int, int, int]) -> None:
        self.width = sensor_size[0] // 2

    def sensor_size_after(self, sensor_size: tuple[int, int, int]) -> tuple[int, int, int]:
        return self.width, sensor_size[1], sensor_size[2]

    def __call__(self, events: np.ndarray) -> np.ndarray:
        return events[events["x"] < self.width]


class CountsCalledSpikes(MadeUpEvents):
    """A data set of a user's own that says spikes and gives counts."""

    input_kind = InputKind.SPIKES

    def __init__(self) -> None:
        super().__init__(EventPipeline(binary=False))
