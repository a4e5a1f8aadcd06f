"""What all event data sets have in common: their parts, events in one form, and the way into the pipeline."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.recordings import EVENTS, SOUNDS, Recordings, SensorSize, by_time, is_audio
from spikefit.data.images import stratified_split
from spikefit.data.source import DataSource, LabelledDataset, Part
from spikefit.errors import ConfigurationError, DataError, check_choice, check_range
from spikefit.input_kind import InputKind


class GroupedRecordings(Recordings, Protocol):
    """Recordings some of which belong together.

    Attributes:
        groups: int64 ``[N]`` for :class:`~spikefit.data.source.LabelledDataset`; None where each stands for itself.
    """

    groups: Tensor | None


class Chosen(NamedTuple):
    """The recordings of a data set that are used, in an order that no file system decides."""

    indices: list[int]
    """Their places in the data set."""
    labels: list[int]
    """From 0."""
    groups: list[int] | None = None
    """Equal numbers belong together; None where every recording stands for itself."""

    def only(self, places: Iterable[int]) -> "Chosen":
        """Those at ``places`` of this choice."""
        places = list(places)
        groups = None if self.groups is None else [self.groups[place] for place in places]
        return Chosen([self.indices[place] for place in places], [self.labels[place] for place in places], groups)


class EventSource(DataSource):
    """A data set of event recordings.

    Args:
        pipeline: turns recordings into frames; None for spikes in frames of equal duration.

    Attributes:
        sensor_size: width, height, polarities; audio: ``(channels, 1, 1)``.
    """

    event = True
    sensor_size: SensorSize

    def __init__(self, pipeline: EventPipeline | None = None) -> None:
        self.pipeline = EventPipeline() if pipeline is None else pipeline

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """``(polarities, H, W)`` of one frame behind the pipeline's transforms; audio: ``(channels,)``."""
        return self.pipeline.shape(self.sensor_size)

    @property
    def input_kind(self) -> InputKind:  # type: ignore[override]
        """What the pipeline's frames hold."""
        return self.pipeline.input_kind

    @abstractmethod
    def recordings(self, part: Part) -> GroupedRecordings:
        """The recordings of one part.

        Raises:
            DataError: when the part, or a class of it, is not there or can't be read.
        """

    def load(self, part: Part, time_steps: int) -> LabelledDataset:
        """Frames of every recording of the part.

        Raises:
            ConfigurationError: for a part that the data set does not have.
            DataError: when the part, or a class of it, is not there or can't be read.
        """
        check_choice("part", part, ("train", "valid", "test") if self.has_validation else ("train", "test"))
        recordings = self.recordings(part)
        frames = self.pipeline.dataset(recordings, time_steps, part == "train")
        if recordings.groups is not None:
            frames.groups = recordings.groups
        return frames


class HeldOut:
    """How a data set without an official test part is cut: by recording, stratified and seeded.

    Args:
        split_seed: which recordings are held out.
        test_fraction: share of every class that is held out, in (0, 1).

    Raises:
        ConfigurationError: for a negative seed, or a fraction outside (0, 1).
    """

    def __init__(self, split_seed: int = 0, test_fraction: float = 0.1) -> None:
        check_range("split_seed", split_seed, 0)
        if not 0 < test_fraction < 1:
            raise ConfigurationError(f"test_fraction: got {test_fraction!r}, expected a value in (0, 1).")
        self.split_seed, self.test_fraction = split_seed, test_fraction

    def part(self, chosen: Chosen, part: Part) -> Chosen:
        """The training or test part of ``chosen``; recordings of one group stay together.

        Raises:
            ConfigurationError: when one of the parts would lack a class.
        """
        try:
            train, test = stratified_split(chosen.labels, self.test_fraction, self.split_seed, chosen.groups)
        except ValueError as error:
            raise ConfigurationError(
                f"test_fraction: {self.test_fraction} of {len(chosen.labels)} recordings can't hold every class "
                f"({error})."
            ) from error
        return chosen.only((train if part == "train" else test).tolist())


def check_sensor_size(sensor_size: SensorSize) -> SensorSize:
    """``sensor_size`` as a tuple.

    Raises:
        ConfigurationError: unless it is width, height (both at least 1) and one or two polarities.
    """
    size = tuple(sensor_size)
    if len(size) != 3 or min(size) < 1 or size[2] > 2:
        raise ConfigurationError(
            f"sensor_size: got {list(size)}, expected width, height and 1 or 2 polarities; audio: channels, 1, 1."
        )
    return size


def standard_events(events: np.ndarray, sensor_size: SensorSize, name: str, crop: bool = False) -> np.ndarray:
    """Events as every pipeline takes them: whole numbers, sorted by time, on the sensor.

    Args:
        events: structured, with fields t (microseconds), x, y, p in any order and of any type; audio: without y.
        sensor_size: width, height, polarities. With one polarity, p becomes 0.
        name: of the recording, for messages.
        crop: whether events beside the sensor are left out instead of refused.

    Returns:
        Array of :data:`EVENTS`, or of :data:`SOUNDS` for audio. It is a copy.

    Raises:
        DataError: for something else, a field that is missing, or an event beside the sensor.
    """
    wanted = SOUNDS if is_audio(sensor_size) else EVENTS
    assert wanted.names is not None
    fields = events.dtype.names if isinstance(events, np.ndarray) else None
    missing = [field for field in wanted.names if field not in (fields or ())]
    if missing:
        raise DataError(f"{name}: has no field {', '.join(missing)}, expected events with {', '.join(wanted.names)}.")
    events = events.ravel()  # tonic's ASLDVS gives a column
    width, height, polarities = sensor_size
    on_sensor = (events["x"] >= 0) & (events["x"] < width)
    if "y" in wanted.names:
        on_sensor &= (events["y"] >= 0) & (events["y"] < height)
    if not on_sensor.all():
        if not crop:
            index = int(np.argmin(on_sensor))
            place = tuple(int(events[field][index]) for field in wanted.names if field in "xy")
            raise DataError(f"{name}: event {index} lies at {place}, beside a sensor of {width} x {height}.")
        events = events[on_sensor]
    result = np.empty(len(events), wanted)
    for field in wanted.names:
        result[field] = events[field]
    result["p"] = 0 if polarities == 1 else events["p"] > 0
    return by_time(result)


def fingerprint(files: Iterable[Path], root: Path, *choices: object) -> str:
    """Hash of which files there are below ``root``, of what size and age, and of ``choices`` that were made among them.

    It changes when a recording is added, removed or written again, and does not read a single one.
    """
    digest = hashlib.sha256(repr(choices).encode())
    for file in files:
        status = file.stat()
        name = file.relative_to(root) if file.is_relative_to(root) else file
        digest.update(f"{name.as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def as_tensors(chosen: Chosen) -> tuple[Tensor, Tensor | None]:
    """Labels and groups, int64 ``[N]``."""
    groups = None if chosen.groups is None else torch.tensor(chosen.groups)
    return torch.tensor(chosen.labels, dtype=torch.int64), groups
