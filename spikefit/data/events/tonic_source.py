"""Data sets of tonic as sources: looked for, downloaded if that is allowed, and opened."""

import copy
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.recordings import SensorSize
from spikefit.data.events.source import (
    Chosen,
    EventSource,
    HeldOut,
    as_tensors,
    fingerprint,
    standard_events,
)
from spikefit.data.source import Part, data_folder
from spikefit.errors import DataError

ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz")


class MissingError(DataError):
    """A data set is not there, or not whole, and may be downloaded."""


class TonicRecordings:
    """Recordings that a data set of tonic reads.

    Args:
        identity: see :class:`~spikefit.data.events.recordings.Recordings`.
        sensor_size: width, height, polarities.
        dataset: indexable, each ``(events, label)`` as tonic gives them.
        chosen: which of them, with their labels.
        crop: whether events beside the sensor are left out instead of refused.
        reopen: opens ``dataset`` anew in another process, for one that holds an open file; None for one that does not.
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
        """The data set of tonic. An open file does not survive a process that is forked or sent: it is opened again."""
        if self._reopen is not None and self._process != os.getpid():
            self._dataset, self._process = self._reopen(), os.getpid()
        return self._dataset

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        """Events with t (microseconds), x, y, p (audio: t, x, p), sorted by t."""
        dataset = self.dataset
        name = f"{type(dataset).__name__}, recording {self.indices[index]}"
        try:
            events, _ = dataset[self.indices[index]]
        except (OSError, ValueError, KeyError) as error:  # what numpy, h5py and tonic make of a broken file
            raise DataError(f"{name}: can't be read ({error}). Its file is damaged; put a whole one there.") from error
        return standard_events(events, self.sensor_size, name, self.crop)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._reopen is not None:
            state |= {"_dataset": None, "_process": None}
        return state


class TonicSource(EventSource):
    """A data set of tonic.

    A folder with a part of the data set is accepted: whatever recordings are there, unless tonic's archive lies beside
    too few of them. Without ``download`` nothing is ever written.

    Args:
        root: folder of data sets; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download what is missing.
        pipeline: turns recordings into frames; None for spikes in frames of equal duration.
    """

    name: str
    """Of the class in tonic, and of the folder that it reads."""
    expected: str
    """What should be in ``folder``, for messages."""
    suffix: ClassVar[str]
    """Of the files that hold recordings."""
    parts: tuple[Part, ...] = ("train", "test")
    """What tonic has to open for the whole data set."""
    needs: ClassVar[str | None] = None
    """A package that reads the files and does not come with tonic."""
    keeps_open: ClassVar[bool] = False
    """Whether tonic's object holds an open file."""
    crop: ClassVar[bool] = False
    """Whether events beside the sensor are left out instead of refused."""

    def __init__(self, root: str | None = None, download: bool = True, pipeline: EventPipeline | None = None) -> None:
        super().__init__(pipeline)
        self.root, self.download = root, download

    @property
    def folder(self) -> Path:
        """The folder that tonic is given."""
        return data_folder(self.root)

    def prepare(self) -> None:
        """Look for all parts, and let tonic download them if they are missing and that is allowed.

        Raises:
            DataError: when a part is not there and can't be had, or is damaged, naming files, folder and checksums.
        """
        if self.needs is not None and importlib.util.find_spec(self.needs) is None:
            raise DataError(
                f"{self.name}: its {self.suffix} files are read by the package {self.needs}, which is not installed; "
                f"install it (pip install {self.needs})."
            )
        for part in self.parts:
            try:
                self.open(part, download=False)
                continue
            except MissingError as error:
                if not self.download:
                    raise DataError(
                        f"{self.name}: not found in {self.folder} (expected {self.expected}). Set download to true, "
                        f"set root or SPIKEFIT_DATA_DIR to the folder that has it, or put it there. {error}"
                    ) from error
            try:
                self.open(part, download=True)
            except Exception as error:  # whatever a network and a third party's downloader can raise
                raise DataError(
                    f"{self.name}: not found in {self.folder}, and the download failed: {_reason(error)} Put "
                    f"{self.expected} into that folder, or set root or SPIKEFIT_DATA_DIR to one that has it."
                ) from error

    def recordings(self, part: Part) -> TonicRecordings:
        """The recordings of one part, as tonic reads them.

        Raises:
            DataError: when the part, or a class of it, is not there or can't be read.
        """
        dataset = self.open(part, download=False)
        chosen = self._part(self._chosen(dataset), part)
        location = Path(dataset.location_on_system)
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
        """tonic's data set of one part; without ``download`` nothing is written.

        Raises:
            MissingError: without ``download``, when recordings are missing.
            DataError: without ``download``, when a file can't be read.
        """
        base = self._base()
        try:
            dataset = self._reporting_downloads(base, download)(str(self.folder), **self._arguments(part))
        except DataError:
            raise
        except (OSError, ValueError, KeyError) as error:  # what numpy and h5py make of a broken file
            if download:
                raise
            raise DataError(
                f"{self.name}: a file in {self.folder / base.__name__} is damaged and can't be read ({error}). Delete "
                "it, and put a whole one there or set download to true."
            ) from error
        if download and hasattr(base, "_check_exists") and not self._is_complete(base, dataset):
            raise MissingError(f"it brought no whole set. {archive_note(dataset)}")
        dataset.__class__ = base  # a class made at run time could not be sent to a process that loads
        return dataset

    def _opener(self, part: Part) -> Callable[[], Any]:
        return _Opener(self, part)

    def _base(self) -> Any:
        from tonic import datasets

        return getattr(datasets, self.name)

    def _arguments(self, part: Part) -> Mapping[str, Any]:
        """Of tonic's class, beside the folder."""
        return {"train": part == "train"}

    def _reporting_downloads(self, base: Any, download: bool) -> Any:
        """tonic's class ``base``, content with whatever recordings are there, and clear about what is missing.

        tonic insists on the archive beside the recordings and on their full number. A part of a data set, or one whose
        archive was deleted, has neither.
        """
        here = self

        def check(self: Any) -> bool:
            if here._is_complete(base, self):
                return True
            if not download:  # at once: some classes unpack here before they think of downloading
                folder = Path(self.location_on_system, self.folder_name)
                raise MissingError(f"{folder} is missing or incomplete. {archive_note(self)}")
            return False

        def fetch(self: Any) -> None:
            try:
                here._fetch(base, self)
            except Exception as error:  # whatever a network and a third party's downloader can raise
                raise MissingError(f"{_reason(error)} {archive_note(self)}") from error

        members: dict[str, Any] = {"_check_exists": check}
        for name in ("download", "_copy_and_extract_local_data"):
            if hasattr(base, name):
                members[name] = fetch
        # tonic names the folder after the class. One that does not look for its files is taken as it is.
        return type(base.__name__, (base,), members if hasattr(base, "_check_exists") else {})

    def _is_complete(self, base: Any, dataset: Any) -> bool:
        """Whether the recordings are there. Beside an archive tonic's rule stays: it tells a broken extraction."""
        if dataset._is_file_present():
            return bool(base._check_exists(dataset))
        return bool(dataset._folder_contains_at_least_n_files_of_type(1, self.suffix))

    def _fetch(self, base: Any, dataset: Any) -> None:
        """Download and unpack."""
        base.download(dataset)

    def _files(self, dataset: Any) -> Iterable[Path]:
        """All files that hold recordings of ``dataset``, sorted."""
        return sorted(Path(path) for path in dataset.data)

    def _chosen(self, dataset: Any) -> Chosen:
        """The recordings to use: sorted by path, because tonic lists files as the file system gives them."""
        order = sorted(range(len(dataset.data)), key=lambda index: Path(dataset.data[index]).parts)
        return Chosen(order, [int(dataset.targets[index]) for index in order])

    def _part(self, chosen: Chosen, part: Part) -> Chosen:
        """What of tonic's data set belongs to the part: all, where tonic opens a part at a time."""
        return chosen


class SplitTonicSource(TonicSource):
    """A data set of tonic without an official test part: a seeded share of every class is held out.

    Args:
        root, download, pipeline: see :class:`TonicSource`.
        split_seed: which recordings are held out for the test.
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
    """Opens a part again, in another process."""

    def __init__(self, source: TonicSource, part: Part) -> None:
        self.source, self.part = copy.copy(source), part
        del self.source.pipeline  # not needed, and sending it might fail

    def __call__(self) -> Any:
        return self.source.open(self.part, download=False)


def _reason(error: Exception) -> str:
    """The first line of an error, as a sentence."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line if line.endswith(".") else f"{line}."


def archive_note(dataset: Any) -> str:
    """Which file to put where, its checksum, and whether the one that is there is damaged.

    Args:
        dataset: an object of tonic, which carries ``filename``, ``url`` and ``file_md5`` where tonic knows them.
    """
    filename = getattr(dataset, "filename", None)
    location = Path(dataset.location_on_system)
    if filename is None:
        return f"tonic names neither an archive nor a checksum of it; look up what belongs into {location}."
    checksum = getattr(dataset, "file_md5", None)
    url = getattr(dataset, "url", None)
    packed = filename.endswith(ARCHIVES)
    known = f"MD5 {checksum}" if checksum else "tonic knows no checksum of it"
    file = location / filename
    if not file.is_file():
        how = ", and unpack it there or set download to true, which then only unpacks it" if packed else ""
        origin = f"from {url}" if url else "tonic knows no address of it"
        return f"Put {filename} ({known}; {origin}) into {location}{how}."
    if not checksum:
        return f"{file} is there ({known}); unpack it, or fetch it again."
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != checksum:
        return f"{file} is damaged: its MD5 is {found}, expected {checksum}. Delete it and fetch it again."
    return f"{file} is whole ({known}){'; unpack it there or set download to true' if packed else ''}."
