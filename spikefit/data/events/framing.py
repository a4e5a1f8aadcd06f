"""Events to frames: how a recording is cut in time, for all recordings of a batch at once.

A framing gives every frame a half-open range of its recording's events, which are sorted by time. The cuts are those of
``tonic.transforms.ToFrame`` (tonic 1.7), so that frames equal tonic's. In what follows a recording has n events at the
times ``t[0] <= ... <= t[n-1]`` in whole microseconds, and T frames.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from spikefit.data.events import accumulate
from spikefit.data.events.accumulate import EventBatch
from spikefit.errors import ConfigurationError, check_range
from spikefit.input_kind import InputKind

Ranges = tuple[np.ndarray, np.ndarray]
"""First event and the one behind the last of each frame, int64 ``[B, T]``, counted through the whole batch."""


def bins_of_time(batch: EventBatch, steps: int, overlap: float = 0.0) -> Ranges:
    """Frame i holds ``t[0] + i*s <= t < t[0] + i*s + d``, with ``d = floor((t[n-1] - t[0])/T) * (1 + overlap)`` and
    ``s = d * (1 - overlap)``: events behind the last frame are dropped.
    """
    length = batch.durations // steps * (1 + overlap)
    stride = length * (1 - overlap)
    begin = np.arange(steps) * stride[:, None] + batch.first[:, None]
    return _between(batch, begin, begin + length[:, None])


def bins_of_events(batch: EventBatch, steps: int, overlap: float = 0.0) -> Ranges:
    """Frame i holds the events ``i*s <= k < i*s + c``, with ``c = floor(floor(n/T) * (1 + overlap))`` and
    ``s = floor(c * (1 - overlap))``: events behind the last frame are dropped.
    """
    length = (batch.counts // steps * (1 + overlap)).astype(np.int64)
    stride = (length * (1 - overlap)).astype(np.int64)
    begin = np.arange(steps) * stride[:, None]
    return _within(batch, begin, begin + length[:, None])


def windows_of_time(
    batch: EventBatch, steps: int, microseconds: int, overlap: int = 0, incomplete: bool = False
) -> Ranges:
    """Frame i holds ``t[0] + i*s <= t < t[0] + i*s + d``, with ``d = microseconds`` and ``s = d - overlap``.

    A recording has ``max(1, floor((t[n-1] - t[0] - d)/s) + 1)`` windows, with ``incomplete`` the same rounded up. Of
    those the first T are taken; where there are fewer, the last frames are empty.
    """
    stride = microseconds - overlap
    begin = np.arange(steps, dtype=np.int64) * stride + batch.first[:, None]
    there = _windows(batch.durations - microseconds, stride, incomplete)
    return _padded(_between(batch, begin, begin + microseconds), there)


def windows_of_events(batch: EventBatch, steps: int, count: int, overlap: int = 0, incomplete: bool = False) -> Ranges:
    """Frame i holds the events ``i*s <= k < i*s + c``, with ``c = min(count, n)`` and ``s = count - overlap``.

    A recording has ``floor((n - c)/s) + 1`` windows, with ``incomplete`` the same rounded up. Of those the first T are
    taken; where there are fewer, the last frames are empty.
    """
    stride = count - overlap
    length = np.minimum(count, batch.counts)
    begin = np.arange(steps, dtype=np.int64) * stride + np.zeros((len(length), 1), np.int64)
    there = _windows(batch.counts - length, stride, incomplete)
    return _padded(_within(batch, begin, begin + length[:, None]), there)


def _windows(rest: np.ndarray, stride: int, incomplete: bool) -> np.ndarray:
    """How many windows there are when ``rest`` lies behind the first one."""
    return np.maximum((-(-rest // stride) if incomplete else rest // stride) + 1, 1)


def _padded(ranges: Ranges, there: np.ndarray) -> Ranges:
    begin, end = ranges
    return begin, np.where(np.arange(begin.shape[1]) < there[:, None], end, begin)


def _within(batch: EventBatch, begin: np.ndarray, end: np.ndarray) -> Ranges:
    """Event numbers within each recording as numbers within the batch."""
    first, counts = batch.offsets[:-1, None], batch.counts[:, None]
    return first + np.minimum(begin, counts), first + np.minimum(end, counts)


def _between(batch: EventBatch, begin: np.ndarray, end: np.ndarray) -> Ranges:
    """Events from the times ``begin`` up to, not including, ``end``, both ``[B, T]``.

    One binary search for the whole batch: the recordings are laid end to end on one axis of time.
    """
    if len(batch.counts) == 1:
        return np.searchsorted(batch.t, _whole(begin)), np.searchsorted(batch.t, _whole(end))
    span = np.where(batch.counts > 0, batch.durations + 1, 0)
    base = np.cumsum(span) - span
    axis = batch.t + np.repeat(base - batch.first, batch.counts)

    def find(times: np.ndarray) -> np.ndarray:
        since = _whole(times) - batch.first[:, None]
        return np.searchsorted(axis, np.clip(since, 0, span[:, None]) + base[:, None])

    return find(begin), find(end)


def _whole(times: np.ndarray) -> np.ndarray:
    """The least integers from ``times`` on: a whole time is not before the one if it is not before the other."""
    return np.ceil(times).astype(np.int64)


@dataclass(frozen=True)
class Framing(ABC):
    """How a recording becomes T frames."""

    real: ClassVar[bool] = False
    """Whether frames hold real numbers, not spikes or counts."""

    def input_kind(self, binary: bool) -> InputKind:
        """What a network reads: real numbers, spikes (``binary``) or counts."""
        return InputKind.GRADED if self.real else InputKind.SPIKES if binary else InputKind.COUNTS

    @abstractmethod
    def fill(self, frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
        """Make the frames of all recordings of a batch.

        Args:
            frames: zeros, ``[B, T, P, H, W]``, uint8 for spikes, int16 for counts, or float32, see :meth:`dtype`.
            batch: the recordings.
            sensor_size: W, H, P.

        Raises:
            DataError: for events outside the sensor.
        """

    def channels(self, polarities: int) -> int:
        """Channels of a frame from a sensor with so many polarities."""
        return polarities

    def dtype(self, binary: bool) -> np.dtype[Any]:
        """Type of the numbers in a frame."""
        return np.dtype(np.float32 if self.real else np.uint8 if binary else np.int16)

    def describe(self) -> dict[str, Any]:
        """Name and parameters, for a cache's key."""
        return {"framing": f"{type(self).__module__}.{type(self).__qualname__}", **vars(self)}


class _Counting(Framing):
    """Frames that hold how many events of each polarity and pixel fall into them."""

    @abstractmethod
    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Events of each frame."""

    def fill(self, frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
        """Count events, see :class:`Framing`."""
        add = accumulate.spikes if frames.dtype == np.uint8 else accumulate.counts
        add(frames, batch, *self.ranges(batch, frames.shape[1]), sensor_size)


def _check_overlap(overlap: float, high: float, of: str) -> None:
    if not 0 <= overlap < high:
        raise ConfigurationError(f"overlap: got {overlap!r}, expected at least 0 and less than {of}.")


@dataclass(frozen=True)
class TimeBins(_Counting):
    """T frames of equal duration, see :func:`bins_of_time`: tonic's ``ToFrame(n_time_bins=T)``.

    A recording shorter than T microseconds gives empty frames.

    Args:
        overlap: of neighbouring frames, as a share of a frame, in [0, 1).
    """

    overlap: float = 0.0

    def __post_init__(self) -> None:
        _check_overlap(self.overlap, 1, "1")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Events of each frame."""
        return bins_of_time(batch, steps, self.overlap)


@dataclass(frozen=True)
class EventBins(_Counting):
    """T frames of equally many events, see :func:`bins_of_events`: tonic's ``ToFrame(n_event_bins=T)``.

    A recording of fewer than T events gives empty frames.

    Args:
        overlap: of neighbouring frames, as a share of a frame, in [0, 1).
    """

    overlap: float = 0.0

    def __post_init__(self) -> None:
        _check_overlap(self.overlap, 1, "1")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Events of each frame."""
        return bins_of_events(batch, steps, self.overlap)


@dataclass(frozen=True)
class TimeWindows(_Counting):
    """Frames of a fixed duration, see :func:`windows_of_time`: tonic's ``ToFrame(time_window=microseconds)``, its first
    T frames, with empty frames behind a recording that is too short.

    Args:
        microseconds: duration of a frame.
        overlap: of neighbouring frames, in microseconds.
        incomplete: whether a last window that the recording does not fill is a frame too.
    """

    microseconds: int
    overlap: int = 0
    incomplete: bool = False

    def __post_init__(self) -> None:
        check_range("microseconds", self.microseconds, 1)
        _check_overlap(self.overlap, self.microseconds, "microseconds")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Events of each frame."""
        return windows_of_time(batch, steps, self.microseconds, self.overlap, self.incomplete)


@dataclass(frozen=True)
class EventWindows(_Counting):
    """Frames of a fixed number of events, see :func:`windows_of_events`: tonic's ``ToFrame(event_count=count)``, its
    first T frames, with empty frames behind a recording that is too short.

    Args:
        count: events a frame.
        overlap: of neighbouring frames, in events.
        incomplete: whether what is left behind the last full window is a frame too.
    """

    count: int
    overlap: int = 0
    incomplete: bool = False

    def __post_init__(self) -> None:
        check_range("count", self.count, 1)
        _check_overlap(self.overlap, self.count, "count")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Events of each frame."""
        return windows_of_events(batch, steps, self.count, self.overlap, self.incomplete)


@dataclass(frozen=True)
class VoxelGrid(Framing):
    """Signed events, each shared by the two frames that it lies between: tonic's ``ToVoxelGrid(n_time_bins=T)``.

    With ``u = T * (t - t[0]) / (t[n-1] - t[0])``, ``i = floor(u)`` and the sign +1 for polarity 1 and -1 for polarity
    0, an event adds ``sign * (1 - (u - i))`` to frame i and ``sign * (u - i)`` to frame i + 1, as far as these are
    among the T. All events of a recording that lasts no time lie in frame 0. One channel, float32, summed in float64.
    Source: Zhu et al. 2019, Unsupervised event-based learning of optical flow, depth, and egomotion (CVPR).
    """

    real: ClassVar[bool] = True

    def channels(self, polarities: int) -> int:
        """One.

        Raises:
            ConfigurationError: for a sensor without two polarities, whose events have no sign.
        """
        if polarities != 2:
            raise ConfigurationError(
                f"framing: VoxelGrid needs events of 2 polarities, got {polarities}; expected another framing."
            )
        return 1

    def fill(self, frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
        """Add up signed shares of events, see :class:`Framing`."""
        accumulate.voxels(frames, batch, sensor_size)


def frame(
    recordings: Sequence[np.ndarray], framing: Framing, sensor_size: tuple[int, int, int], steps: int, binary: bool
) -> np.ndarray:
    """Frames of some recordings, made together; many events in several turns.

    Args:
        recordings: arrays of events, sorted by time.
        framing: how they are cut.
        sensor_size: W, H, P.
        steps: T.
        binary: a spike, 1, wherever a count is not 0.

    Returns:
        ``[B, T, P, H, W]``: uint8 0/1, int16 counts, or float32. Counts above 32767 are given as 32767.

    Raises:
        DataError: for events outside the sensor.
    """
    width, height, polarities = sensor_size
    shape = (len(recordings), steps, framing.channels(polarities), height, width)
    frames = np.zeros(shape, framing.dtype(binary))
    ends = np.cumsum([len(events) for events in recordings])
    start = 0
    while start < len(recordings):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + accumulate.TURN, side="right")))
        framing.fill(frames[start:stop], EventBatch.of(recordings[start:stop]), sensor_size)
        start = stop
    return frames
