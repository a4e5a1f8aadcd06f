"""Output of the commands: tables of rows, as wide as the terminal."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 140  # outside of a terminal


def console() -> Console:
    """The standard output."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def table(rows: Sequence[dict[str, str]], right: Sequence[str] = (), title: str | None = None) -> Table:
    """A table of ``rows``, which have the same columns; those in ``right`` are aligned to the right."""
    shown = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1))
    for name in rows[0] if rows else ():
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(text.replace("[", "\\[") for text in row.values()))
    return shown


def show_page(page: Path) -> None:
    """Open an HTML page in the browser; says so if there is none."""
    if not webbrowser.open(page.resolve().as_uri()):
        print(f"There is no browser to open; the page is {page}.")
