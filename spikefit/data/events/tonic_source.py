"""Base classes of tonic's data sets: checking, downloading and opening them."""

import copy
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from spikefit.data.events.event_types import SensorSize
from spikefit.data.events.integrity import require_intact
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.source import (
    EventSource,
    as_tensors,
    fingerprint,
    standard_events,
)
from spikefit.data.source import MissingError, Part
from spikefit.data.split import Chosen, HeldOut
from spikefit.errors import DataError, SpikeFitError
from spikefit.locations import data_folder

ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz")


class TonicRecordings:
    """Recordings that are read by a data set of tonic.

    Args:
        identity: see :class:`~spikefit.data.events.event_types.Recordings`.
        sensor_size: width, height, polarities.
        dataset: data set of tonic, indexable, with elements ``(events, label)``.
        chosen: the selected recordings and their labels.
        crop: whether to drop events outside the sensor instead of raising an error.
        reopen: opens ``dataset`` again in another process, if it keeps a file open; otherwise None.
    """

    def __init__(
        self,
        identity: str,
        sensor_size: SensorSize,
        dataset: Any,
        chosen: Chosen,
        crop: bool = False,
        reopen: Callable[[], Any] | None = None,
    ) -> None:
        self.identity, self.sensor_size, self.crop = identity, sensor_size, crop
        self.indices = chosen.indices
        self.labels, self.groups = as_tensors(chosen)
        self._dataset, self._reopen, self._process = dataset, reopen, os.getpid()

    @property
    def dataset(self) -> Any:
        """The data set of tonic; a data set that keeps a file open is opened again in each process."""
        if self._reopen is not None and self._process != os.getpid():
            self._dataset, self._process = self._reopen(), os.getpid()
        return self._dataset

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        """Events with t (microseconds), x, y, p (audio: t, x, p), sorted by t."""
        dataset = self.dataset
        number = self.indices[index]
        data = getattr(dataset, "data", None)
        file = data[number] if isinstance(data, list) and len(data) == len(dataset) else None
        name = str(file) if isinstance(file, str) else f"{type(dataset).__name__}, recording {number}"
        try:
            events, _ = dataset[number]
        except Exception as error:  # numpy, h5py and tonic raise anything for a broken file
            reason = str(error) or type(error).__name__
            raise DataError(f"{name} is damaged: can't be read ({reason}). Replace it.") from error
        return standard_events(events, self.sensor_size, name, self.crop)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._reopen is not None:
            state |= {"_dataset": None, "_process": None}
        return state


class TonicSource(EventSource):
    """Base class of tonic's data sets.

    A folder with only a part of the recordings is accepted, unless it also contains tonic's archive: then all
    recordings must have been extracted. Without ``download`` nothing is ever written.

    Args:
        root: folder of data sets; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download missing files.
        pipeline: converts recordings to frames; None for spikes in frames of equal duration.
    """

    name: str
    """Name of the class in tonic, and of the folder that it reads."""
    expected: str
    """Expected content of ``folder``, for error messages."""
    suffix: ClassVar[str]
    """Suffix of the files with recordings."""
    parts: tuple[Part, ...] = ("train", "test")
    """Sets that tonic must open for the whole data set."""
    needs: ClassVar[str | None] = None
    """Package that reads the files and is not installed with tonic."""
    keeps_open: ClassVar[bool] = False
    """Whether tonic's object keeps a file open."""
    crop: ClassVar[bool] = False
    """Whether to drop events outside the sensor instead of raising an error."""

    def __init__(self, root: str | None = None, download: bool = True, pipeline: EventPipeline | None = None) -> None:
        super().__init__(pipeline)
        self.root, self.download = root, download

    @property
    def folder(self) -> Path:
        """The folder that is passed to tonic."""
        return data_folder(self.root)

    def prepare(self) -> None:
        """Check for all sets, and let tonic download missing ones if that is allowed.

        Raises:
            DataError: if a set is damaged, or missing and can't be downloaded; the message names files, folder and
                checksums.
        """
        if self.needs is not None and importlib.util.find_spec(self.needs) is None:
            raise DataError(
                f"{self.name}: its {self.suffix} files are read by the package {self.needs}, which is not installed; "
                f"install it (pip install {self.needs})."
            )
        for part in self.parts:
            try:
                self._require_intact(self.open(part, download=False))
                continue
            except MissingError as error:
                if not self.download:
                    raise DataError(
                        f"{self.name}: not found in {self.folder} (expected {self.expected}). Set download to true, "
                        f"set root or SPIKEFIT_DATA_DIR to the folder that contains it, or put it there. {error}"
                    ) from error
            try:
                self.open(part, download=True)
            except Exception as error:  # third-party downloaders may raise anything
                raise DataError(
                    f"{self.name}: not found in {self.folder}, and the download failed: {_reason(error)} Put "
                    f"{self.expected} into that folder, or set root or SPIKEFIT_DATA_DIR to one that contains it."
                ) from error

    def _require_intact(self, dataset: Any) -> None:
        """Check the files of a set without reading their content.

        Raises:
            DataError: naming a damaged file and what is wrong.
        """
        require_intact(self._files(dataset))

    def recordings(self, part: Part) -> TonicRecordings:
        """The recordings of one set, read by tonic.

        Raises:
            DataError: if the set, or one of its classes, is missing or can't be read.
        """
        dataset = self.open(part, download=False)
        location = Path(dataset.location_on_system)
        try:
            chosen = self._part(self._chosen(dataset), part)
        except SpikeFitError:
            raise
        except Exception as error:  # names and labels that tonic does not expect
            raise DataError(
                f"{self.name}: {location} is damaged: its labels can't be read ({type(error).__name__}: {error})."
            ) from error
        contents = fingerprint(self._files(dataset), location, chosen.indices, chosen.labels)
        return TonicRecordings(
            f"tonic.{self.name}/{version('tonic')}/{contents}/{part}",
            self.sensor_size,
            dataset,
            chosen,
            self.crop,
            self._opener(part) if self.keeps_open else None,
        )

    def open(self, part: Part, download: bool) -> Any:
        """Open one set with tonic; without ``download`` nothing is written.

        Raises:
            MissingError: without ``download``, if recordings are missing.
            DataError: without ``download``, if a file can't be read.
        """
        base = self._base()
        try:
            dataset = self._reporting_downloads(base, download)(str(self.folder), **self._arguments(part))
        except DataError:
            raise
        except Exception as error:  # numpy, h5py and tonic raise anything for a broken file
            if download:
                raise
            folder = self.folder / base.__name__
            require_intact(sorted(folder.rglob(f"*{self.suffix}")))
            raise DataError(
                f"{self.name}: a file in {folder} is damaged and can't be read ({str(error) or type(error).__name__}). "
                "Delete it, and replace it or set download to true."
            ) from error
        if download and hasattr(base, "_check_exists") and not self._is_complete(base, dataset):
            raise MissingError(f"the downloaded data set is incomplete. {archive_note(dataset)}")
        dataset.__class__ = base  # a class created at run time can't be sent to a data loader worker
        return dataset

    def _opener(self, part: Part) -> Callable[[], Any]:
        return _Opener(self, part)

    def _base(self) -> Any:
        from tonic import datasets

        return getattr(datasets, self.name)

    def _arguments(self, part: Part) -> Mapping[str, Any]:
        """Arguments of tonic's class except for the folder."""
        return {"train": part == "train"}

    def _reporting_downloads(self, base: Any, download: bool) -> Any:
        """Derive from tonic's class ``base`` a class that accepts incomplete data sets and reports what is missing.

        tonic requires the full number of recordings and the archive next to them. Incomplete data sets have too few
        recordings, and the archive may have been deleted.
        """
        here = self

        def check(self: Any) -> bool:
            if here._is_complete(base, self):
                return True
            if not download:  # raised here, because some classes unpack archives before they try to download
                folder = Path(self.location_on_system, self.folder_name)
                raise MissingError(f"{folder} is missing or incomplete. {archive_note(self)}")
            return False

        def fetch(self: Any) -> None:
            try:
                here._fetch(base, self)
            except Exception as error:  # third-party downloaders may raise anything
                raise MissingError(f"{_reason(error)} {archive_note(self)}") from error

        members: dict[str, Any] = {"_check_exists": check}
        for name in ("download", "_copy_and_extract_local_data"):
            if hasattr(base, name):
                members[name] = fetch
        # tonic names the folder after the class. A class without _check_exists is used unchanged.
        return type(base.__name__, (base,), members if hasattr(base, "_check_exists") else {})

    def _is_complete(self, base: Any, dataset: Any) -> bool:
        """Whether the recordings exist; if the archive exists too, tonic's check detects an incomplete extraction."""
        if dataset._is_file_present():
            return bool(base._check_exists(dataset))
        return bool(dataset._folder_contains_at_least_n_files_of_type(1, self.suffix))

    def _fetch(self, base: Any, dataset: Any) -> None:
        """Download and unpack the data set."""
        base.download(dataset)

    def _files(self, dataset: Any) -> Iterable[Path]:
        """All files with recordings of ``dataset``, sorted."""
        return sorted(Path(path) for path in dataset.data)

    def _chosen(self, dataset: Any) -> Chosen:
        """The recordings to use, sorted by path, because tonic lists files in the order of the file system."""
        order = sorted(range(len(dataset.data)), key=lambda index: Path(dataset.data[index]).parts)
        return Chosen(order, [int(dataset.targets[index]) for index in order])

    def _part(self, chosen: Chosen, part: Part) -> Chosen:
        """The recordings of tonic's data set that belong to the set; all of them if tonic opens one set at a time."""
        return chosen


class SplitTonicSource(TonicSource):
    """Base class of tonic's data sets without an official test set: a seeded share of every class is held out.

    Args:
        root, download, pipeline: see :class:`TonicSource`.
        split_seed: seed of the split.
        test_fraction: share of every class that is held out, in (0, 1).
    """

    parts = ("train",)

    def __init__(
        self,
        root: str | None = None,
        download: bool = True,
        pipeline: EventPipeline | None = None,
        split_seed: int = 0,
        test_fraction: float = 0.1,
    ) -> None:
        super().__init__(root, download, pipeline)
        self.held_out = HeldOut(split_seed, test_fraction)

    def _arguments(self, part: Part) -> Mapping[str, Any]:
        return {}

    def _part(self, chosen: Chosen, part: Part) -> Chosen:
        return self.held_out.part(chosen, part)


class _Opener:
    """Callable that opens a set again in another process."""

    def __init__(self, source: TonicSource, part: Part) -> None:
        self.source, self.part = copy.copy(source), part
        del self.source.pipeline  # not needed, and pickling it might fail

    def __call__(self) -> Any:
        return self.source.open(self.part, download=False)


def _reason(error: Exception) -> str:
    """The first line of an error message, as a sentence."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line if line.endswith(".") else f"{line}."


def archive_note(dataset: Any) -> str:
    """Describe the archive of a data set: where to put it, its checksum, and whether an existing file is damaged.

    Args:
        dataset: data set of tonic, with ``filename``, ``url`` and ``file_md5`` if tonic knows them.
    """
    filename = getattr(dataset, "filename", None)
    location = Path(dataset.location_on_system)
    if filename is None:
        return f"tonic gives no archive and no checksum; look up the expected content of {location}."
    checksum = getattr(dataset, "file_md5", None)
    url = getattr(dataset, "url", None)
    packed = filename.endswith(ARCHIVES)
    known = f"MD5 {checksum}" if checksum else "tonic knows no checksum"
    file = location / filename
    if not file.is_file():
        how = ", and unpack it there or set download to true, which then only unpacks it" if packed else ""
        origin = f"from {url}" if url else "tonic knows no download address"
        return f"Put {filename} ({known}; {origin}) into {location}{how}."
    if not checksum:
        return f"{file} exists ({known}); unpack it, or download it again."
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != checksum:
        return f"{file} is damaged: its MD5 is {found}, expected {checksum}. Delete it and download it again."
    return f"{file} is complete ({known}){'; unpack it there or set download to true' if packed else ''}."
