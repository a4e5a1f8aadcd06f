"""A separate directory for each run, created before anything is written."""

import os
from itertools import count
from pathlib import Path
from typing import Any

from spikefit.atomic import writing
from spikefit.errors import ConfigurationError

VERSIONED_LOGGERS = ("CSVLogger", "TensorBoardLogger")
_INHERITED = "_SPIKEFIT_RUN_DIRECTORY"


def claim_directory(root: Path) -> Path:
    """Create and return ``root/version_N`` with the first free ``N``; two processes never get the same directory.

    Raises:
        ConfigurationError: if ``root`` is no path.
        StorageError: if it can't be created.
    """
    try:
        with writing(root):
            return _claim_directory(root)
    except ValueError as error:  # a character that no path may have
        raise ConfigurationError(
            f"the directory of runs (save_dir and name of the logger, or trainer.default_root_dir): {str(root)!r} "
            f"can't be created ({error})."
        ) from error


def _claim_directory(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name[8:]) for path in root.glob("version_*") if path.name[8:].isdigit()]
    for number in count(max(taken, default=-1) + 1):
        path = root / f"version_{number}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def assign_run_directory(trainer: Any) -> Path | None:
    """Create the run's directory and write it into the trainer's configuration, before the trainer is instantiated.

    With a CSV or TensorBoard logger without a version, the directory is ``save_dir/name/version_N`` of the first such
    logger. Otherwise it is ``default_root_dir/version_N`` (``runs`` by default). A W&B logger without its own directory
    writes there too. Processes that a distributed strategy starts inherit the directory of the first process. Processes
    that an external launcher starts get None, because only the first process writes.

    Args:
        trainer: the parsed ``trainer`` section, changed in place.

    Returns:
        The directory, or None when another process owns it.
    """
    if _is_worker() and _INHERITED not in os.environ:
        return None
    loggers = trainer.get("logger")
    entries = [entry for entry in (loggers if isinstance(loggers, list) else [loggers]) if hasattr(entry, "class_path")]
    versioned = [entry for entry in entries if entry.class_path.rsplit(".", 1)[-1] in VERSIONED_LOGGERS]
    if versioned and versioned[0].init_args.get("version") is not None:
        options = versioned[0].init_args
        version = options.version if isinstance(options.version, str) else f"version_{options.version}"
        return Path(options.save_dir) / (options.name or "") / version
    if versioned:
        options = versioned[0].init_args
        directory = _claim_once(Path(options.save_dir) / (options.name or ""))
        options.version = directory.name
    else:
        directory = _claim_once(Path(trainer.get("default_root_dir") or "runs"))
        trainer.default_root_dir = str(directory)
    for entry in entries:
        if entry.class_path.endswith("WandbLogger") and str(entry.init_args.get("save_dir", ".")) == ".":
            entry.init_args.save_dir = str(directory.resolve())  # the W&B service has another working directory
    return directory


def _is_worker() -> bool:
    """Whether a launcher started this process in addition to the first one."""
    return any(int(os.environ.get(name, "0")) > 0 for name in ("LOCAL_RANK", "NODE_RANK", "RANK"))


def _claim_once(root: Path) -> Path:
    if _is_worker():
        return Path(os.environ[_INHERITED])
    directory = claim_directory(root)
    os.environ[_INHERITED] = str(directory)
    return directory


def discard_if_empty(directory: Path | None) -> None:
    """Remove ``directory`` if it is empty."""
    if directory is not None and directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
