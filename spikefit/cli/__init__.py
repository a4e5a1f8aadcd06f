"""The command line: ``spikefit`` and ``lightning``, what is wrong with its options, and where a run writes."""


def main(args: list[str] | None = None) -> None:
    """Run the command line with ``args``, by default those of the process."""
    from spikefit.cli.lightning_cli import main as run  # imports torch and Lightning

    run(args)
