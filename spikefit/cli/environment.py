"""Options from environment variables: ``SPIKEFIT_TRAINER__MAX_EPOCHS=3`` is ``--trainer.max_epochs=3``."""

import difflib
import re
from collections.abc import Iterable, Mapping

import yaml

from spikefit.cli.words import COMMANDS, PLACES, Override, Words
from spikefit.errors import ConfigurationError

PREFIX = "SPIKEFIT_"
VARIABLES = {
    "SPIKEFIT_DATA_DIR": "the folder of data sets",
    "SPIKEFIT_BRIAN2_LOIHI": "the Python of an environment with brian2-loihi, for a comparison in the tests",
}
"""Variables that are no options."""
OF_COMMANDS = ("ckpt_path", "verbose", "return_predictions", "weights_only")
"""Options that only some of the commands have."""


def words_of_environment(environment: Mapping[str, str], command: str, options: Iterable[str]) -> Words:
    """The options in the environment, as words of a command line.

    ``__`` (or a dot) separates the parts of an option. After the prefix there may be a command, for an option of this
    command alone: ``SPIKEFIT_TEST__CKPT_PATH``. Letters in upper case stand for any case in the names of options,
    callbacks, loggers and quantizers; further inside ``model`` and ``data`` they stand for lower case.

    Args:
        environment: variables by name.
        command: the command that runs; options of other commands are left out.
        options: dotted names of the options of the command.

    Raises:
        ConfigurationError: for a variable with the prefix that is no option; the message names the nearest one.
    """
    found, own = Words(), list(options)
    known = [*own, *(name for name in OF_COMMANDS if name not in own)]
    for variable in sorted(name for name in environment if name.startswith(PREFIX) and name not in VARIABLES):
        value, parts = environment[variable], re.split(r"__|\.", variable.removeprefix(PREFIX))
        others = parts[0].lower() in COMMANDS and parts[0].lower() != command
        if parts[0].lower() in COMMANDS and len(parts) > 1:
            parts = parts[1:]
        place, rest = parts[0].lower(), parts[1:]
        if place in PLACES and rest:
            override = Override(place, tuple(rest), value, variable, upper=rest == [part.upper() for part in rest])
            found.overrides += [] if others else [override]
        elif place == "config" and not rest:
            found.configs += [] if others else _configs(variable, value)
        else:
            option = PLACES[place] if place in PLACES else _option(variable, parts, known)
            if not others and option not in set(OF_COMMANDS) - set(own):
                found.options.append(f"--{option}={value}")
    return found


def _configs(variable: str, value: str) -> list[str]:
    """One path or a YAML list of paths."""
    if not value.startswith("["):
        return [value]
    try:
        paths = yaml.safe_load(value)
    except yaml.YAMLError:
        paths = None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ConfigurationError(f"{variable}: got {value!r}, expected a path or a YAML list of paths.")
    return paths


def _option(variable: str, parts: list[str], known: list[str]) -> str:
    """Dotted name of the option that a variable stands for."""
    by_lower = {option.lower(): option for option in known}
    lower = [part.lower() for part in parts]
    for length in range(len(parts), 0, -1):
        option = by_lower.get(".".join(lower[:length]))
        group = any(other.startswith(f"{option}.") for other in known)
        if option is not None and (length == len(parts) or not group):
            return ".".join([option, *(part.lower() if part.isupper() else part for part in parts[length:])])
    raise ConfigurationError(_unknown(variable, known))


def _unknown(variable: str, known: list[str]) -> str:
    names = [PREFIX + option.upper().replace(".", "__") for option in known]
    every = [*VARIABLES, f"{PREFIX}CONFIG", *names, *(f"{PREFIX}{name.upper()}" for name in PLACES)]
    command = next(
        (f"{PREFIX}{one.upper()}__" for one in COMMANDS if variable.startswith(f"{PREFIX}{one.upper()}__")), ""
    )
    every += [f"{command}{name.removeprefix(PREFIX)}" for name in names if command]
    close = difflib.get_close_matches(variable, every, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"environment variable {variable}: no option has this name.{hint} Expected {', '.join(VARIABLES)}, or "
        f"{PREFIX} and an option whose parts are separated by two underscores, such as {PREFIX}TRAINER__MAX_EPOCHS."
    )
