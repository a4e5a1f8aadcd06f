"""The command line: ``spikefit`` and ``lightning``, what is wrong with its options, and where a run writes."""

import sys


def main(args: list[str] | None = None) -> None:
    """Run the command line with ``args``, by default those of the process."""
    from spikefit.cli import commands

    words = sys.argv[1:] if args is None else args
    if commands.handles(words):
        sys.exit(commands.run(words))
    from spikefit.cli.lightning_cli import main as run  # imports torch and Lightning

    run(args)
