"""Cache of arrays in memory or in memory-mapped files.

A file contains the rows, their offsets, a description as JSON, and a trailer of fixed size. It is written under a
temporary name, flushed to disk, and renamed, so that the final name never refers to an incomplete file. If several
processes write the same file simultaneously, each writes its own temporary file, and the last rename wins. Damaged
files are detected by their length or checksum.
"""

import errno
import hashlib
import json
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol
from uuid import uuid4

import numpy as np
import torch

from spikefit.atomic import synchronise_folder
from spikefit.errors import DataError

FORMAT = 1
"""Version of the files and of how frames are made, part of every key. Raise it with any change of either."""
SUFFIX, UNFINISHED = ".cache", ".tmp"
MAGIC = b"SPIKEFIT"
TRAILER = struct.Struct("<IIQ8s")
"""Checksum of rows and offsets, checksum and length of the description, MAGIC."""
BLOCK = 1 << 24


class OverLimitError(Exception):
    """A cache would take more bytes than allowed; the message says how many."""


class DamagedError(Exception):
    """A cache file is damaged; the message says how."""


class Table(Protocol):
    """Rows in one array: ``[N, K]``, or ``[E]`` where row i ranges from ``offsets[i]`` to ``offsets[i + 1]``."""

    offsets: np.ndarray | None

    @property
    def rows(self) -> np.ndarray:
        """All rows."""
        ...


def key_of(description: Mapping[str, Any]) -> str:
    """Hash of ``description``, 32 characters."""
    text = json.dumps({"format": FORMAT, **description}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class InMemory:
    """A table in memory, shared with data loader workers.

    Args:
        rows: rows of the table.
        offsets: offsets of rows of different lengths, int64 ``[N + 1]``; None for rows of equal length.
    """

    def __init__(self, rows: np.ndarray, offsets: np.ndarray | None = None) -> None:
        self._dtype, self._shape = rows.dtype, rows.shape
        # As a tensor, because worker processes receive tensors as shared memory, but arrays as copies.
        self._bytes = torch.from_numpy(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
        self.offsets = offsets

    @property
    def rows(self) -> np.ndarray:
        """All rows."""
        return self._bytes.numpy().view(self._dtype).reshape(self._shape)

    @classmethod
    def fill(
        cls,
        chunks: Iterable[tuple[np.ndarray, np.ndarray | None]],
        shape: tuple[int, ...] | None,
        dtype: np.dtype[Any],
        limit: int,
    ) -> "InMemory":
        """Build a table from chunks of rows.

        Args:
            chunks: rows, and their lengths if these differ.
            shape: ``(N, K)`` of all rows; None if their lengths differ.
            dtype: type of the rows.
            limit: maximum number of bytes.

        Raises:
            OverLimitError: if the table would exceed ``limit``.
        """
        if shape is not None:
            _check_limit(int(np.prod(shape)) * dtype.itemsize, limit)
            rows, filled = np.empty(shape, dtype), 0
            for chunk, _ in chunks:
                rows[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            return cls(rows)
        kept, lengths, size = [], [np.zeros(1, np.int64)], 0
        for chunk, own in chunks:
            size += chunk.nbytes
            _check_limit(size, limit)
            kept.append(chunk)
            lengths.append(np.asarray(own))
        return cls(np.concatenate(kept), np.cumsum(np.concatenate(lengths)))


class OnDisk:
    """A table in a memory-mapped file; each data loader worker opens the file itself.

    Args:
        path: path of the file.
        key: key under which it was written.

    Raises:
        FileNotFoundError: if the file does not exist.
        DamagedError: if the file is damaged.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        description, self.offsets = _verified(path, key)
        self._dtype, self._shape = _dtype(description["dtype"]), tuple(description["shape"])
        self._rows: np.ndarray | None = self._mapped()

    def _mapped(self) -> np.ndarray:
        if 0 in self._shape:  # an empty file can't be mapped
            return np.empty(self._shape, self._dtype)
        try:
            return np.asarray(np.memmap(self.path, self._dtype, "r", shape=self._shape))
        except (OSError, ValueError) as error:
            raise DataError(f"cache_dir: {self.path} was deleted or changed while it was in use.") from error

    @property
    def rows(self) -> np.ndarray:
        """All rows, read from disk on access.

        Raises:
            DataError: in a data loader worker, if the file has been deleted or changed.
        """
        if self._rows is None:
            self._rows = self._mapped()
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}


def write(
    folder: Path,
    key: str,
    chunks: Iterable[tuple[np.ndarray, np.ndarray | None]],
    shape: tuple[int, ...] | None,
    dtype: np.dtype[Any],
    limit: int,
) -> Path:
    """Write a table to a file, completely or not at all.

    Args:
        folder: folder of the cache files, created if missing.
        key: key of the table, which becomes the file's name.
        chunks, shape, dtype: see :meth:`InMemory.fill`.
        limit: maximum number of bytes of all files in the folder.

    Raises:
        OverLimitError: if the files would exceed ``limit``.
        DataError: if the folder can't be written, or the disk is full.
    """
    path = folder / f"{key}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        left = limit - sum(_size(other) for other in folder.glob(f"*{SUFFIX}") if other != path)
        if shape is not None:
            _check_limit(int(np.prod(shape)) * dtype.itemsize, left)
        with _unfinished(folder, key) as (file, name):
            _write(file, key, chunks, dtype, left)
            file.flush()
            os.fsync(file.fileno())
            name.replace(path)
        synchronise_folder(folder)
    except OSError as error:
        if isinstance(error, DataError):  # raised while reading the recordings
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"cache_dir: the disk of {folder} is full; expected free space for the cache, another cache_dir, or "
                "cache: memory or none."
            ) from error
        raise DataError(f"cache_dir: {folder} can't be written ({error}); expected a writable folder.") from error
    return path


def _write(
    file: IO[bytes],
    key: str,
    chunks: Iterable[tuple[np.ndarray, np.ndarray | None]],
    dtype: np.dtype[Any],
    limit: int,
) -> None:
    checksum, size, count, width = 0, 0, 0, None
    lengths: list[np.ndarray] = []
    for chunk, own in chunks:
        chunk = np.ascontiguousarray(chunk, dtype)
        size += chunk.nbytes
        _check_limit(size, limit)
        count += len(chunk)
        width = chunk.shape[1:]
        data = chunk.reshape(-1).view(np.uint8).data
        file.write(data)
        checksum = zlib.crc32(data, checksum)
        if own is not None:
            lengths.append(np.asarray(own, np.int64))
    description: dict[str, Any] = {"key": key, "shape": [count, *(width or ())], "dtype": dtype.descr, "offsets": 0}
    if lengths:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
        file.write(offsets.data)
        checksum = zlib.crc32(offsets.data, checksum)
        description["offsets"] = len(offsets)
    text = json.dumps(description).encode()
    file.write(text)
    file.write(TRAILER.pack(checksum, zlib.crc32(text), len(text), MAGIC))


def _verified(path: Path, key: str) -> tuple[dict[str, Any], np.ndarray | None]:
    """Check the file and return its description and offsets."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - TRAILER.size
        if end < 0:
            raise DamagedError("it is too short")
        file.seek(end)
        checksum, own, length, magic = TRAILER.unpack(file.read(TRAILER.size))
        if magic != MAGIC or length > end:
            raise DamagedError("its end is missing")
        file.seek(end - length)
        text = file.read(length)
        if zlib.crc32(text) != own:
            raise DamagedError("the checksum of its description is wrong")
        description = json.loads(text)
        size = int(np.prod(description["shape"])) * _dtype(description["dtype"]).itemsize
        if description["key"] != key or size + 8 * description["offsets"] + length != end:
            raise DamagedError("its key or its length is wrong")
        file.seek(0)
        found = 0
        for position in range(0, end - length, BLOCK):
            found = zlib.crc32(file.read(min(BLOCK, end - length - position)), found)
        if found != checksum:
            raise DamagedError("the checksum of its content is wrong")
        if not description["offsets"]:
            return description, None
        file.seek(size)
        return description, np.frombuffer(file.read(8 * description["offsets"]), np.int64)


def _dtype(description: list[Any]) -> np.dtype[Any]:
    fields = [tuple(field) for field in description]
    return np.dtype(fields[0][1]) if len(fields) == 1 and fields[0][0] == "" else np.dtype(fields)


def _check_limit(size: int, limit: int) -> None:
    if size > limit:
        raise OverLimitError(f"{size:,} bytes or more, {max(limit, 0):,} are left")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process has just replaced it
        return 0


@contextmanager
def _unfinished(folder: Path, key: str) -> Iterator[tuple[IO[bytes], Path]]:
    """A new temporary file of this process, locked while it is written, and deleted unless it is renamed."""
    with _locked(folder):
        _remove_abandoned(folder)
        path = folder / f"{key}.{uuid4().hex}{UNFINISHED}"
        # Not by tempfile, whose files only their owner can read: others of a group may share the cache.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        _lock(handle, wait=True)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files of killed processes; a running process holds the lock of its file."""
    for path in folder.glob(f"*{UNFINISHED}"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                if _lock(handle, wait=False):
                    path.unlink()
            finally:
                os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no process removes a file that was created but is not locked yet."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, wait=True)
        yield
    finally:
        os.close(handle)  # which unlocks it


def _lock(handle: int, wait: bool) -> bool:
    """Lock a file until it is closed; False if another process holds the lock or the system has no locks."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
