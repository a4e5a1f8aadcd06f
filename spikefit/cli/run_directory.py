"""A separate directory for each run, created before anything is written."""

import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from spikefit.atomic import writing
from spikefit.cli.run_name import LATEST
from spikefit.errors import ConfigurationError

RUNS = "runs"
UNNAMED = "lightning_logs"
"""The name of Lightning's loggers that the user gives none."""
CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"
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


@dataclass(frozen=True)
class RunDirectory:
    """Where a run writes.

    Attributes:
        path: ``root/NAME/version_N``.
        root: the folder of all runs, with the link :data:`~spikefit.cli.run_name.LATEST`; None if the user has chosen a
            layout without names.
    """

    path: Path
    root: Path | None


def assign_run_directory(trainer: Any, name: str, given: bool = False) -> RunDirectory | None:
    """Create the run's directory and write it into the trainer's configuration, before the trainer is instantiated.

    With a CSV or TensorBoard logger without a version, the directory is ``save_dir/NAME/version_N`` of the first such
    logger. Otherwise it is ``default_root_dir/NAME/version_N`` (``runs`` by default). Without the option ``logger`` (or
    with ``true``) the run gets a CSV logger. A W&B logger without its own directory writes there too. Processes that a
    distributed strategy starts inherit the directory of the first process. Processes that an external launcher starts
    get None, because only the first process writes.

    Args:
        trainer: the parsed ``trainer`` section, changed in place.
        name: name of the run, for loggers without one.
        given: whether the user named the run, which also counts for loggers with a name.

    Returns:
        The directory, or None when another process owns it.
    """
    if trainer.get("logger") in (None, True):
        options = {"save_dir": str(trainer.get("default_root_dir") or RUNS), "name": UNNAMED, "version": None}
        trainer.logger = [Namespace(class_path=CSV_LOGGER, init_args=Namespace(**options))]
    loggers = trainer.get("logger")
    entries = [entry for entry in (loggers if isinstance(loggers, list) else [loggers]) if hasattr(entry, "class_path")]
    versioned = [entry for entry in entries if entry.class_path.rsplit(".", 1)[-1] in VERSIONED_LOGGERS]
    for options in [entry.init_args for entry in versioned]:
        options.name = name if given or options.get("name", UNNAMED) == UNNAMED else options.name
    if _is_worker() and _INHERITED not in os.environ:
        return None
    directory = _directory(trainer, versioned[0].init_args if versioned else None, name)
    for entry in entries:
        if entry.class_path.endswith("WandbLogger"):
            if str(entry.init_args.get("save_dir", ".")) == ".":
                # The W&B service has another working directory.
                entry.init_args.save_dir = str(directory.path.resolve())
            if given and entry.init_args.get("name") is None:
                entry.init_args.name = name
    return directory


def _directory(trainer: Any, logger: Any, name: str) -> RunDirectory:
    """Claim the directory of the first versioned logger's options, or that of the trainer."""
    if logger is None:
        root = Path(trainer.get("default_root_dir") or RUNS)
        path = _claim_once(root / name)
        trainer.default_root_dir = str(path)
        return RunDirectory(path, root)
    root, version = Path(logger.save_dir), logger.get("version")
    if version is None:
        path = _claim_once(root / (logger.name or ""))
        logger.version = path.name
    else:
        path = root / (logger.name or "") / (version if isinstance(version, str) else f"version_{version}")
    return RunDirectory(path, root if logger.name else None)


def _is_worker() -> bool:
    """Whether a launcher started this process in addition to the first one."""
    return any(int(os.environ.get(name, "0")) > 0 for name in ("LOCAL_RANK", "NODE_RANK", "RANK"))


def _claim_once(root: Path) -> Path:
    if _is_worker():
        return Path(os.environ[_INHERITED])
    directory = claim_directory(root)
    os.environ[_INHERITED] = str(directory)
    return directory


def release_run_directory() -> None:
    """Let processes that are started from now on claim directories of their own."""
    if not _is_worker():
        os.environ.pop(_INHERITED, None)


def discard_if_empty(directory: RunDirectory | None) -> None:
    """Remove the directory of a run, and the folder of its name, if they are empty."""
    if directory is None:
        return
    for path in (directory.path, directory.path.parent):
        if path != directory.root and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def link_latest(directory: RunDirectory | None) -> None:
    """Let ``root/latest`` point to ``directory``; only the first process of a run does.

    The link is replaced atomically. Where links are not possible, or something else has this name, there is none.
    """
    if directory is None or directory.root is None or _is_worker():
        return
    link, new = directory.root / LATEST, directory.root / f".{LATEST}-{os.getpid()}"
    with suppress(OSError, NotImplementedError):
        if link.exists() and not link.is_symlink():
            return
        new.symlink_to(directory.path.relative_to(directory.root), target_is_directory=True)
        try:
            new.replace(link)
        finally:
            new.unlink(missing_ok=True)
