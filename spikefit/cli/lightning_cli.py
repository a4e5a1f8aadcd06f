"""The command line: ``lightning fit --config ...`` and ``spikefit fit --config ...`` are the same program."""

import copy
import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from spikefit.atomic import writing
from spikefit.checkpoints import read_checkpoint
from spikefit.cli.errors import explain
from spikefit.cli.metrics_file import open_metrics_file
from spikefit.cli.own_folder import import_from_here
from spikefit.cli.parsed import require_usable
from spikefit.cli.parser import ConciseParser
from spikefit.cli.run_directory import (
    assign_run_directory,
    discard_if_empty,
    link_latest,
    release_run_directory,
)
from spikefit.cli.run_name import run_name
from spikefit.cli.signals import Signals, StopOnSignal, Stopped, handled_signals
from spikefit.cli.words import COMMANDS, command_first
from spikefit.data.datamodule import IMAGE_ENCODINGS, SpikeDataModule
from spikefit.errors import CheckpointError, ConfigurationError, SpikeFitError, StorageError, causes
from spikefit.module import STATE, SpikingClassifier
from spikefit.preflight import Preflight
from spikefit.resume.changed_options import require_same_network

# Warnings that ask nothing of the user.
EXPECTED_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own use of a deprecated torch name
    r"Total length of `list` across ranks is zero",  # val_fraction: 0 asks for no validation
    "The AccumulateGrad node's stream does not match",  # a recorded CUDA graph holds nodes of its own stream
    # The same number in every process, or that of process 0 by intention.
    r"It is recommended to use `self.log\('(quantizer|codebook|prune|fit|time)/",
    "The dirpath has changed",  # every run has a directory of its own; a test does not save
)
NO_SUBTYPE = "Does not validate against any of the Union subtypes"  # how jsonargparse refuses an object
CHECKPOINT_KEYWORDS = ("best", "last", "hpc")


class SaveConfig(SaveConfigCallback):
    """Saves the configuration into the run's directory and shows it to W&B."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration once."""
        with writing(Path(trainer.log_dir or "") / self.config_filename):
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log the configuration as W&B's run config."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(self.config.as_dict())


class SpikeFitCLI(LightningCLI):
    """``LightningCLI`` with the data's shape linked to the model, a directory a run, and early checks.

    Args:
        only: the only command that gets a parser, which saves time. None for all commands.
        options: arguments of ``LightningCLI``.

    Attributes:
        signals: handler of SIGINT and SIGTERM, for training; None leaves them to Lightning.
    """

    signals: Signals | None = None

    def __init__(self, only: str | None = None, **options: Any) -> None:
        self._only = only
        super().__init__(**options)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The commands that are parsed, with the arguments that are no options of theirs."""
        every = super().subcommands()
        return every if self._only is None else {self._only: every[self._only]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what the model must know of the data; add ``cpu_threads``."""
        parser.add_argument(
            "--cpu_threads",
            type=PositiveInt | None,
            default=None,
            help="threads of one operation on the CPU; null leaves it to torch. For layers that take less than a "
            "millisecond 1 is as fast, and several times faster on a machine that other programs share.",
        )
        parser.add_argument(
            "--hardware",
            type=str | None,
            default=None,
            help="the chip that the run is for: a name in configs/hardware, or the path of a YAML file. Every "
            "callback, cost and budget takes it from here.",
        )
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="name of the run: it writes into runs/NAME/version_N. By default the name in the logger's options, or "
            "else the names of data, network and quantizer.",
        )
        parser.link_arguments("hardware", "model.init_args.hardware")
        parser.link_arguments("data.input_shape", "model.init_args.input_shape", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line.

        Raises:
            ConfigurationError: for values that jsonargparse fails on without a message of its own.
        """
        try:
            self.config = parser.parse_args(args)
            require_usable(self.config[self.config.subcommand])
        except SpikeFitError:
            raise
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, OSError, RecursionError) as error:
            raise ConfigurationError(
                f"the configuration can't be parsed ({type(error).__name__}: {error}); expected values of the "
                "types that spikefit COMMAND --print_config shows."
            ) from error

    def _parse_ckpt_path(self) -> None:
        """Say clearly when the checkpoint is not there or not readable, before anything is built.

        Lightning would let the options that a checkpoint stores override those that the user gives. Here the given ones
        count, and those that contradict the stored network are refused (:meth:`_preflight`).
        """
        command = self.config.get("subcommand")
        path = self.config[command].get("ckpt_path") if command else None
        self._stored: dict[str, Any] = {}
        if path and path not in CHECKPOINT_KEYWORDS and "://" not in str(path):
            if not Path(path).is_file():
                raise CheckpointError(
                    f"ckpt_path: no file {path}; expected a checkpoint or one of {', '.join(CHECKPOINT_KEYWORDS)}."
                )
            content = read_checkpoint(Path(path), "ckpt_path")
            self._stored = {key: content[key] for key in (STATE, "hyper_parameters") if key in content}

    def before_instantiate_classes(self) -> None:
        """Give the run a directory of its own; the saved configuration does not name it, to be used again."""
        settings = self.config[self.subcommand]
        if settings.cpu_threads is not None:
            torch.set_num_threads(settings.cpu_threads)
        self._given_config = copy.deepcopy(self.config)
        self._run_directory = assign_run_directory(settings.trainer, run_name(settings), settings.name is not None)

    def instantiate_classes(self) -> None:
        """Build everything; a configuration that fails leaves no empty directory behind.

        Raises:
            ConfigurationError: for an object in a list that refuses its options; jsonargparse hides its error.
        """
        try:
            try:
                super().instantiate_classes()
            except ValueError as error:
                if str(error).startswith(NO_SUBTYPE):
                    raise ConfigurationError(explain(str(error))) from error
                raise
            self._preflight()
            for logger in self.trainer.loggers:
                # While the directory is empty, or it warns that it will clear it; only the first process writes.
                if isinstance(logger, CSVLogger) and self._run_directory is not None:
                    open_metrics_file(logger)
            if self.subcommand == "fit" and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                link_latest(self._run_directory)
        except BaseException:
            discard_if_empty(self._run_directory)
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer; what is saved as its configuration is what the user gave.

        Raises:
            ConfigurationError: for options that Lightning refuses.
        """
        self.config = self._given_config
        given = self.config_init[self.subcommand].trainer.callbacks or []
        require_own_states(given if isinstance(given, list) else [given])
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError, RuntimeError, OSError) as error:
            raise ConfigurationError(f"trainer: Lightning refuses its options: {error}") from error
        if self.signals is not None:
            trainer.callbacks.append(StopOnSignal(self.signals))  # type: ignore[attr-defined]
        return trainer

    def _preflight(self) -> None:
        """Ask before anything is loaded; the module asks only in programs that do not use the command line."""
        resumes = bool(self.config[self.subcommand].get("ckpt_path"))
        require_same_network(self.model.hparams, self._stored.get("hyper_parameters", {}))
        require_same_input(self.datamodule, self._stored.get(STATE, {}).get("input_kind"))
        if not resumes and self.subcommand != "fit":
            require_weights(str(self.subcommand), (self.model.network, *self.trainer.callbacks))  # type: ignore[attr-defined]
        Preflight(self.model, self.datamodule, str(self.subcommand), self.trainer, resumes).run()


def require_same_input(data: object, stored: str | None) -> None:
    """Raise if the data give inputs of another kind than a checkpoint's network reads.

    Args:
        data: the data module.
        stored: input kind of the checkpoint; None if it stores none.

    Raises:
        ConfigurationError: naming the option, and the encodings of images that give the stored kind.
    """
    kind, encoding = getattr(data, "input_kind", None), getattr(data, "encoding", None)
    if stored is None or kind is None or kind == stored:
        return
    fitting = [repr(name) for name, given in IMAGE_ENCODINGS.items() if given == stored]
    wanted = " or ".join(fitting) if encoding in IMAGE_ENCODINGS and fitting else f"data of the kind {stored!r}"
    raise ConfigurationError(
        f"data.init_args.encoding: got {encoding!r}, which gives inputs of the kind {str(kind)!r}, but the network in "
        f"ckpt_path reads {stored!r}. Expected {wanted}."
    )


def require_weights(command: str, parts: Sequence[object]) -> None:
    """Raise unless the network or a callback provides trained weights (``provides_weights``).

    Raises:
        ConfigurationError: naming what does.
    """
    if not any(getattr(part, "provides_weights", False) for part in parts):
        raise ConfigurationError(
            f"ckpt_path: got None, so that {command} would use random weights; expected a checkpoint, such as "
            "runs/NAME/version_N/checkpoints/last.ckpt, or the callback InitialWeights."
        )


def require_own_states(callbacks: Sequence[Callback]) -> None:
    """Raise unless every callback has a place of its own in a checkpoint.

    Raises:
        ConfigurationError: for two of one class that a checkpoint can't tell apart, naming the option that does.
    """
    seen = set()
    for callback in callbacks:
        if not is_overridden("state_dict", callback, parent=Callback):
            continue
        if callback.state_key in seen:
            name = getattr(callback, "name", None)
            wanted = "other options" if name is None else f"another name for one of them (name: got {name!r} twice)"
            raise ConfigurationError(
                f"trainer.callbacks: two of {type(callback).__name__} are the same to a checkpoint. Expected {wanted}: "
                "their states could not be told apart."
            )
        seen.add(callback.state_key)


CLI_OPTIONS: dict[str, Any] = {
    "model_class": SpikingClassifier,
    "datamodule_class": SpikeDataModule,
    "subclass_mode_model": True,
    "subclass_mode_data": True,
    "save_config_callback": SaveConfig,
    "seed_everything_default": 0,
    "auto_configure_optimizers": False,
    "parser_class": ConciseParser,
    # Without abbreviations, or --trainer.max_epoch would pass for --trainer.max_epochs.
    "parser_kwargs": {"allow_abbrev": False},
}
"""How spikefit sets up Lightning's command line."""


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Exit status 2, with one message and no traceback, when the configuration, the data, the checkpoint or the target
    can't be used. Status 130 after SIGINT and 143 after SIGTERM, with one line that says how to resume.
    """
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    arguments = command_first(sys.argv[1:] if args is None else args)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        _other_command(arguments[0])
        return
    try:
        import_from_here()
        with handled_signals() as SpikeFitCLI.signals:
            _run(arguments)
    except Stopped as end:
        print(f"spikefit: {end.message}", file=sys.stderr)
        raise
    except Exception as error:
        reason = _user_error(error)
        if reason is None and _lost_process(error):
            print(f"spikefit: error: {_rank()}another process of this run has ended; see its message.", file=sys.stderr)
            sys.exit(1)
        if reason is None:
            raise
        print(f"spikefit: error: {_rank()}{reason}", file=sys.stderr)
        sys.exit(2)
    finally:
        release_run_directory()


def _lost_process(error: Exception) -> bool:
    """Whether a collective failed because a process at its other end is gone (gloo: RuntimeError; NCCL: its own)."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return distributed and (isinstance(error, torch.distributed.DistBackendError) or " by peer" in str(error))


def _rank() -> str:
    """Name of this process in messages; empty for a process that is alone."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return f"process {torch.distributed.get_rank()}: " if distributed else ""


def _run(words: list[str]) -> None:
    SpikeFitCLI(only=next((word for word in words[:1] if word in COMMANDS), None), args=words, **CLI_OPTIONS)


def _user_error(error: BaseException) -> Exception | None:
    """The error that a user can remedy, also when jsonargparse has wrapped it into one about types.

    Lightning's own error for configurations is one, too. If the disk is full, the first failure is returned, although
    loggers fail later when they write their last rows.
    """
    found = next(
        (cause for cause in causes(error) if isinstance(cause, SpikeFitError | MisconfigurationException)), None
    )
    earlier: BaseException | None = error
    while earlier is not None:
        if isinstance(earlier, StorageError):
            found = earlier
        earlier = earlier.__cause__ or earlier.__context__
    return found


def _other_command(command: str) -> None:
    """Anything but our own commands belongs to lightning-sdk, which calls its program ``lightning`` too."""
    try:
        entry = importlib.import_module("lightning_sdk.cli.entrypoint")
    except ModuleNotFoundError:
        print(
            f"lightning: {command!r} is not a command here; expected one of {', '.join(COMMANDS)}. Other commands come "
            "with the package lightning-sdk, which is not installed.",
            file=sys.stderr,
        )
        sys.exit(2)
    entry.main_cli()
