"""The parser of a command: files, environment, options and overrides by class name, and short messages."""

import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace

from spikefit.cli.environment import words_of_environment
from spikefit.cli.errors import explain
from spikefit.cli.include import IncludingParser, expand
from spikefit.cli.line import line_of
from spikefit.cli.overrides import overridden
from spikefit.cli.shipped import require_config
from spikefit.cli.words import sort_words

NOT_SERIALIZED = "Unable to serialize instance None"


class ConciseParser(IncludingParser):
    """A parser that says what is wrong and what is allowed, without several screens of usage.

    Configuration files apply first, then the environment, then options, then overrides by class name, wherever they are
    on the command line; within each of these, later ones win.
    """

    chosen: "ConciseParser | None" = None
    files: Sequence[Path] = ()

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None, **kwargs: Any
    ) -> Namespace:
        """Parse the words of a command; the parser that only chooses the command passes them on."""
        command = getattr(self, "subcommand", None)
        if command is None:
            return super().parse_args(args, namespace, **kwargs)
        environment = words_of_environment(os.environ, command, self.option_names())
        given = sort_words(args or ())
        configs = [_located(config) for config in (*environment.configs, *given.configs)]
        vars(self)["parent_parser"].chosen = self
        self.files = [file for config in configs if Path(config).is_file() for file, _ in expand(Path(config))]
        words = [f"--config={config}" for config in configs] + environment.options + given.options
        parsed = super().parse_args(words, namespace, **kwargs)
        overrides = environment.overrides + given.overrides
        if overrides:
            content = yaml.safe_load(self.dump(parsed, skip_none=False, skip_validation=True))
            more = [f"--{option}={json.dumps(value)}" for option, value in overridden(content, overrides).items()]
            parsed = super().parse_args([*words, *more], namespace, **kwargs)
        return parsed

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The configuration as YAML; jsonargparse writes a null among the values of ``layer_quantizers`` as a text."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f"\\s*{NOT_SERIALIZED}")
            return super().dump(*args, **kwargs).replace(NOT_SERIALIZED, "null")

    def option_names(self) -> list[str]:
        """Dotted names of the options of this parser."""
        every = [action.dest for action in self._actions if action.option_strings]
        return [name for name in every if name not in ("config", "help", "print_config") and not name.endswith(".help")]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message and exit with status 2."""
        if self.exit_on_error:
            parser = self.chosen or self  # what is wrong with the command's options may only be seen above it
            # Only a file has an unknown key that is seen as late as this; a wrong value may be of the command line.
            late = re.match(r"(Group|Subcommand|Option) '[\w.]+' (does not accept|is not accepted)", message)
            known_place = parser.reading is not None or late is not None
            text = explain(message, parser.option_names(), *([parser._where] if known_place else []))
            print(f"spikefit: error: {text}", file=sys.stderr)
            sys.exit(2)
        super().error(message, ex)

    def _where(self, option: str) -> str:
        """The file that is being parsed, with the line of ``option``; empty while no file is."""
        if self.reading is None:
            lines = ((file, line_of(file.read_text(encoding="utf-8"), option, whole=True)) for file in self.files[::-1])
            return next((f"{file}, line {line}: " for file, line in lines if line), "")
        line = line_of(self.reading.read_text(encoding="utf-8"), option)
        return f"{self.reading}, line {line}: " if line else f"{self.reading}: "


def _located(config: str) -> str:
    """The path of a configuration file; YAML text is unchanged."""
    if config.lstrip().startswith("{") or "\n" in config:
        return config
    return str(require_config(config)) if config else str(Path(config))
