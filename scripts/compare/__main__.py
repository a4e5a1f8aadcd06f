"""The method table: run a grid of methods, prune fractions and seeds, and compare the results.

    python -m scripts.compare configs/compare/fashion_mnist.yaml --out docs/results/compare_fashion_mnist.json --jobs 2

Each run is an ordinary ``spikefit fit`` or ``spikefit test`` in its own process; its files are below ``runs/compare``.
A run with a row in the results file is not run again, so the same command continues an interrupted grid. The table and
the plots are made from the results file alone and written next to it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scripts.compare.grid import Grid, load_grid
from scripts.compare.results import Result, key_of, read_results, result_of, sole_writer
from scripts.compare.run import Run, all_runs
from scripts.compare.table import summarise, table
from spikefit.atomic import write_atomically
from spikefit.cli.run_directory import claim_directory
from spikefit.errors import SpikeFitError, check_choice

PROGRAM = [sys.executable, "-m", "spikefit.cli"]
RUNS = Path("runs/compare")
Active = tuple[Run, Path, list[str], subprocess.Popen[bytes]]  # a run, its folder, its arguments and its process


class Comparison:
    """Runs what is missing of a grid.

    Args:
        out: the results file.
        work: folder of the runs' files.
        jobs: number of processes that run at the same time.
    """

    def __init__(self, out: Path, work: Path, jobs: int) -> None:
        self.out, self.work, self.jobs = out, work, jobs
        self.results = read_results(out)
        self.failed: dict[str, str] = {}

    def checkpoint(self, run: Run) -> Path | None:
        """The last checkpoint of ``run`` if it has finished with the present configuration."""
        finished = [path.parent for path in (self.work / run.id).glob(f"version_*/{run.digest()}.recipe")]
        paths = (folder / "checkpoints" / "last.ckpt" for folder in finished)
        return next((path for path in paths if path.is_file()), None)

    def missing(self, runs: list[Run]) -> list[Run]:
        """``runs`` without a row, each after the runs that it needs and whose checkpoints are not here."""
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
                need(run)
            elif result.get("recipe") != run.digest():
                say(f"{run.id}: its row was made with another configuration and stays; delete the row to run it again")
        return list(wanted.values())

    def execute(self, runs: list[Run]) -> None:
        """Run ``runs``, and write each row as soon as it is known."""
        say(f"{len(runs)} runs to do, {len(self.results)} rows in {self.out}")
        waiting = list(runs)
        active: list[Active] = []
        try:
            while waiting or active:
                for entry in [entry for entry in active if entry[-1].poll() is not None]:
                    active.remove(entry)
                    self._finish(*entry)
                unfinished = {run.id for run in waiting} | {entry[0].id for entry in active}
                for run in list(waiting):
                    needs = {other.id for other in run.needs.values()}
                    if needs & self.failed.keys():
                        waiting.remove(run)
                        self._fail(run, f"{', '.join(needs & self.failed.keys())}, which it needs, failed")
                    elif len(active) < self.jobs and not needs & unfinished:
                        waiting.remove(run)
                        active.append(self._start(run))
                time.sleep(0.1)
        finally:
            for *_, process in active:
                process.kill()  # loses nothing: an unfinished run starts again
                process.wait()

    def _start(self, run: Run) -> Active:
        folder = claim_directory(self.work / run.id)
        checkpoints = {name: path for name, other in run.needs.items() if (path := self.checkpoint(other))}
        arguments = run.arguments(folder.parent, folder.name, checkpoints)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with folder.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [*PROGRAM, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        say(f"{run.id}: started")
        return run, folder, arguments, process

    def _finish(self, run: Run, folder: Path, arguments: list[str], process: subprocess.Popen[bytes]) -> None:
        log = folder.with_suffix(".log")
        if process.returncode != 0:
            lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
            printed = lines[-1] if lines else "nothing printed"
            self._fail(run, f"exit status {process.returncode}: {printed}; see {log}")
            return
        try:
            result = result_of(run, folder, arguments)
        except (OSError, KeyError, ValueError) as error:
            self._fail(run, f"no report could be read ({error}); see {log}")
            return
        (folder / f"{run.digest()}.recipe").touch()  # from now on other runs may start from its checkpoint
        if run.key not in map(key_of, self.results):  # otherwise only its checkpoint was needed again
            self.results.append(result)
            write_atomically(self.out, json.dumps(self.results, indent=1) + "\n")
        say(f"{run.id}: trained {result['accuracy_float']:.2%}, deployed {result['accuracy_deployed']:.2%}")

    def _fail(self, run: Run, reason: str) -> None:
        self.failed[run.id] = reason
        say(f"{run.id}: FAILED, {reason}")


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def show(grid: Grid, results: list[Result], out: Path, plots: bool) -> None:
    """Print the table; write it and the plots next to the results."""
    order = [(row.name, fraction) for row in grid.rows for fraction in row.fractions]
    summaries = summarise(results, order, {row.name: row.method for row in grid.rows})
    print(table(summaries))
    write_atomically(out.with_suffix(".md"), table(summaries))
    if plots and summaries:
        try:
            from scripts.compare.plots import plot  # it needs matplotlib
        except ModuleNotFoundError as error:
            raise SpikeFitError(f"plots: {error}; pip install 'spikefit[plots]', or give --no-plots.") from error
        print(*plot(summaries, out), sep="\n")


def main(words: list[str] | None = None) -> int:
    """Exit status 0 when every run that was asked for has a row, 1 when some failed, 2 when nothing could start."""
    parser = argparse.ArgumentParser(
        prog="scripts.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, help="YAML file that describes the grid")
    parser.add_argument("--out", type=Path, help="results; docs/results/compare_GRID.json if not given")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows to run")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the grid's")
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    parser.add_argument("--no-plots", action="store_true", help="plot nothing; matplotlib is not needed then")
    arguments = parser.parse_args(words)
    out = arguments.out or Path("docs/results") / f"compare_{arguments.grid.stem}.json"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a TERM signal ends the runs as Ctrl-C does
    failed: dict[str, str] = {}
    try:
        grid = load_grid(arguments.grid)
        names = [row.name for row in grid.rows]
        for name in arguments.only or ():
            check_choice("--only", name, names)
        if not arguments.table_only:
            runs = [run for run in all_runs(grid, arguments.seeds or ()) if run.row.name in (arguments.only or names)]
            with sole_writer(out):
                comparison = Comparison(out, RUNS / out.stem, max(1, arguments.jobs))
                comparison.execute(comparison.missing(runs))
                failed = comparison.failed
        show(grid, read_results(out), out, not arguments.no_plots)
    except SpikeFitError as error:
        print(f"compare: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: stopped; the same command continues from here", file=sys.stderr)
        return 130
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
