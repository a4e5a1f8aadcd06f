"""From recordings to frames: equal durations, one recording at a time."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikefit.data.recordings import Recordings
from spikefit.data.source import LabelledDataset
from spikefit.errors import check_choice

Cache = Literal["memory", "none"]


class EventPipeline:
    """Cuts every recording into T frames of equal duration.

    tonic rounds the duration down to whole microseconds and leaves the end out, and so does this.

    Args:
        binary: whether a pixel's events in a frame are one spike (what a chip receives) instead of a count.
        cache: ``memory`` frames every recording once, ``none`` each time that it is read.
    """

    def __init__(self, binary: bool = True, cache: Cache = "memory") -> None:
        check_choice("cache", cache, ("memory", "none"))
        self.binary, self.cache = binary, cache

    def shape(self, sensor_size: tuple[int, int, int]) -> tuple[int, ...]:
        """``(polarities, H, W)`` of one frame; audio: ``(channels,)``."""
        width, height, polarities = sensor_size
        return (width,) if (height, polarities) == (1, 1) else (polarities, height, width)

    def dataset(self, recordings: Recordings, time_steps: int, train: bool) -> LabelledDataset:
        """Frames ``[T, C, H, W]`` (audio ``[T, N]``) and label of every recording."""
        return EventFrames(recordings, self.shape(recordings.sensor_size), time_steps, self.binary, self.cache)


class EventFrames(LabelledDataset):
    """Recordings as frames; spikes are uint8, counts int16."""

    def __init__(
        self, recordings: Recordings, shape: tuple[int, ...], time_steps: int, binary: bool, cache: Cache
    ) -> None:
        self.recordings, self.labels = recordings, recordings.labels
        self.shape, self.time_steps, self.binary = shape, time_steps, binary
        self._frames: Tensor | None = None
        if cache == "memory":
            self._frames = torch.stack([self._frame(index) for index in range(len(self))])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Frames and label."""
        frames = self._frame(index) if self._frames is None else self._frames[index]
        return frames, int(self.labels[index])

    def _frame(self, index: int) -> Tensor:
        events = self.recordings[index]
        t = events["t"] - events["t"][:1].sum()
        steps = t // max(1, int(t[-1:].sum()) // self.time_steps)
        inside = steps < self.time_steps
        places = (events["x"],) if len(self.shape) == 1 else (events["p"], events["y"], events["x"])
        counts = np.zeros((self.time_steps, *self.shape), np.int16)
        np.add.at(counts, (steps[inside], *(place[inside] for place in places)), 1)
        frames = torch.from_numpy(counts)
        return (frames > 0).to(torch.uint8) if self.binary else frames
