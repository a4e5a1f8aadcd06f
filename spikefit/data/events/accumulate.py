"""Accumulation of events into frames, for all recordings of a batch together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spikefit.errors import DataError
from spikefit.input_kind import COUNT_MAX

TURN = 1 << 16
"""Events that are framed at a time. The temporary arrays of half a megabyte are reused, while larger ones would be
allocated anew each time."""


@dataclass(frozen=True)
class EventBatch:
    """Events of B recordings, concatenated.

    Attributes:
        t: times in whole microseconds, int64 ``[E]``, ascending within a recording.
        x, y, p: column, row and polarity, integers ``[E]``; ``y`` is None for audio.
        offsets: index of the first event of each recording, int64 ``[B + 1]``; the last entry is E.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray | None
    p: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, recordings: Sequence[np.ndarray]) -> "EventBatch":
        """Build a batch from structured arrays with the fields t, x, p and, except for audio, y."""
        offsets = np.zeros(len(recordings) + 1, np.int64)
        np.cumsum([len(events) for events in recordings], out=offsets[1:])

        def column(name: str) -> np.ndarray:
            if len(recordings) == 1:
                return recordings[0][name]
            return np.concatenate([events[name] for events in recordings])

        names = recordings[0].dtype.names or ()
        times = column("t").astype(np.int64, copy=False)
        return cls(times, column("x"), column("y") if "y" in names else None, column("p"), offsets)

    @property
    def counts(self) -> np.ndarray:
        """Number of events of each recording, int64 ``[B]``."""
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
        filled = self.counts > 0
        times = np.zeros(len(filled), np.int64)
        times[filled] = self.t[positions[filled]]
        return times


def spikes(
    frames: np.ndarray, batch: EventBatch, begin: np.ndarray, end: np.ndarray, sensor_size: tuple[int, int, int]
) -> None:
    """Set every pixel of ``frames`` that has an event to 1, in place.

    Args:
        frames: zeros, ``[B, T, P, H, W]``, contiguous.
        batch: the events.
        begin, end: half-open range of the events of each frame, int64 ``[B, T]``.
        sensor_size: W, H, P.

    Raises:
        DataError: for events outside the sensor.
    """
    flat = frames.reshape(-1)
    for places in _places(batch, begin, end, sensor_size):
        flat[places] = 1


def counts(
    frames: np.ndarray, batch: EventBatch, begin: np.ndarray, end: np.ndarray, sensor_size: tuple[int, int, int]
) -> None:
    """Set every pixel of ``frames``, int16, to its number of events, at most 32767. Arguments as in :func:`spikes`.

    Raises:
        DataError: for events outside the sensor.
    """
    summed = torch.from_numpy(frames.reshape(-1))
    fits = (end - begin).max(initial=0) <= COUNT_MAX  # then no pixel can have more
    wide = summed if fits else torch.zeros(len(summed), dtype=torch.int32)
    for places in _places(batch, begin, end, sensor_size):
        wide.index_add_(0, torch.from_numpy(places), torch.ones(len(places), dtype=wide.dtype))
    if not fits:
        summed.copy_(wide.clamp_(max=COUNT_MAX))


def _places(
    batch: EventBatch, begin: np.ndarray, end: np.ndarray, sensor_size: tuple[int, int, int]
) -> Iterator[np.ndarray]:
    """Flat indices in ``[B, T, P, H, W]`` of the events of all frames, int64, at most :data:`TURN` at a time."""
    width, height, polarities = sensor_size
    _check_polarities(batch, polarities)
    lengths, starts = (end - begin).ravel(), begin.ravel()
    # The events of all frames, frame after frame. If frames neither overlap nor leave gaps, these are the events 0 to
    # E - 1; otherwise events are repeated or left out.
    ends = np.cumsum(lengths)
    for low in range(0, int(ends[-1]), TURN):
        high = min(low + TURN, int(ends[-1]))
        own = slice(np.searchsorted(ends, low, side="right"), np.searchsorted(ends, high) + 1)
        before = ends[own] - lengths[own]
        here = np.minimum(ends[own], high) - np.maximum(before, low)
        events = np.repeat(starts[own] - before, here)
        events += np.arange(low, high)
        first, last = int(events.min()), int(events.max())
        places = _pixels(batch, slice(first, last + 1), sensor_size).take(events - first)
        places += np.repeat(np.arange(own.start, own.stop) * (width * height * polarities), here)
        yield places


def voxels(frames: np.ndarray, batch: EventBatch, sensor_size: tuple[int, int, int]) -> None:
    """Set ``frames``, float32 ``[B, T, 1, H, W]``, to the grid of :class:`spikefit.data.events.framing.VoxelGrid`.

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
    places = _pixels(batch, slice(None), sensor_size) % size + (recording * steps + step) * size
    in_frame, in_next = step < steps, step + 1 < steps
    summed = np.bincount(
        np.concatenate([places[in_frame], places[in_next] + size]),
        weights=np.concatenate([(sign * (1.0 - later))[in_frame], (sign * later)[in_next]]),
        minlength=frames.size,
    )
    frames[:] = summed.reshape(frames.shape)


def _pixels(batch: EventBatch, events: slice, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Flat indices of some events in one frame ``[P, H, W]``, int64."""
    width, height, polarities = sensor_size
    x = _inside("x", batch.x[events], width)
    # With one polarity, the value of p is ignored.
    places = np.zeros(len(x), np.int64) if polarities == 1 else _inside("p", batch.p[events], polarities) * height
    if batch.y is not None:
        places += _inside("y", batch.y[events], height)
    places *= width
    places += x
    return places


def _check_polarities(batch: EventBatch, polarities: int) -> None:
    p = batch.p
    if polarities == 1 and len(p) and p.min() != p.max() and _mixed(p, batch.offsets):
        raise DataError("events: p takes several values in a recording of a sensor with one polarity.")


def _mixed(p: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether any recording contains several values of ``p``."""
    changes = np.flatnonzero(p[1:] != p[:-1]) + 1
    return not bool(np.isin(changes, offsets).all())


def _inside(name: str, values: np.ndarray, size: int) -> np.ndarray:
    """Convert ``values`` to int64, and raise unless all are from 0 to ``size - 1``."""
    values = values.astype(np.int64, copy=False)
    outside = values.view(np.uint64) >= size  # negative ones too
    if outside.any():
        odd = values[outside]
        raise DataError(
            f"events: {len(odd)} events lie outside the sensor, for example {name}={odd[0]}, expected 0 to {size - 1}; "
            "after a transform that moves events, another one must drop those outside."
        )
    return values
