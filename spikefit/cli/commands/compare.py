"""Compare the reports of runs: a table, and a plot of accuracy against energy and bytes.

The plot is written if the package matplotlib is installed (pip install 'spikefit[plots]').

examples:
  spikefit compare runs/quickstart/version_0 runs/quickstart/version_1
  spikefit compare runs/*/version_0 --plot accuracy.svg --json figures.json
"""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from spikefit.cli.commands.console import console
from spikefit.deploy.report.comparison import Comparison, Entry
from spikefit.deploy.report.files import reports_of, run_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directories of runs, checkpoints, or report.json files")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="file of the plot; comparison.svg by default")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures as JSON, too")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Print the table, and write the plot."""
    given = parser.parse_args(words)
    entries = []
    for name in given.runs:
        for path, report in reports_of(name):
            entries.append(Entry(run_name(path, report), report.target, report))
    comparison = Comparison(entries)
    comparison.print(console())
    if given.json is not None:
        comparison.to_json(given.json)
    if given.plot is None and importlib.util.find_spec("matplotlib") is None:
        print("No plot: the package matplotlib is not installed (pip install 'spikefit[plots]').")
    else:
        print(f"Plot: {comparison.plot(given.plot or Path('comparison.svg'))}")
    return 0
