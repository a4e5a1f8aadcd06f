"""Show the report of a run's deployment, and write its page, report.html, next to report.json.

examples:
  spikefit report runs/quickstart/version_0
  spikefit report runs/quickstart/version_0 --open
  spikefit report runs/quickstart/version_0/deployment/loihi/report.json
"""

import argparse
from collections.abc import Sequence

from spikefit.cli.commands.console import show_page
from spikefit.deploy.report.files import reports_of
from spikefit.deploy.report.html import write_html
from spikefit.deploy.report.terminal import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("run", metavar="RUN", help="directory of a run, one of its checkpoints, or a report.json")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Print every report of the run, and write the pages."""
    given = parser.parse_args(words)
    pages = []
    for path, report in reports_of(given.run):
        pages.append(write_html(report, path.parent))
        print_report(report, pages[-1], path)
    if given.open:
        show_page(pages[0])
    return 0
