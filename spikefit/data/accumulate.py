"""Sums of events in frames, for all recordings of a batch at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spikefit.errors import DataError

LARGEST_COUNT = 32767
"""Of events of one pixel in one frame (int16); more are given as this."""


@dataclass(frozen=True)
class EventBatch:
    """Events of B recordings, one behind the other.

    Attributes:
        t: times in whole microseconds, int64 ``[E]``, ascending within a recording.
        x, y, p: column, row and polarity, integers ``[E]``; ``y`` is None for audio.
        offsets: where each recording begins, int64 ``[B + 1]``, the last one being E.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray | None
    p: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, recordings: Sequence[np.ndarray]) -> "EventBatch":
        """Batch of structured arrays with the fields t, x, p and perhaps y."""
        offsets = np.zeros(len(recordings) + 1, np.int64)
        np.cumsum([len(events) for events in recordings], out=offsets[1:])

        def column(name: str) -> np.ndarray:
            return np.concatenate([events[name] for events in recordings])

        names = recordings[0].dtype.names or ()
        times = column("t").astype(np.int64, copy=False)
        return cls(times, column("x"), column("y") if "y" in names else None, column("p"), offsets)

    @property
    def counts(self) -> np.ndarray:
        """Events of each recording, int64 ``[B]``."""
        return np.diff(self.offsets)

    @property
    def first(self) -> np.ndarray:
        """Time of each recording's first event, int64 ``[B]``; 0 without events."""
        return self._at(self.offsets[:-1])

    @property
    def durations(self) -> np.ndarray:
        """Time from each recording's first event to its last, int64 ``[B]``; 0 without events."""
        return self._at(self.offsets[1:] - 1) - self.first

    def _at(self, positions: np.ndarray) -> np.ndarray:
        there = self.counts > 0
        times = np.zeros(len(there), np.int64)
        times[there] = self.t[positions[there]]
        return times


def spikes(
    frames: np.ndarray, batch: EventBatch, begin: np.ndarray, end: np.ndarray, sensor_size: tuple[int, int, int]
) -> None:
    """Set every pixel of ``frames`` that has an event to 1.

    Args:
        frames: zeros, ``[B, T, P, H, W]``, contiguous.
        batch: the events.
        begin, end: of each frame's events, int64 ``[B, T]``, half-open.
        sensor_size: W, H, P.

    Raises:
        DataError: for events outside the sensor.
    """
    frames.reshape(-1)[_places(batch, begin, end, sensor_size)] = 1


def counts(
    frames: np.ndarray, batch: EventBatch, begin: np.ndarray, end: np.ndarray, sensor_size: tuple[int, int, int]
) -> None:
    """Set every pixel of ``frames``, int16, to its number of events, at most 32767; arguments as of :func:`spikes`.

    Raises:
        DataError: for events outside the sensor.
    """
    places = torch.from_numpy(_places(batch, begin, end, sensor_size))
    summed = torch.from_numpy(frames.reshape(-1))
    if (end - begin).max(initial=0) <= LARGEST_COUNT:  # no pixel can have more
        summed.index_add_(0, places, torch.ones(len(places), dtype=torch.int16))
        return
    wide = torch.bincount(places, minlength=len(summed))
    summed.copy_(wide.clamp_(max=LARGEST_COUNT))


def _places(batch: EventBatch, begin: np.ndarray, end: np.ndarray, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Place in ``[B, T, P, H, W]`` of each event of each frame, int64."""
    width, height, polarities = sensor_size
    lengths = (end - begin).ravel()
    # The events of all frames, one frame behind the other: where frames neither overlap nor leave gaps this counts
    # from 0 to E - 1, and else it leaves out events or repeats them.
    events = np.repeat(begin.ravel() - (np.cumsum(lengths) - lengths), lengths)
    events += np.arange(len(events))
    places = _pixels(batch, sensor_size).take(events)
    places += np.repeat(np.arange(len(lengths)) * (width * height * polarities), lengths)
    return places


def voxels(frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
    """Set ``frames``, float32 ``[B, T, 1, H, W]``, to the grid of :class:`spikefit.data.framing.VoxelGrid`.

    Raises:
        DataError: for events outside the sensor.
    """
    size, steps = sensor_size[0] * sensor_size[1], frames.shape[1]
    recording = np.repeat(np.arange(len(batch.counts)), batch.counts)
    since = (batch.t - batch.first[recording]).astype(np.float64)
    at = steps * since / np.maximum(batch.durations, 1)[recording]
    step = at.astype(np.int64)
    later = at - step
    sign = np.where(batch.p.astype(np.int64) > 0, 1.0, -1.0)
    places = _pixels(batch, sensor_size) % size + (recording * steps + step) * size
    here, behind = step < steps, step + 1 < steps
    summed = np.bincount(
        np.concatenate([places[here], places[behind] + size]),
        weights=np.concatenate([(sign * (1.0 - later))[here], (sign * later)[behind]]),
        minlength=frames.size,
    )
    frames[:] = summed.reshape(frames.shape)


def _pixels(batch: EventBatch, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Place of each event in one frame ``[P, H, W]``, int64 ``[E]``."""
    width, height, polarities = sensor_size
    x, p = _inside("x", batch.x, width), batch.p.astype(np.int64, copy=False)
    if polarities == 1:  # whatever the one polarity is called
        if len(p) and p.min() != p.max() and _mixed(p, batch.offsets):
            raise DataError("events: p takes several values in a recording of a sensor with one polarity.")
        places = np.zeros(len(p), np.int64)
    else:
        places = _inside("p", p, polarities) * height
    if batch.y is not None:
        places = places + _inside("y", batch.y, height)
    places *= width
    places += x
    return places


def _mixed(p: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether any recording holds several values of ``p``."""
    changes = np.flatnonzero(np.diff(p)) + 1
    return not bool(np.isin(changes, offsets).all())


def _inside(name: str, values: np.ndarray, size: int) -> np.ndarray:
    """``values`` as int64, all of them from 0 to ``size - 1``."""
    values = values.astype(np.int64, copy=False)
    outside = values.view(np.uint64) >= size  # negative ones too
    if outside.any():
        odd = values[outside]
        raise DataError(
            f"events: {len(odd)} events lie outside the sensor, for example {name}={odd[0]}, expected 0 to {size - 1}; "
            "a transform that moves events needs one behind it that drops those outside."
        )
    return values
