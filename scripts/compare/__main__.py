"""The method table: run a grid of methods, prune fractions and seeds, and put the results side by side.

    python -m scripts.compare configs/compare/fashion_mnist.yaml --out docs/results/compare_fashion_mnist.json --jobs 2

Each run is an ordinary ``spikefit fit`` or ``spikefit test`` in a process of its own; its files lie below
``runs/compare``. A run whose row is in the results file is not run again, so that the same command goes on where it was
stopped. The table and the plots are made from the results file alone and written beside it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from scripts.compare.grid import Grid, load_grid
from scripts.compare.plots import plot
from scripts.compare.results import (
    Result,
    key_of,
    read_results,
    result_of,
    sole_writer,
    write_atomically,
    write_results,
)
from scripts.compare.run import Run, all_runs
from scripts.compare.table import summarise, table
from spikefit.cli.run_directory import claim_directory
from spikefit.errors import SpikeFitError

PROGRAM = [sys.executable, "-m", "spikefit.cli"]
RUNS = Path("runs/compare")
LAST = Path("checkpoints/last.ckpt")


@dataclass
class Attempt:
    """A run in a process."""

    run: Run
    folder: Path
    arguments: list[str]
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def log_path(self) -> Path:
        """What it printed."""
        return self.folder.with_suffix(".log")

    def stop(self) -> None:
        """End the process, if it runs."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.log.close()


class Comparison:
    """Runs what is missing of a grid.

    Args:
        out: the results file.
        work: folder of the runs' files.
        jobs: processes side by side.
    """

    def __init__(self, out: Path, work: Path, jobs: int) -> None:
        self.out, self.work, self.jobs = out, work, jobs
        self.results = read_results(out)
        self.failed: dict[str, str] = {}

    def checkpoint(self, run: Run) -> Path | None:
        """The last checkpoint of ``run`` if it has finished, and with the present configuration."""
        done = self.work / run.id / "done.json"
        if not done.is_file():
            return None
        content = json.loads(done.read_text(encoding="utf-8"))
        path = self.work / run.id / content["version"] / LAST
        return path if content["recipe"] == run.digest() and path.is_file() else None

    def missing(self, runs: list[Run]) -> list[Run]:
        """``runs`` that have no row yet, each behind what it needs to start from."""
        known = {key_of(result): result for result in self.results}
        wanted: dict[str, Run] = {}

        def need(run: Run) -> None:
            for other in run.needs.values():
                if self.checkpoint(other) is None:
                    need(other)
            wanted.setdefault(run.id, run)

        for run in runs:
            result = known.get(run.key)
            if result is None:
                if run.row.in_table:
                    need(run)
            elif result.get("recipe") != run.digest():
                say(f"{run.id}: its row was made with another configuration and stays; delete the row to run it again")
        return list(wanted.values())

    def execute(self, runs: list[Run]) -> None:
        """Run ``runs``, and write a row as soon as one is there."""
        waiting, active = list(runs), list[Attempt]()
        say(f"{len(waiting)} runs to do, {len(self.results)} rows in {self.out}")
        try:
            while waiting or active:
                for attempt in [attempt for attempt in active if attempt.process.poll() is not None]:
                    active.remove(attempt)
                    self._finish(attempt)
                for run in list(waiting):
                    broken = [other.id for other in run.needs.values() if other.id in self.failed]
                    if broken:
                        waiting.remove(run)
                        self._fail(run, f"{', '.join(broken)}, which it needs, failed")
                    elif len(active) < self.jobs and self._ready(run, waiting, active):
                        waiting.remove(run)
                        active.append(self._start(run))
                time.sleep(0.1)
        finally:
            for attempt in active:
                attempt.stop()

    def _ready(self, run: Run, waiting: list[Run], active: list[Attempt]) -> bool:
        unfinished = {other.id for other in waiting} | {attempt.run.id for attempt in active}
        return not any(other.id in unfinished for other in run.needs.values())

    def _start(self, run: Run) -> Attempt:
        folder = claim_directory(self.work / run.id)
        checkpoints = {name: path for name, other in run.needs.items() if (path := self.checkpoint(other))}
        arguments = run.arguments(folder.parent, folder.name, checkpoints)
        log = folder.with_suffix(".log").open("wb")
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        say(f"{run.id}: started")
        return Attempt(run, folder, arguments, process, log)

    def _finish(self, attempt: Attempt) -> None:
        run = attempt.run
        attempt.stop()
        if attempt.process.returncode != 0:
            self._fail(run, f"exit status {attempt.process.returncode}: {last_line(attempt.log_path)}", attempt)
            return
        try:
            result = result_of(run, attempt.folder, attempt.arguments) if run.row.in_table else None
        except (OSError, KeyError, ValueError) as error:
            self._fail(run, f"no report could be read ({error})", attempt)
            return
        marker = {"version": attempt.folder.name, "recipe": run.digest()}
        write_atomically(self.work / run.id / "done.json", json.dumps(marker) + "\n")
        if result is None:
            say(f"{run.id}: done")
            return
        if run.key not in {key_of(row) for row in self.results}:  # else only its checkpoint was needed again
            self.results.append(result)
            write_results(self.out, self.results)
        say(f"{run.id}: trained {result['accuracy_float']:.2%}, deployed {result['accuracy_deployed']:.2%}")

    def _fail(self, run: Run, reason: str, attempt: Attempt | None = None) -> None:
        self.failed[run.id] = reason
        say(f"{run.id}: FAILED, {reason}" + (f"; see {attempt.log_path}" if attempt else ""))


def say(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def last_line(path: Path) -> str:
    """The last line that is not empty."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "nothing printed"


def show(grid: Grid, results: list[Result], out: Path, plots: bool) -> None:
    """Print the table; write it and the plots beside the results."""
    order = [(row.name, fraction) for row in grid.rows for fraction in row.prune_fractions or (None,)]
    summaries = summarise(results, order)
    text = table(summaries)
    print(text)
    write_atomically(out.with_suffix(".md"), text)
    if plots and summaries:
        try:
            paths = plot(summaries, out)
        except ModuleNotFoundError as error:
            raise SpikeFitError(f"plots: {error}; pip install 'spikefit[plots]', or give --no-plots.") from error
        print(*paths, sep="\n")


def chosen(grid: Grid, names: list[str] | None, seeds: list[int] | None) -> list[Run]:
    """The runs that the command line asks for."""
    known = [row.name for row in grid.rows]
    for name in names or ():
        if name not in known:
            raise SpikeFitError(f"--only: got {name!r}, expected one of {', '.join(known)}.")
    runs = all_runs(grid, tuple(seeds) if seeds else None)
    return [run for run in runs if not names or run.row.name in names]


def interrupt(*_: Any) -> None:
    """Let a TERM signal end the runs as Ctrl-C does."""
    raise KeyboardInterrupt


def main(words: list[str] | None = None) -> int:
    """Exit status 0 when every run that was asked for has a row, 1 when some failed, 2 when nothing could start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file that describes the grid")
    parser.add_argument("--out", type=Path, help="results; docs/results/compare_GRID.json if not given")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows to run")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the grid's")
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    parser.add_argument("--no-plots", action="store_true", help="plot nothing; matplotlib is not needed then")
    arguments = parser.parse_args(words)
    out = arguments.out or Path("docs/results") / f"compare_{arguments.grid.stem}.json"
    signal.signal(signal.SIGTERM, interrupt)
    try:
        grid = load_grid(arguments.grid)
        runs = chosen(grid, arguments.only, arguments.seeds)
        failed: dict[str, str] = {}
        if not arguments.table_only:
            with sole_writer(out):
                comparison = Comparison(out, RUNS / out.stem, max(1, arguments.jobs))
                comparison.execute(comparison.missing(runs))
                failed = comparison.failed
        show(grid, read_results(out), out, not arguments.no_plots)
    except SpikeFitError as error:
        print(f"compare: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
