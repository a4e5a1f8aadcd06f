"""The network and data module that a configuration describes, built without a trainer and without data."""

import warnings
from collections.abc import Sequence
from typing import NoReturn

import torch
from jsonargparse import ArgumentError
from lightning.pytorch.utilities.seed import isolate_rng

from spikefit.cli.errors import explain
from spikefit.cli.lightning_cli import CLI_OPTIONS, SpikeFitCLI
from spikefit.cli.parser import ConciseParser
from spikefit.errors import ConfigurationError, user_error
from spikefit.module import SpikingClassifier


class RaisingParser(ConciseParser):
    """A parser for use from Python: it raises its messages, with the options that it knows."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as an :class:`ArgumentError`."""
        try:
            super().error(message, ex)
        except ArgumentError as error:
            error.options = self.option_names()  # type: ignore[attr-defined]
            raise


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
            given = {**CLI_OPTIONS["parser_kwargs"], "exit_on_error": False}
            options = {**CLI_OPTIONS, "parser_class": RaisingParser, "parser_kwargs": given}
            built = NetworkOnly(only="fit", args=["fit", *arguments], **options)
    except ArgumentError as error:
        raise ConfigurationError(explain(str(error), _options(error))) from error
    except Exception as error:  # jsonargparse wraps what a user's own class raises
        if (cause := user_error(error)) is not None:
            raise cause from None
        if isinstance(error, ValueError | TypeError):
            raise ConfigurationError(explain(str(error))) from error
        raise
    assert isinstance(built.model, SpikingClassifier)
    built.model.declare(built.datamodule)
    return built.model


def _options(error: BaseException | None) -> list[str]:
    """The options of the parser of the command: of several parsers that pass an error on, the one with the most."""
    found: list[str] = []
    while error is not None:
        found = max(found, getattr(error, "options", []), key=len)
        error = error.__cause__ or error.__context__
    return found
