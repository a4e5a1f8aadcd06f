"""The network and data module that a configuration describes, built without a trainer and without data."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch.utilities.seed import isolate_rng

from spikefit.cli.errors import explain
from spikefit.cli.lightning_cli import CLI_OPTIONS, SpikeFitCLI
from spikefit.errors import ConfigurationError, SpikeFitError
from spikefit.module import SpikingClassifier


class NetworkOnly(SpikeFitCLI):
    """The parser of ``fit``, which builds the data module and the network and stops there."""

    def _set_seed(self) -> None:
        """Leave the random numbers of the process alone."""

    def before_instantiate_classes(self) -> None:
        """Make no directory."""

    def instantiate_classes(self) -> None:
        """Build the data module and the network, neither callbacks nor loggers."""
        settings = self.config[self.subcommand]
        settings.trainer.callbacks, settings.trainer.logger, settings.trainer.plugins = None, False, None
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule, self.model = self._get(self.config_init, "data"), self._get(self.config_init, "model")

    def _run_subcommand(self, subcommand: str) -> None:
        """Do not train."""


def configured_module(arguments: Sequence[str]) -> SpikingClassifier:
    """The module that the options of ``fit`` describe, with random weights; no data are read.

    Args:
        arguments: options as on the command line, such as ``--config FILE``.

    Raises:
        ConfigurationError: for options that can't be used; names the option.
    """
    try:
        with isolate_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            torch.manual_seed(0)
            options: dict[str, Any] = copy.deepcopy(CLI_OPTIONS)
            options["parser_kwargs"]["exit_on_error"] = False
            built = NetworkOnly(only="fit", args=["fit", *arguments], **options)
    except ArgumentError as error:
        raise ConfigurationError(explain(str(error))) from error
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SpikeFitError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from error
        if isinstance(error, ValueError | TypeError):
            raise ConfigurationError(explain(str(error))) from error
        raise
    assert isinstance(built.model, SpikingClassifier)
    built.model.declare(built.datamodule)
    return built.model
