"""Event recordings of your own, here in .csv files. Files of .npy, .bin and .aedat4 need no code: RecordingFolder."""

from pathlib import Path

import numpy as np
import torch

from spikefit.data.events.source import EventSource, fingerprint, standard_events
from spikefit.data.source import Part


class CsvFiles:
    """Files ``ROOT/PART/CLASS/*.csv`` with the columns t (microseconds), x, y, p, read when they are needed."""

    sensor_size, groups, classes = (8, 8, 2), None, ("down", "right")

    def __init__(self, root: Path, part: Part) -> None:
        self.files = sorted((root / part).glob("*/*.csv"))
        self.labels = torch.tensor([self.classes.index(file.parent.name) for file in self.files])
        self.identity = f"CsvRecordings/1/{fingerprint(self.files, root)}/{part}"  # the key of cached frames

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        events = np.genfromtxt(self.files[index], delimiter=",", names=True)
        return standard_events(events, self.sensor_size, str(self.files[index]))


class CsvRecordings(EventSource):
    """The data set in the folder ``recordings``; the pipeline makes frames ``[T, 2, 8, 8]`` of its events."""

    num_classes, sensor_size = len(CsvFiles.classes), CsvFiles.sensor_size

    def prepare(self) -> None:
        """Nothing to download."""

    def recordings(self, part: Part) -> CsvFiles:
        """The recordings of one set."""
        return CsvFiles(Path("recordings"), part)
