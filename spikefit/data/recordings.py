"""What a data set of events is to everything behind it: recordings with labels."""

from typing import Protocol

import numpy as np
from torch import Tensor


class Recordings(Protocol):
    """Recordings of an event camera or a silicon cochlea, read one at a time.

    Attributes:
        identity: data set, its version, and part, for example ``tonic.NMNIST/1.7.0/<fingerprint>/train``: what a cache
            is keyed by, so it must change whenever the recordings do.
        sensor_size: width, height and polarities, as tonic has it; ``(channels, 1, 1)`` for audio.
        labels: int64 ``[N]``, from 0.
    """

    identity: str
    sensor_size: tuple[int, int, int]
    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Structured events with the fields t (microseconds), x, y and p (audio: t, x and p), sorted by t."""
        ...
