"""Event data sets from a folder of your own recordings."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from spikefit.data.events.event_types import SensorSize, is_audio
from spikefit.data.events.integrity import require_intact
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.source import (
    EventSource,
    as_tensors,
    check_sensor_size,
    fingerprint,
    standard_events,
)
from spikefit.data.source import Part
from spikefit.data.split import Chosen, HeldOut
from spikefit.errors import ConfigurationError, DataError

SUFFIXES = (".npy", ".bin", ".aedat4")


class RecordingFolder(EventSource):
    """A data set of your own event recordings: a folder per class, a file per recording.

    Either with a training and a test set::

        ROOT/train/CLASS/anything.npy
        ROOT/test/CLASS/anything.npy

    or without; then a seeded share of every class is held out for the test::

        ROOT/CLASS/anything.npy

    Files are read one by one when they are needed. The formats are

    * ``.npy``: a structured array with fields t, x, y, p (audio: t, x, p) in any order, or a plain array ``[N, 4]``
      (audio ``[N, 3]``) with the columns given by ``columns``;
    * ``.bin``: five bytes per event, as in N-MNIST and N-Caltech101;
    * ``.aedat4``: recordings of iniVation's cameras; needs the package ``aedat``. Times count from the first event.

    Polarities are 0 and 1, or -1 and 1. Hidden files are ignored.

    Args:
        root: the folder.
        classes: names of the class folders, in the order of their labels 0, 1, ...; other folders are ignored.
        sensor_size: width, height, polarities; audio: channels, 1, 1. With one polarity, the polarity of events is
            ignored.
        pipeline: converts recordings to frames; None for spikes in frames of equal duration.
        columns: columns of plain ``.npy`` arrays, for example ``xytp``; None for ``txyp``, audio ``txp``.
        tick: microseconds per unit of t in ``.npy`` files: 1e6 for seconds.
        separator: for recordings that were cut into several files: the part of the file's name after the last separator
            numbers the pieces of one recording (``user1_lamp-3.npy`` with ``-``). Pieces of one recording, even of
            different classes, are always in the same set. None if every file is a recording.
        split_seed: seed of the split.
        test_fraction: share of every class that is held out, in (0, 1).

    Raises:
        ConfigurationError: for a value that is not allowed.

    Example:
        >>> data = RecordingFolder("recordings", classes=["left", "right"], sensor_size=(128, 96, 2))
        >>> data.shape, data.num_classes
        ((2, 96, 128), 2)
    """

    def __init__(
        self,
        root: str,
        classes: Sequence[str],
        sensor_size: SensorSize,
        pipeline: EventPipeline | None = None,
        columns: str | None = None,
        tick: float = 1.0,
        separator: str | None = None,
        split_seed: int = 0,
        test_fraction: float = 0.2,
    ) -> None:
        super().__init__(pipeline)
        self.root, self.classes = Path(root), list(classes)
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigurationError(f"classes: got {self.classes}, expected the names of class folders, each once.")
        self.num_classes, self.sensor_size = len(self.classes), check_sensor_size(sensor_size)
        fields = "txp" if is_audio(self.sensor_size) else "txyp"
        self.columns = fields if columns is None else columns
        if sorted(self.columns) != sorted(fields):
            raise ConfigurationError(f"columns: got {columns!r}, expected each of the letters {fields} once.")
        if not 0 < tick < math.inf:
            raise ConfigurationError(f"tick: got {tick!r}, expected a number above 0.")
        if separator == "":
            raise ConfigurationError("separator: got '', expected at least one character, or null.")
        self.tick, self.separator = tick, separator
        self.held_out = HeldOut(split_seed, test_fraction)

    def prepare(self) -> None:
        """Check that every class exists in every set, and that the reader of its files is installed.

        Raises:
            DataError: if something is missing.
        """
        for part in ("train", "test"):
            self.recordings(part)

    def recordings(self, part: Part) -> "FolderRecordings":
        """The recordings of one set.

        Raises:
            DataError: if the set, one of its classes, or the reader of its files is missing, or a file is damaged.
        """
        files, chosen = self._found(part)
        require_intact(files)
        if any(file.suffix == ".aedat4" for file in files) and importlib.util.find_spec("aedat") is None:
            raise DataError(
                f"RecordingFolder: .aedat4 files in {self.root} are read by the package aedat, which is not installed; "
                "install it (pip install aedat)."
            )
        contents = fingerprint(files, self.root, self.columns, self.tick, chosen.labels)
        identity = f"RecordingFolder/1/{contents}/{part}"
        return FolderRecordings(identity, self.sensor_size, files, chosen, self.columns, self.tick)

    def _found(self, part: Part) -> tuple[list[Path], Chosen]:
        """Files of one set, sorted within a class, with labels and groups."""
        existing = [name for name in ("train", "test") if (self.root / name).is_dir()]
        if len(existing) == 1:
            other = {"train": "test", "test": "train"}[existing[0]]
            raise DataError(
                f"RecordingFolder: {self.root} has the part {existing[0]} but no part {other}; expected train/CLASS "
                "and test/CLASS, or CLASS alone."
            )
        if existing:
            self._check_apart()
            files, chosen = self._listed(self.root / part)
            return files, chosen
        files, everything = self._listed(self.root)
        chosen = self.held_out.part(everything, part)
        return [files[index] for index in chosen.indices], chosen

    def _listed(self, folder: Path) -> tuple[list[Path], Chosen]:
        files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            place = folder / name
            try:
                entries = sorted(place.iterdir())
            except FileNotFoundError:
                entries = []
            except OSError as error:
                raise DataError(f"RecordingFolder: {place} can't be read: {error.strerror or error}.") from error
            shown = [file for file in entries if not file.name.startswith(".")]
            found = [file for file in shown if file.is_file() or file.suffix in SUFFIXES]
            if not found:
                raise DataError(
                    f"RecordingFolder: {place} is missing or empty (expected recordings with the suffixes "
                    f"{', '.join(SUFFIXES)})."
                )
            for file in found:
                if file.suffix not in SUFFIXES:
                    raise DataError(f"RecordingFolder: {file} is not a recording, expected {', '.join(SUFFIXES)}.")
            files += found
            labels += [label] * len(found)
        groups = None
        if self.separator is not None:
            numbers: dict[str, int] = {}
            groups = [numbers.setdefault(self._recording(file), len(numbers)) for file in files]
        return files, Chosen(list(range(len(files))), labels, groups)

    def _recording(self, file: Path) -> str:
        """Name of the recording that a file belongs to."""
        return file.stem if self.separator is None else file.stem.rpartition(self.separator)[0] or file.stem

    def _check_apart(self) -> None:
        if self.separator is None:
            return
        names = [{self._recording(file) for file in self._listed(self.root / part)[0]} for part in ("train", "test")]
        both = sorted(names[0] & names[1])
        if both:
            raise DataError(f"RecordingFolder: pieces of the recording {both[0]!r} are in train and in test.")


class FolderRecordings:
    """Recordings in files, one per file, read on demand.

    Args:
        identity, sensor_size: see :class:`~spikefit.data.events.event_types.Recordings`.
        files: the files.
        chosen: labels and groups of the files.
        columns: columns of plain arrays.
        tick: microseconds per unit of t in ``.npy`` files.
    """

    def __init__(
        self,
        identity: str,
        sensor_size: SensorSize,
        files: Sequence[Path],
        chosen: Chosen,
        columns: str = "txyp",
        tick: float = 1.0,
    ) -> None:
        self.identity, self.sensor_size = identity, sensor_size
        self.files, self.columns, self.tick = list(files), columns, tick
        self.labels: Tensor
        self.groups: Tensor | None
        self.labels, self.groups = as_tensors(chosen)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        """Events with t (microseconds), x, y, p (audio: t, x, p), sorted by t.

        Raises:
            DataError: for a file that can't be read, or an event outside the sensor.
        """
        file = self.files[index]
        try:
            events = _READERS[file.suffix](file, self.columns, self.tick)
        except DataError:
            raise
        except Exception as error:  # numpy, tonic and camera libraries may raise anything for a broken file
            raise DataError(f"{file} is damaged: can't be read ({str(error) or type(error).__name__}).") from error
        return standard_events(events, self.sensor_size, str(file))


def _read_npy(file: Path, columns: str, tick: float) -> np.ndarray:
    array = np.load(file, allow_pickle=False)
    if array.dtype.names is None:
        if array.ndim != 2 or array.shape[1] != len(columns):
            raise DataError(f"{file}: has shape {array.shape}, expected [N, {len(columns)}] with columns {columns}.")
        values = {field: array[:, column] for column, field in enumerate(columns)}
    else:
        values = {field: array[field] for field in array.dtype.names}
    events = np.empty(len(array), [(field, np.float64) for field in values])
    for field, value in values.items():
        events[field] = value
    if "t" in values and tick != 1:
        # Whole microseconds, which 64-bit floats represent exactly up to 285 years.
        events["t"] = np.rint(events["t"] * tick)
    return events


def _read_bin(file: Path, columns: str, tick: float) -> np.ndarray:
    from tonic.io import read_mnist_file

    return read_mnist_file(file, dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))


def _read_aedat4(file: Path, columns: str, tick: float) -> np.ndarray:
    from tonic.io import read_aedat4

    read = read_aedat4(str(file))
    names = dict(zip(("t", "x", "y", "p"), read.dtype.names, strict=True))  # the reader calls p "on"
    events = np.empty(len(read), [(field, np.int64) for field in names])
    for field, name in names.items():
        events[field] = read[name]
    events["t"] -= events["t"].min() if len(events) else 0  # in the file, times count from 1970
    return events


_READERS = {".npy": _read_npy, ".bin": _read_bin, ".aedat4": _read_aedat4}
