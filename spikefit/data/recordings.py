"""What the event pipeline reads: recordings of events with their labels."""

from typing import Protocol

import numpy as np
from torch import Tensor


class Recordings(Protocol):
    """Recordings of an event camera or of a silicon cochlea, read one by one.

    Attributes:
        identity: data set, its version, and part, for example ``tonic.NMNIST/1.7.0/<folder fingerprint>/train``: what a
            cache is keyed by.
        sensor_size: width, height, polarities as tonic has it; audio: ``(channels, 1, 1)``.
        labels: int64 ``[N]``, from 0.
    """

    identity: str
    sensor_size: tuple[int, int, int]
    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Structured events with fields t (microseconds), x, y, p (audio: t, x, p), sorted by t."""
        ...
