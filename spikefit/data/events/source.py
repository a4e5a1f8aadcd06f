"""Base class and helpers of event data sets: splits, validation of events, and fingerprints."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spikefit.data.events.event_types import EVENTS, SOUNDS, Recordings, SensorSize, by_time, is_audio
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.source import DataSource, LabelledDataset, Part
from spikefit.data.split import Chosen
from spikefit.errors import ConfigurationError, DataError, check_choice
from spikefit.input_kind import InputKind

LARGEST = 2**53
"""Largest time, in microseconds (285 years); 64-bit floats hold all whole numbers up to here."""


class GroupedRecordings(Recordings, Protocol):
    """Interface of recordings with groups, which a split must not separate.

    Attributes:
        groups: int64 ``[N]`` for :class:`~spikefit.data.source.LabelledDataset`; None for independent recordings.
    """

    groups: Tensor | None


class EventSource(DataSource):
    """Base class of event data sets.

    Args:
        pipeline: converts recordings to frames; None for spikes in frames of equal duration.

    Attributes:
        sensor_size: width, height, polarities; audio: ``(channels, 1, 1)``.
    """

    event = True
    sensor_size: SensorSize

    def __init__(self, pipeline: EventPipeline | None = None) -> None:
        self.pipeline = EventPipeline() if pipeline is None else pipeline

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of one frame after the pipeline: ``(polarities, H, W)``, for audio ``(channels,)``."""
        return self.pipeline.shape(self.sensor_size)

    @property
    def input_kind(self) -> InputKind:  # type: ignore[override]
        """Kind of the numbers in the pipeline's frames."""
        return self.pipeline.input_kind

    @abstractmethod
    def recordings(self, part: Part) -> GroupedRecordings:
        """The recordings of one set.

        Raises:
            DataError: if the set, or one of its classes, is missing or can't be read.
        """

    def load(self, part: Part, time_steps: int) -> LabelledDataset:
        """Load the frames of all recordings of one set.

        Raises:
            ConfigurationError: for a set that the data set does not have.
            DataError: if the set, or one of its classes, is missing or can't be read.
        """
        check_choice("part", part, ("train", "valid", "test") if self.has_validation else ("train", "test"))
        recordings = self.recordings(part)
        frames = self.pipeline.dataset(recordings, time_steps, part == "train")
        if recordings.groups is not None:
            frames.groups = recordings.groups
        return frames


def check_sensor_size(sensor_size: SensorSize) -> SensorSize:
    """Return ``sensor_size`` as a tuple.

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
    """Convert events to the common format: integers, sorted by time, within the sensor.

    Args:
        events: structured array with fields t (microseconds), x, y, p in any order and of any type; audio: without y.
        sensor_size: width, height, polarities. With one polarity, p becomes 0.
        name: name of the recording, for error messages.
        crop: whether to drop events outside the sensor instead of raising an error.

    Returns:
        A new array of :data:`EVENTS`, or of :data:`SOUNDS` for audio.

    Raises:
        DataError: for another type, a missing field, a number that is not whole, or an event outside the sensor.
    """
    wanted = SOUNDS if is_audio(sensor_size) else EVENTS
    assert wanted.names is not None
    fields = events.dtype.names if isinstance(events, np.ndarray) else None
    missing = [field for field in wanted.names if field not in (fields or ())]
    if missing:
        raise DataError(f"{name}: has no field {', '.join(missing)}, expected events with {', '.join(wanted.names)}.")
    events = events.ravel()  # tonic's ASLDVS gives a column
    for field in wanted.names:
        _require_whole(events[field], field, name)
    width, height, polarities = sensor_size
    on_sensor = (events["x"] >= 0) & (events["x"] < width)
    if "y" in wanted.names:
        on_sensor &= (events["y"] >= 0) & (events["y"] < height)
    if not on_sensor.all():
        if not crop:
            index = int(np.argmin(on_sensor))
            place = tuple(int(events[field][index]) for field in wanted.names if field in "xy")
            raise DataError(f"{name}: event {index} lies at {place}, outside a sensor of {width} x {height}.")
        events = events[on_sensor]
    result = np.empty(len(events), wanted)
    for field in wanted.names:
        result[field] = events[field]
    result["p"] = 0 if polarities == 1 else events["p"] > 0
    return by_time(result)


def _require_whole(values: np.ndarray, field: str, name: str) -> None:
    """Raise for numbers that would be rounded, or that no recording has: NaN becomes -2**63 as an integer."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(values) <= LARGEST) | (np.rint(values) != values)
    elif field == "t" and len(values) and not -LARGEST <= int(values.min()) <= int(values.max()) <= LARGEST:
        wrong = (values < -LARGEST) | (values > LARGEST)
    else:
        return
    if wrong.any():
        first = int(np.argmax(wrong))
        advice = " of microseconds; set tick if the file has another unit" if field == "t" else ""
        raise DataError(
            f"{name} is damaged: {field} of event {first} is {values[first]}, expected a whole number{advice}."
        )


def fingerprint(files: Iterable[Path], root: Path, *choices: object) -> str:
    """Hash the names, sizes and modification times of ``files``, and ``choices``.

    The hash changes when a recording is added, removed or rewritten. No file is read.

    Args:
        files: the files.
        root: folder to which names are relative.
        choices: other objects that the hash depends on, by their ``repr``.
    """
    digest = hashlib.sha256(repr(choices).encode())
    for file in files:
        status = file.stat()
        name = file.relative_to(root) if file.is_relative_to(root) else file
        digest.update(f"{name.as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def as_tensors(chosen: Chosen) -> tuple[Tensor, Tensor | None]:
    """Labels and groups of a selection as tensors, int64 ``[N]``."""
    groups = None if chosen.groups is None else torch.tensor(chosen.groups)
    return torch.tensor(chosen.labels, dtype=torch.int64), groups
