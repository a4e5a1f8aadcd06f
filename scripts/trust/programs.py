"""Runs of the command line in processes of their own, which can be killed, without a new interpreter for each."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANG_SECONDS = 300.0


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        status: exit status; minus the number of the signal that killed it.
        printed: everything that it printed.
        hung: whether it was killed because it took longer than ``HANG_SECONDS``.
    """

    status: int
    printed: str
    hung: bool = False


def context() -> ForkServerContext:
    """A context whose processes start with Lightning and torch imported."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["spikefit.cli.lightning_cli", "callbacks"])
    return server


def run(words: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> Ended:
    """Run ``spikefit`` with ``words`` in ``folder``, with ``variables`` in its environment, until it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "printed.txt"
    process = context().Process(target=_main, args=(list(words), folder, dict(variables or {}), log))
    process.start()
    process.join(HANG_SECONDS)
    hung = process.exitcode is None
    if hung:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, log.read_text(errors="replace"), hung)


def _main(words: list[str], folder: Path, variables: dict[str, str], log: Path) -> None:
    os.chdir(folder)
    os.environ.update(variables)
    sys.argv = ["spikefit"]
    with log.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        from spikefit.cli import main

        main(words)
