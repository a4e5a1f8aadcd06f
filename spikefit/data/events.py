"""Event-camera data sets, through tonic. The only module that imports tonic, and only when data are loaded."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from spikefit.data.source import DataSource, LabelledDataset, Part, data_folder, fetch
from spikefit.errors import ConfigurationError, DataError, check_choice, check_range

Cache = Literal["memory", "none"]


class EventFrames(LabelledDataset):
    """Recordings as ``[T, C, H, W]`` frames of events, one channel a polarity.

    Args:
        recordings: indexable, each ``(events, label)`` as tonic gives them.
        indices: which recordings, in this order.
        labels: int64 ``[N]`` of those.
        transform: events to frames.
        binary: whether a frame holds 0 or 1 instead of a count.
        cache: ``memory`` frames every recording once, now; ``none`` frames it each time that it is read.
    """

    def __init__(
        self,
        recordings: Any,
        indices: Sequence[int],
        labels: Tensor,
        transform: Any,
        binary: bool,
        cache: Cache,
    ) -> None:
        self.recordings, self.indices, self.labels = recordings, list(indices), labels
        self.transform, self.binary = transform, binary
        self._frames: Tensor | None = None
        if cache == "memory":
            # One tensor, not a list: a process that loads receives it as one piece of shared memory.
            self._frames = torch.stack([self._frame(index) for index in range(len(self))])
            self.recordings = None

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Frames ``[T, C, H, W]`` and label; spikes are uint8, counts int16."""
        frames = self._frame(index) if self._frames is None else self._frames[index]
        return frames, int(self.labels[index])

    def _frame(self, index: int) -> Tensor:
        events, _ = self.recordings[self.indices[index]]
        frames = torch.from_numpy(np.ascontiguousarray(self.transform(events)))
        return (frames > 0).to(torch.uint8) if self.binary else frames.to(torch.int16)


class TonicSource(DataSource):
    """A data set of tonic, cut into ``time_steps`` frames of equal duration.

    tonic rounds the duration down to whole microseconds and leaves the end out: each recording loses its last events.

    Args:
        root: folder of data sets; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download what is missing.
        binary: whether a pixel's events in a frame are one spike (what a chip receives) instead of a count.
        downsample: integer factor on both sides of the sensor.
        cache: ``memory`` or ``none``.
    """

    event = True
    name: ClassVar[str]
    """Of the class in tonic, and of the folder that it reads."""
    expected: ClassVar[str]
    """What should be in ``folder``, for messages."""
    suffix: ClassVar[str]
    """Of the files that hold recordings."""
    sensor: tuple[int, int, int]
    """Width, height, polarities."""

    def __init__(
        self,
        root: str | None = None,
        download: bool = True,
        binary: bool = True,
        downsample: int = 1,
        cache: Cache = "memory",
    ) -> None:
        check_range("downsample", downsample, 1, min(self.sensor[:2]))
        check_choice("cache", cache, ("memory", "none"))
        self.root, self.download = root, download
        self.binary, self.downsample, self.cache = binary, downsample, cache

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """``(polarities, H, W)`` behind the downsampling."""
        width, height, polarities = self.sensor
        return polarities, height // self.downsample, width // self.downsample

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder that tonic is given."""

    def _open(self, part: Part, download: bool) -> Any:
        from tonic import datasets

        base = getattr(datasets, self.name)
        recordings = _content_with_a_part(base, self.suffix, download)(str(self.folder), train=part == "train")
        recordings.__class__ = base  # a class made at run time could not be sent to a process that loads
        return recordings

    def prepare(self) -> None:
        """Look for both parts, and let tonic download them if they are missing and that is allowed."""

        def both(download: bool) -> None:
            self._open("train", download)
            self._open("test", download)

        fetch(self.name, self.folder, self.download, self.expected, both)

    @abstractmethod
    def _labels(self, recordings: Any) -> tuple[list[int], list[int]]:
        """Indices of the recordings to use and their labels from 0."""

    def load(self, part: Part, time_steps: int) -> EventFrames:
        """Frames of every recording of the part.

        Raises:
            DataError: when the part, or a class of it, is not there.
        """
        from tonic import transforms

        recordings = self._open(part, download=False)
        indices, labels = self._labels(recordings)
        steps: list[Any] = []
        width, height, polarities = self.sensor
        size = (width // self.downsample, height // self.downsample, polarities)
        if self.downsample > 1:
            steps.append(_Downsample(self.downsample, size))
        steps.append(transforms.ToFrame(sensor_size=size, n_time_bins=time_steps))
        transform = transforms.Compose(steps)
        return EventFrames(recordings, indices, torch.tensor(labels), transform, self.binary, self.cache)


def _content_with_a_part(base: Any, suffix: str, download: bool) -> Any:
    """tonic's class ``base``, content with whatever recordings are there; without ``download`` it writes nothing.

    tonic insists on the archive beside the recordings and on their full number. A part of a data set, or one whose
    archive was deleted, has neither. Beside an archive tonic's rule stays: it tells an extraction that broke off.
    """

    def check(self: Any) -> bool:
        if self._is_file_present():
            return bool(base._check_exists(self))
        return bool(self._folder_contains_at_least_n_files_of_type(1, suffix))

    def refuse(self: Any) -> None:
        folder = Path(self.location_on_system, self.folder_name)
        raise DataError(f"{base.__name__}: {folder} is missing or incomplete (expected *{suffix} in a folder a class).")

    members: dict[str, Any] = {"_check_exists": check}
    if not download:
        members |= {"download": refuse, "_copy_and_extract_local_data": refuse}
    return type(base.__name__, (base,), members)  # tonic names the folder after the class


class _Downsample:
    """Integer division of coordinates; events of a remainder at the border are dropped."""

    def __init__(self, factor: int, size: tuple[int, int, int]) -> None:
        self.factor, self.size = factor, size

    def __call__(self, events: np.ndarray) -> np.ndarray:
        moved = events.copy()
        moved["x"] //= self.factor
        moved["y"] //= self.factor
        return moved[(moved["x"] < self.size[0]) & (moved["y"] < self.size[1])]


class POKERDVS(TonicSource):
    """POKER-DVS: the four pips of playing cards, 48 training and 20 test recordings of 35 x 35.

    Serrano-Gotarredona and Linares-Barranco 2015, Frontiers in Neuroscience 9:481.

    Args:
        root: folder that holds ``pokerdvs/POKERDVS``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, binary, downsample, cache: see :class:`TonicSource`.
    """

    name, expected, suffix = "POKERDVS", "POKERDVS/pips_train and POKERDVS/pips_test", ".npy"
    num_classes = 4
    sensor = (35, 35, 2)

    @property
    def folder(self) -> Path:
        """The folder that holds ``POKERDVS``."""
        return data_folder(self.root) / "pokerdvs"

    def _labels(self, recordings: Any) -> tuple[list[int], list[int]]:
        # tonic walks the class folders in whatever order the file system gives; sorting by class makes it one order.
        order = sorted(range(len(recordings)), key=lambda index: int(recordings.targets[index]))
        return order, [int(recordings.targets[index]) for index in order]


class NMNIST(TonicSource):
    """N-MNIST: MNIST's digits recorded by a moving sensor of 34 x 34 (Orchard et al. 2015).

    A folder with a part of the data set is accepted: whatever digits and recordings are there, unless tonic's archive
    lies beside too few of them.

    Args:
        root: folder that holds ``NMNIST/Train`` and ``NMNIST/Test``; None for SPIKEFIT_DATA_DIR, else ``data``.
        classes: digits to use, in ascending order of their new labels 0, 1, ...; None for all ten.
        download, binary, downsample, cache: see :class:`TonicSource`.
    """

    name, expected, suffix = "NMNIST", "NMNIST/Train/DIGIT/*.bin and NMNIST/Test/DIGIT/*.bin", ".bin"
    sensor = (34, 34, 2)

    def __init__(
        self,
        root: str | None = None,
        download: bool = True,
        binary: bool = True,
        downsample: int = 1,
        cache: Cache = "memory",
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(root, download, binary, downsample, cache)
        self.classes = list(range(10)) if classes is None else sorted(set(classes))
        if not self.classes:
            raise ConfigurationError("classes: got no digit, expected digits from 0 to 9.")
        for digit in self.classes:
            check_range("classes", digit, 0, 9)
        self.num_classes = len(self.classes)

    @property
    def folder(self) -> Path:
        """The folder that holds ``NMNIST``."""
        return data_folder(self.root)

    def _labels(self, recordings: Any) -> tuple[list[int], list[int]]:
        new = {digit: label for label, digit in enumerate(self.classes)}
        kept = [(index, new[int(digit)]) for index, digit in enumerate(recordings.targets) if int(digit) in new]
        missing = set(range(self.num_classes)) - {label for _, label in kept}
        if missing:
            digits = [self.classes[label] for label in sorted(missing)]
            raise DataError(
                f"NMNIST: {self.folder} has no recordings of {digits}; set classes to the digits that are there."
            )
        return [index for index, _ in kept], [label for _, label in kept]
