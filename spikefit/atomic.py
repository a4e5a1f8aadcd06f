"""Atomic writes: a reader finds the old file or the new one, never a part, also after a crash."""

import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spikefit.errors import SpikeFitError, StorageError

_SUFFIX = ".draft"
_MINUTE, _DAY = 60, 86_400


@contextmanager
def atomic_path(path: Path, size: int | None = None) -> Iterator[Path]:
    """A temporary path in the folder of ``path``, renamed to ``path`` when the block ends without an error.

    Missing folders are made. The content is on the disk before the rename, and the rename before this function returns.
    Temporary files that processes left when they were killed are removed.

    Args:
        path: the file.
        size: number of bytes that will be written, for the error message; None if it is not known.

    Raises:
        StorageError: if the file can't be written; an existing file is unchanged.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "a.txt") as draft:
        ...     _ = draft.write_text("whole")
        >>> [path.name for path in folder.iterdir()]
        ['a.txt']
    """
    with writing(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(path)
        draft = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{_SUFFIX}")
        try:
            yield draft
            with open(draft, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        synchronise_folder(path.parent)


def write_atomically(path: Path, content: str | bytes | memoryview) -> Path:
    """Write ``content`` (text as UTF-8) to ``path`` with :func:`atomic_path`, and return ``path``."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path, len(data)) as draft:
        draft.write_bytes(data)
    return path


@contextmanager
def writing(path: Path, size: int | None = None) -> Iterator[None]:
    """Context in which an ``OSError`` becomes a :class:`~spikefit.errors.StorageError` that names ``path``.

    Args:
        path: the file that is written.
        size: number of bytes to write; None if it is not known.
    """
    try:
        yield
    except SpikeFitError:
        raise
    except OSError as error:
        raise StorageError(f"can't write {path}: {_reason(path, error, size)}") from error


def _reason(path: Path, error: OSError, size: int | None) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or size is None:
        return f"{reason}." if size is None else f"{reason} ({size:,} bytes to write)."
    free = _free(path)
    if free is None or free >= size:  # a quota is no property of the disk, and other programs may free space
        return f"{reason} ({size:,} bytes to write)."
    return f"{reason}; {size - free:,} bytes are missing ({size:,} to write, {free:,} free)."


def _free(path: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.is_dir())).free
    return None


def remove_orphans(path: Path) -> None:
    """Remove temporary files of ``path`` whose processes were killed while they wrote it.

    A file of this host is removed if its process has ended and nothing was written to it for a minute, because another
    container may have the same host name. A file of another host, on a shared folder, is removed after a day.
    """
    own, now = f".{path.name}.{socket.gethostname()}.", time.time()
    for draft in path.parent.glob(f".{_escaped(path.name)}.*{_SUFFIX}"):
        with suppress(OSError):  # another process has removed it, or may remove it and this one may not
            age = now - draft.stat().st_mtime
            pid = draft.name[len(own) : -len(_SUFFIX)] if draft.name.startswith(own) else ""
            if age > _DAY or (age > _MINUTE and pid.isdecimal() and not _runs(int(pid))):
                draft.unlink()


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def synchronise_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk, so that a rename survives a power failure, where this is supported."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
