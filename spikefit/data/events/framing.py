"""Framings: how event recordings are cut into frames in time, for all recordings of a batch together.

A framing assigns to every frame a half-open range of the recording's events, which are sorted by time. The cuts are
those of ``tonic.transforms.ToFrame`` (tonic 1.7), so that frames equal tonic's. Below, a recording has n events at the
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
"""First event and last event plus one of each frame, int64 ``[B, T]``, as indices into the batch."""


def bins_of_time(batch: EventBatch, steps: int, overlap: float = 0.0) -> Ranges:
    """Ranges of T frames of equal duration.

    Frame i contains ``t[0] + i*s <= t < t[0] + i*s + d``, with ``d = floor((t[n-1] - t[0])/T) * (1 + overlap)`` and
    ``s = d * (1 - overlap)``. Events after the last frame are dropped.
    """
    length = batch.durations // steps * (1 + overlap)
    stride = length * (1 - overlap)
    begin = np.arange(steps) * stride[:, None] + batch.first[:, None]
    return _between(batch, begin, begin + length[:, None])


def bins_of_events(batch: EventBatch, steps: int, overlap: float = 0.0) -> Ranges:
    """Ranges of T frames with equal numbers of events.

    Frame i contains the events ``i*s <= k < i*s + c``, with ``c = floor(floor(n/T) * (1 + overlap))`` and
    ``s = floor(c * (1 - overlap))``. Events after the last frame are dropped.
    """
    length = (batch.counts // steps * (1 + overlap)).astype(np.int64)
    stride = (length * (1 - overlap)).astype(np.int64)
    begin = np.arange(steps) * stride[:, None]
    return _within(batch, begin, begin + length[:, None])


def windows_of_time(
    batch: EventBatch, steps: int, microseconds: int, overlap: int = 0, incomplete: bool = False
) -> Ranges:
    """Ranges of frames of a fixed duration.

    Frame i contains ``t[0] + i*s <= t < t[0] + i*s + d``, with ``d = microseconds`` and ``s = d - overlap``. A
    recording has ``max(1, floor((t[n-1] - t[0] - d)/s) + 1)`` windows; with ``incomplete`` the quotient is rounded up.
    The first T windows are used; if there are fewer, the last frames are empty.
    """
    stride = microseconds - overlap
    begin = np.arange(steps, dtype=np.int64) * stride + batch.first[:, None]
    windows = _windows(batch.durations - microseconds, stride, incomplete)
    return _padded(_between(batch, begin, begin + microseconds), windows)


def windows_of_events(batch: EventBatch, steps: int, count: int, overlap: int = 0, incomplete: bool = False) -> Ranges:
    """Ranges of frames with a fixed number of events.

    Frame i contains the events ``i*s <= k < i*s + c``, with ``c = min(count, n)`` and ``s = count - overlap``. A
    recording has ``floor((n - c)/s) + 1`` windows; with ``incomplete`` the quotient is rounded up. The first T windows
    are used; if there are fewer, the last frames are empty.
    """
    stride = count - overlap
    length = np.minimum(count, batch.counts)
    begin = np.arange(steps, dtype=np.int64) * stride + np.zeros((len(length), 1), np.int64)
    windows = _windows(batch.counts - length, stride, incomplete)
    return _padded(_within(batch, begin, begin + length[:, None]), windows)


def _windows(rest: np.ndarray, stride: int, incomplete: bool) -> np.ndarray:
    """Number of windows if ``rest`` remains after the first one."""
    return np.maximum((-(-rest // stride) if incomplete else rest // stride) + 1, 1)


def _padded(ranges: Ranges, windows: np.ndarray) -> Ranges:
    begin, end = ranges
    return begin, np.where(np.arange(begin.shape[1]) < windows[:, None], end, begin)


def _within(batch: EventBatch, begin: np.ndarray, end: np.ndarray) -> Ranges:
    """Convert event indices within each recording to indices within the batch."""
    first, counts = batch.offsets[:-1, None], batch.counts[:, None]
    return first + np.minimum(begin, counts), first + np.minimum(end, counts)


def _between(batch: EventBatch, begin: np.ndarray, end: np.ndarray) -> Ranges:
    """Ranges of the events from the times ``begin`` (inclusive) to ``end`` (exclusive), both ``[B, T]``.

    The recordings are concatenated on one time axis, so that one binary search suffices for the whole batch.
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
    """Round ``times`` up; for integer event times, the comparison with the result is equivalent."""
    return np.ceil(times).astype(np.int64)


@dataclass(frozen=True)
class Framing(ABC):
    """Base class of framings, which convert recordings to T frames each."""

    real: ClassVar[bool] = False
    """Whether frames contain real numbers instead of spikes or counts."""

    def input_kind(self, binary: bool) -> InputKind:
        """Kind of the network's inputs: real numbers, spikes (``binary``) or counts."""
        return InputKind.GRADED if self.real else InputKind.SPIKES if binary else InputKind.COUNTS

    @abstractmethod
    def fill(self, frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
        """Compute the frames of all recordings of a batch, in place.

        Args:
            frames: zeros, ``[B, T, P, H, W]``, uint8 for spikes, int16 for counts, or float32, see :meth:`dtype`.
            batch: the recordings.
            sensor_size: W, H, P.

        Raises:
            DataError: for events outside the sensor.
        """

    def channels(self, polarities: int) -> int:
        """Number of channels of a frame, for a sensor with ``polarities`` polarities."""
        return polarities

    def dtype(self, binary: bool) -> np.dtype[Any]:
        """Data type of a frame."""
        return np.dtype(np.float32 if self.real else np.uint8 if binary else np.int16)

    def describe(self) -> dict[str, Any]:
        """Name and parameters of the framing, for the key of a cache."""
        return {"framing": f"{type(self).__module__}.{type(self).__qualname__}", **vars(self)}


class _Counting(Framing):
    """Framing that counts the events of each polarity and pixel in a frame."""

    @abstractmethod
    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Ranges of the events of each frame."""

    def fill(self, frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
        """Count the events of each frame, see :class:`Framing`."""
        add = accumulate.spikes if frames.dtype == np.uint8 else accumulate.counts
        add(frames, batch, *self.ranges(batch, frames.shape[1]), sensor_size)


def _check_overlap(overlap: float, high: float, of: str) -> None:
    if not 0 <= overlap < high:
        raise ConfigurationError(f"overlap: got {overlap!r}, expected at least 0 and less than {of}.")


@dataclass(frozen=True)
class TimeBins(_Counting):
    """T frames of equal duration, see :func:`bins_of_time`; equals tonic's ``ToFrame(n_time_bins=T)``.

    A recording shorter than T microseconds gives empty frames.

    Args:
        overlap: overlap of consecutive frames, as a share of a frame, in [0, 1).

    Example:
        >>> events = np.zeros(5, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
        >>> events["t"] = [0, 10, 20, 90, 100]
        >>> frames = frame([events], TimeBins(), sensor_size=(4, 4, 2), steps=2, binary=False)
        >>> frames.shape, frames.sum(axis=(2, 3, 4)).tolist()  # 0 <= t < 50 and 50 <= t < 100
        ((1, 2, 2, 4, 4), [[3, 1]])
    """

    overlap: float = 0.0

    def __post_init__(self) -> None:
        _check_overlap(self.overlap, 1, "1")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Ranges of the events of each frame."""
        return bins_of_time(batch, steps, self.overlap)


@dataclass(frozen=True)
class EventBins(_Counting):
    """T frames with equal numbers of events, see :func:`bins_of_events`; equals tonic's ``ToFrame(n_event_bins=T)``.

    A recording of fewer than T events gives empty frames.

    Args:
        overlap: overlap of consecutive frames, as a share of a frame, in [0, 1).

    Example:
        >>> events = np.zeros(7, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
        >>> frame([events], EventBins(), (4, 4, 2), steps=2, binary=False).sum(axis=(2, 3, 4)).tolist()
        [[3, 3]]
    """

    overlap: float = 0.0

    def __post_init__(self) -> None:
        _check_overlap(self.overlap, 1, "1")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Ranges of the events of each frame."""
        return bins_of_events(batch, steps, self.overlap)


@dataclass(frozen=True)
class TimeWindows(_Counting):
    """Frames of a fixed duration, see :func:`windows_of_time`.

    These are the first T frames of tonic's ``ToFrame(time_window=microseconds)``. Recordings that are too short are
    padded with empty frames.

    Args:
        microseconds: duration of a frame.
        overlap: overlap of consecutive frames, in microseconds.
        incomplete: whether to include a last window that extends beyond the end of the recording.

    Example:
        >>> events = np.zeros(5, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
        >>> events["t"] = [0, 10, 20, 90, 100]
        >>> frame([events], TimeWindows(50), (4, 4, 2), steps=3, binary=False).sum(axis=(2, 3, 4)).tolist()
        [[3, 1, 0]]
    """

    microseconds: int
    overlap: int = 0
    incomplete: bool = False

    def __post_init__(self) -> None:
        check_range("microseconds", self.microseconds, 1)
        _check_overlap(self.overlap, self.microseconds, "microseconds")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Ranges of the events of each frame."""
        return windows_of_time(batch, steps, self.microseconds, self.overlap, self.incomplete)


@dataclass(frozen=True)
class EventWindows(_Counting):
    """Frames with a fixed number of events, see :func:`windows_of_events`.

    These are the first T frames of tonic's ``ToFrame(event_count=count)``. Recordings that are too short are padded
    with empty frames.

    Args:
        count: events per frame.
        overlap: overlap of consecutive frames, in events.
        incomplete: whether the events after the last full window become a frame.

    Example:
        >>> events = np.zeros(5, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
        >>> windows = EventWindows(count=2, incomplete=True)
        >>> frame([events], windows, (4, 4, 2), steps=4, binary=False).sum(axis=(2, 3, 4)).tolist()
        [[2, 2, 1, 0]]
    """

    count: int
    overlap: int = 0
    incomplete: bool = False

    def __post_init__(self) -> None:
        check_range("count", self.count, 1)
        _check_overlap(self.overlap, self.count, "count")

    def ranges(self, batch: EventBatch, steps: int) -> Ranges:
        """Ranges of the events of each frame."""
        return windows_of_events(batch, steps, self.count, self.overlap, self.incomplete)


@dataclass(frozen=True)
class VoxelGrid(Framing):
    """Frames of signed events, linearly interpolated in time; equals tonic's ``ToVoxelGrid(n_time_bins=T)``.

    With ``u = T * (t - t[0]) / (t[n-1] - t[0])``, ``i = floor(u)`` and the sign +1 for polarity 1 and -1 for polarity
    0, an event adds ``sign * (1 - (u - i))`` to frame i and ``sign * (u - i)`` to frame i + 1, if these are among the T
    frames. All events of a recording with zero duration are in frame 0. One channel, float32, summed in float64.
    Source: Zhu et al. 2019, Unsupervised event-based learning of optical flow, depth, and egomotion (CVPR).

    Example:
        >>> events = np.zeros(3, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
        >>> events["t"], events["p"] = [0, 25, 100], [1, 1, 0]
        >>> frame([events], VoxelGrid(), (4, 4, 2), steps=2, binary=False).sum(axis=(2, 3, 4)).tolist()
        [[1.5, 0.5]]
    """

    real: ClassVar[bool] = True

    def channels(self, polarities: int) -> int:
        """Number of channels of a frame: 1.

        Raises:
            ConfigurationError: for a sensor with one polarity, because its events have no sign.
        """
        if polarities != 2:
            raise ConfigurationError(
                f"framing: VoxelGrid needs events of 2 polarities, got {polarities}; expected another framing."
            )
        return 1

    def fill(self, frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
        """Add up the signed shares of events, see :class:`Framing`."""
        accumulate.voxels(frames, batch, sensor_size)


def frame(
    recordings: Sequence[np.ndarray], framing: Framing, sensor_size: tuple[int, int, int], steps: int, binary: bool
) -> np.ndarray:
    """Convert recordings to frames, together or, if they have many events, in several groups.

    Args:
        recordings: arrays of events, sorted by time.
        framing: how the recordings are cut into frames.
        sensor_size: W, H, P.
        steps: T.
        binary: whether every non-zero count becomes one spike.

    Returns:
        ``[B, T, P, H, W]``: uint8 0/1, int16 counts, or float32. Counts above 32767 are clipped to 32767.

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
