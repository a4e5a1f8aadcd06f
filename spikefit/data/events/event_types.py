"""Interface of event recordings, and the data types of events."""

from typing import Any, Protocol

import numpy as np
from torch import Tensor

SensorSize = tuple[int, int, int]
"""Width, height and polarities; of audio ``(channels, 1, 1)``."""

EVENTS = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "i1")])
"""Data type of a camera's event; t in microseconds. It is packed and signed, and the same for all data sets."""
SOUNDS = np.dtype([("t", "<i8"), ("x", "<i2"), ("p", "i1")])
"""Data type of a cochlea's event."""


def is_audio(sensor_size: SensorSize) -> bool:
    """Whether a sensor is a cochlea: ``(channels, 1, 1)``."""
    return sensor_size[1:] == (1, 1)


def by_time(events: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sort ``events`` by t; events of equal t keep their order."""
    times = events["t"]
    return events[np.argsort(times, kind="stable")] if (times[1:] < times[:-1]).any() else events


class Recordings(Protocol):
    """Recordings of an event camera or a silicon cochlea, read one at a time.

    Attributes:
        identity: data set, version, and set, for example ``tonic.NMNIST/1.7.0/<fingerprint>/train``. It is part of
            cache keys, so it must change whenever the recordings change.
        sensor_size: width, height and polarities, as in tonic; ``(channels, 1, 1)`` for audio.
        labels: int64 ``[N]``, from 0.
    """

    identity: str
    sensor_size: SensorSize
    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Structured events with the fields t (microseconds), x, y and p (audio: t, x and p), sorted by t."""
        ...
