"""The commands that do not train. Each is a module with ``add_arguments`` and ``run``, imported when it is called."""

import argparse
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import spikefit
from spikefit.cli.words import COMMANDS as LIGHTNING
from spikefit.errors import SpikeFitError

COMMANDS = {
    "init": "start a project: configurations, a network of your own, and a README",
    "chips": "list the chips, or show every figure of one with its source",
    "check": "check whether a network fits a chip, before training",
    "deploy": "deploy a trained network to one or more chips: accuracy, fit and energy",
    "export": "write a trained network's program as a bundle, or as a NIR graph",
    "report": "show the report of a run, and write its page",
    "compare": "compare the reports of runs: a table, and a plot of accuracy against energy and bytes",
    "doctor": "check the packages, the data folder and the GPU of this machine",
}
USAGE, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one message and ends with status 2."""

    def error(self, message: str) -> NoReturn:
        """Print the message, with the nearest option for one that does not exist."""
        unknown = message.removeprefix("unrecognized arguments: ").split() if "unrecognized" in message else []
        options = [option for action in self._actions for option in action.option_strings]
        hints = [difflib.get_close_matches(word.split("=")[0], options, 1) for word in unknown]
        meant = "".join(f" Did you mean {found[0]}?" for found in hints if found)
        print(f"spikefit: error: {message}.{meant} See {self.prog} --help.", file=sys.stderr)
        sys.exit(USAGE)


def handles(words: Sequence[str]) -> bool:
    """Whether ``words`` are for one of these commands, and not for Lightning's."""
    if not words or words[0] in ("-h", "--help", "--version") or words[0] in COMMANDS:
        return True
    if words[0].startswith("-") or words[0] in LIGHTNING:
        return False
    # lightning-sdk, if it is installed, has other commands of a program called `lightning`.
    return bool(_nearest(words[0])) or importlib.util.find_spec("lightning_sdk") is None


def run(words: Sequence[str]) -> int:
    """Run a command and return its exit status: 0, or 2 after one message if something can't be used."""
    if not words:
        print(overview(), file=sys.stderr)
        return USAGE
    name, *rest = words
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"spikefit {spikefit.__version__}")
        return 0
    if name not in COMMANDS:
        meant = f" Did you mean {_nearest(name)[0]}?" if _nearest(name) else ""
        names = ", ".join({**LIGHTNING, **COMMANDS})
        others = " Other commands of `lightning` come with the package lightning-sdk, which is not installed."
        print(f"spikefit: error: {name!r} is no command; expected one of {names}.{meant or others}", file=sys.stderr)
        return USAGE
    command = importlib.import_module(f"spikefit.cli.commands.{name}")
    parser = Parser(
        prog=f"spikefit {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    try:
        return int(command.run(parser, rest))
    except SpikeFitError as error:
        print(f"spikefit: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or Python would fail to flush when it ends
        return 0


def overview() -> str:
    """All commands, each with one line."""
    width = max(map(len, {**LIGHTNING, **COMMANDS}))

    def listed(commands: dict[str, str]) -> str:
        return "\n".join(f"  {name:{width}}  {text}" for name, text in commands.items())

    return f"""\
usage: spikefit COMMAND ...

Train, compress and deploy spiking neural networks for neuromorphic chips. `lightning` is the same program.

training and evaluation:
{listed(LIGHTNING)}

without training:
{listed(COMMANDS)}

options:
  -h, --help   show this message; spikefit COMMAND --help shows that of a command
  --version    show the version

example:
  spikefit fit --config quickstart.yaml"""


def _nearest(name: str) -> list[str]:
    return difflib.get_close_matches(name, {**LIGHTNING, **COMMANDS}, 1)
