"""Checks of files with recordings that read no more than their first bytes and their size."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from spikefit.errors import DataError

BYTES_PER_EVENT = 5
AEDAT4 = b"#!AER-DAT4.0"


def require_intact(files: Iterable[Path]) -> None:
    """Raise for a file that is incomplete or of another format than its suffix says.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    for file in files:
        check = _CHECKS.get(file.suffix)
        if check is None:
            continue
        try:
            wrong = "it is a folder" if file.is_dir() else check(file)
        except OSError as error:
            raise DataError(f"{file} can't be read: {error.strerror or error}.") from error
        except ValueError as error:  # numpy's error for another header
            wrong = str(error)
        if wrong:
            raise DataError(f"{file} is damaged: {wrong.rstrip('.')}.")


def _bin(file: Path) -> str:
    size = file.stat().st_size
    return f"{size} bytes, expected {BYTES_PER_EVENT} for each event" if size % BYTES_PER_EVENT else ""


def _npy(file: Path) -> str:
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            return ""
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            return "it holds Python objects, expected numbers"
        expected = stream.tell() + int(np.prod(shape)) * dtype.itemsize
    size = file.stat().st_size
    return "" if size == expected else f"{size} bytes, expected {expected} for an array of the shape {shape}"


def _aedat4(file: Path) -> str:
    with file.open("rb") as stream:
        first = stream.read(len(AEDAT4))
    return "" if first == AEDAT4 else f"it begins with {first!r}, expected {AEDAT4!r}"


def _hdf5(file: Path) -> str:
    import h5py

    with file.open("rb"):  # an error that names its reason, if the file can't be opened at all
        pass
    try:
        with h5py.File(file, "r"):
            return ""
    except OSError as error:
        return str(error)


_CHECKS: dict[str, Callable[[Path], str]] = {
    ".bin": _bin,
    ".npy": _npy,
    ".aedat4": _aedat4,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
