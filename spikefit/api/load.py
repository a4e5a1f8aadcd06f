"""Loading of trained networks, and of the data that a run was made with."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import ArgumentParser

from spikefit.checkpoints import read_checkpoint
from spikefit.cli.errors import explain
from spikefit.cli.own_folder import import_from_here
from spikefit.data.datamodule import SpikeDataModule
from spikefit.errors import CheckpointError, ConfigurationError, user_error
from spikefit.module import SpikingClassifier
from spikefit.strict_yaml import read_yaml

CONFIGURATION = "config.yaml"
PATH_OPTIONS = ("root", "path", "file", "folder", "dir", "directory")
"""Ends of the names of options that hold a path."""


def load(checkpoint: str | Path, **options: Any) -> SpikingClassifier:
    """Load a trained module from a checkpoint.

    Args:
        checkpoint: file of a checkpoint, or directory of a run, whose best checkpoint is loaded (else the last one).
        options: arguments of :class:`~spikefit.module.SpikingClassifier` that the checkpoint does not store, such as
            the function ``network`` of a run that was started from Python.

    Returns:
        The module on the CPU, in evaluation mode.

    Raises:
        CheckpointError: if the file is not a checkpoint, or does not describe its network.

    Example:
        >>> import tempfile
        >>> from spikefit.networks import MLP
        >>> module = SpikingClassifier(lambda shape, classes: MLP(shape, classes, hidden=[16]), (1, 8, 8), 10)
        >>> trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> trainer.strategy.connect(module)
        >>> file = Path(tempfile.mkdtemp()) / "mlp.ckpt"
        >>> trainer.save_checkpoint(file)
        >>> loaded = load(file, network=lambda shape, classes: MLP(shape, classes, hidden=[16]))
        >>> loaded(torch.ones(4, 2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    path = find_checkpoint(Path(checkpoint))
    content = read_checkpoint(path, "checkpoint")
    if "network" not in {**content.get("hyper_parameters", {}), **options}:
        raise CheckpointError(
            f"checkpoint: {path} does not describe its network, because it was trained from Python with a function. "
            "Give it the same function: spikefit.load(path, network=...)."
        )
    folder = run_directory_of(path)
    make_importable(*([] if folder is None else project_folders(folder)))
    try:
        return SpikingClassifier.load_from_checkpoint(path, map_location="cpu", **options).eval()
    except Exception as error:  # class paths or options from another version may raise anything
        if (cause := user_error(error)) is not None:
            raise cause from None
        reason = explain(str(error)) or type(error).__name__
        raise CheckpointError(f"checkpoint: the network of {path} can't be built: {reason}") from error


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that ``path`` names: the file itself, or the best, last or only checkpoint of a run's directory.

    Raises:
        CheckpointError: if there is none, or several of which none is called ``best`` or ``last``.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"checkpoint: no file {path}; expected a checkpoint, or the directory of a run.")
    found = [*sorted(path.glob("checkpoints/*.ckpt")), *sorted(path.glob("*.ckpt"))]
    for name in ("best", "last"):
        for file in found:
            if file.stem == name:
                return file
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(file.relative_to(path)) for file in found) or "none"
    raise CheckpointError(
        f"checkpoint: the directory {path} has the checkpoints {names}; expected one called best.ckpt or last.ckpt, or "
        "the path of a checkpoint."
    )


def run_directory_of(checkpoint: Path) -> Path | None:
    """The directory of the run that wrote ``checkpoint``, found by its ``config.yaml``; None for a file alone."""
    above = [*checkpoint.parents[:2], *checkpoint.absolute().parents[:2]]  # relative where that is possible
    return next((folder for folder in above if (folder / CONFIGURATION).is_file()), None)


def project_folders(run: Path) -> list[Path]:
    """Folders above a run's directory in which its relative paths and its own modules may be, nearest first.

    A run is in ``FOLDER/runs/NAME/version_N``, where the number of levels is up to the user.
    """
    return [folder for folder in run.absolute().parents[:4] if folder != Path(folder.anchor)]


def make_importable(*folders: Path) -> None:
    """Let ``class_path`` name modules of the working directory, and of ``folders`` where no other has the name."""
    import_from_here()
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


@dataclass(frozen=True)
class TrainedRun:
    """A trained module with what is known of its run.

    Attributes:
        module: the module, in evaluation mode.
        checkpoint: its file; None for a module from Python.
        folder: directory of the run; None for a checkpoint alone.
        settings: content of the run's ``config.yaml``; empty without one.
    """

    module: SpikingClassifier
    checkpoint: Path | None = None
    folder: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str | Path | SpikingClassifier, config: Path | None = None) -> "TrainedRun":
        """Load a checkpoint and the configuration of its run.

        Args:
            source: a checkpoint, the directory of a run, or a module.
            config: another configuration than the one in the directory of the run.

        Raises:
            CheckpointError: if the checkpoint can't be loaded.
            ConfigurationError: if the configuration can't be read.
        """
        if isinstance(source, SpikingClassifier):
            return cls(source, settings={} if config is None else read_settings(config))
        checkpoint = find_checkpoint(Path(source))
        folder = run_directory_of(checkpoint)
        file = config if config is not None or folder is None else folder / CONFIGURATION
        return cls(load(checkpoint), checkpoint, folder, {} if file is None else read_settings(file))

    @property
    def deployment_options(self) -> Mapping[str, Any]:
        """Options of the run's ``DeploymentSimulation``; empty without one."""
        callbacks = (self.settings.get("trainer") or {}).get("callbacks")
        for entry in callbacks if isinstance(callbacks, list) else [callbacks]:
            if isinstance(entry, Mapping) and str(entry.get("class_path")).endswith(".DeploymentSimulation"):
                return entry.get("init_args") or {}
        return {}

    @property
    def device(self) -> torch.device:
        """Where the run computed, if this machine has such a device; else the CPU."""
        if self.checkpoint is None:
            return self.module.device
        accelerator = (self.settings.get("trainer") or {}).get("accelerator", "cpu")
        uses_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.device("cuda" if uses_gpu else "cpu")

    def data(self) -> pl.LightningDataModule:
        """The data module of the run's configuration; nothing is loaded yet.

        Raises:
            ConfigurationError: if there is no configuration, or its data can't be built.
        """
        if "data" not in self.settings:
            where = "a module from Python" if self.checkpoint is None else f"{self.checkpoint}, which is in no run"
            raise ConfigurationError(
                f"data: {where} does not say which data to use; expected a checkpoint in the directory of its run "
                f"(with its {CONFIGURATION}), --config with the configuration of a run, or, in Python, "
                "data=..."
            )
        given = self.settings["data"]
        if self.folder is not None:
            folders = project_folders(self.folder)
            make_importable(*folders)
            given = with_found_paths(given, folders)
        return build_data(given)

    @contextlib.contextmanager
    def threads(self) -> Iterator[None]:
        """Context with the run's number of CPU threads, which sums of floating-point numbers depend on."""
        before, wanted = torch.get_num_threads(), self.settings.get("cpu_threads")
        try:
            if wanted is not None:
                torch.set_num_threads(int(wanted))
            yield
        finally:
            torch.set_num_threads(before)


def read_settings(file: Path) -> Mapping[str, Any]:
    """The content of a run's ``config.yaml``.

    Raises:
        ConfigurationError: if it can't be read, or is not the configuration of a run.
    """
    try:
        content = read_yaml(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"configuration: {file} can't be read: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"configuration: {file} holds no mapping; expected the {CONFIGURATION} of a run.")
    return content


def build_data(given: Any) -> pl.LightningDataModule:
    """The data module that ``given``, a ``class_path`` with ``init_args``, describes.

    Raises:
        ConfigurationError: if it can't be built; names the option.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SpikeDataModule, "data", required=True)
    try:
        built = parser.instantiate_classes(parser.parse_object({"data": given})).data
    except Exception as error:  # jsonargparse wraps what a user's own class raises
        if (cause := user_error(error)) is not None:
            raise cause from None
        raise ConfigurationError(f"data: {explain(str(error))}") from error
    assert isinstance(built, pl.LightningDataModule)
    return built


def with_found_paths(options: Any, folders: list[Path], name: str = "") -> Any:
    """``options`` with relative paths that do not exist here replaced by those that exist in one of ``folders``."""
    if isinstance(options, Mapping):
        return {key: with_found_paths(value, folders, str(key)) for key, value in options.items()}
    if isinstance(options, list):
        return [with_found_paths(value, folders, name) for value in options]
    if name == "root" and options is None and not os.environ.get("SPIKEFIT_DATA_DIR"):
        found = with_found_paths("data", folders, name)  # the default of data_folder
        return options if found == "data" else found
    if not isinstance(options, str) or name.rpartition("_")[2] not in PATH_OPTIONS or os.path.exists(options):
        return options
    return next((str(folder / options) for folder in folders if (folder / options).exists()), options)
