"""The words of a command line before they are parsed: the command first, then files, then options, then overrides."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from spikefit.errors import ConfigurationError

COMMANDS = {
    "fit": "train a network, with all callbacks of its configuration",
    "validate": "evaluate a checkpoint on the validation set",
    "test": "evaluate and deploy a checkpoint on the test set",
    "predict": "write the classes of the test set",
}
"""Commands with a configuration, each with what it does."""
PLACES = {"callbacks": "trainer.callbacks", "logger": "trainer.logger", "quantizer": "model.init_args.quantizer"}
"""The short names of the options whose entries are addressed by class name."""
_ALONE = re.compile(r"(-h|--help(=.*)?|--version|--print_config(=.*)?)$")
_OVERRIDE = re.compile(r"--(callbacks|logger|quantizer)\.(.+)")
_LONG = re.compile(r"--trainer\.(callbacks|logger)\.([A-Z].*)")
_SHORT = re.compile(r"--(callbacks|logger|quantizer)(\+?=.*|\+)?$", re.DOTALL)


@dataclass(frozen=True)
class Override:
    """A value for one option of a callback, logger or quantizer that is addressed by its class or name.

    Attributes:
        place: ``callbacks``, ``logger`` or ``quantizer``.
        path: the class or name, followed by the path of the option; empty to remove the entry.
        value: the value as text, in YAML.
        origin: the word or environment variable that gave it, for messages.
        upper: whether all letters of ``path`` may stand for lower case, as in the environment.
    """

    place: str
    path: tuple[str, ...]
    value: str
    origin: str
    upper: bool = False


@dataclass
class Words:
    """The words of a command, sorted.

    Attributes:
        configs: configuration files (or YAML text), in order.
        options: all other words, in order.
        overrides: in order.
    """

    configs: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)


def command_first(words: Sequence[str]) -> list[str]:
    """Move the command to the front of the options before it.

    Example:
        >>> command_first(["--config", "quickstart", "fit", "--name=a"])
        ['fit', '--config', 'quickstart', '--name=a']
    """
    position = 0
    while position < len(words) and words[position].startswith("-"):
        alone = "=" in words[position] or _ALONE.match(words[position])
        position += 1 if alone else 2
    if 0 < position < len(words) and words[position] in COMMANDS:
        return [words[position], *words[:position], *words[position + 1 :]]
    return list(words)


def sort_words(words: Iterable[str]) -> Words:
    """Separate configuration files, options and overrides by class name.

    Raises:
        ConfigurationError: for an option without the value that it needs.

    Example:
        >>> sort_words(["--name=a", "--config", "quickstart", "--callbacks.FSCPruning.fraction=0.7"]).configs
        ['quickstart']
    """
    found, rest, complete = Words(), iter(words), True
    for word in rest:
        if complete and not word.startswith("-"):
            raise ConfigurationError(
                f"got the word {word!r}, expected options, such as --config {word} for a configuration of this name."
            )
        complete = "=" in word or not word.startswith("-") or _ALONE.match(word) is not None
        option, equals, value = word.partition("=")
        override = _OVERRIDE.match(option) or _LONG.match(option)
        complete = complete or override is not None or option in ("--config", "-c")
        if option in ("--config", "-c"):
            found.configs.append(value if equals else _next(rest, word, "a YAML file, such as --config quickstart"))
        elif override:
            value = value if equals else _next(rest, word, f"a value, such as {option}=VALUE")
            found.overrides.append(Override(override[1], tuple(override[2].split(".")), value, option))
        else:
            short = _SHORT.match(word)
            found.options.append(f"--{PLACES[short[1]]}{short[2] or ''}" if short else word)
    return found


def _next(rest: Iterator[str], word: str, expected: str) -> str:
    value = next(rest, None)
    if value is None or value.startswith("--"):
        raise ConfigurationError(f"{word.lstrip('-')}: got no value, expected {expected}.")
    return value
