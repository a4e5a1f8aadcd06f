"""One run of ``compare.py``: what it needs, and its command line."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.compare.grid import Grid, Row


@dataclass(frozen=True)
class Run:
    """One training or test: a row with a seed and a fraction.

    Attributes:
        needs: the runs whose checkpoints it reads, by the names of their rows.
    """

    grid: Grid
    row: Row
    seed: int
    prune_fraction: float | None
    needs: dict[str, "Run"]

    @property
    def id(self) -> str:
        """Name of the run's folder."""
        fraction = "" if self.prune_fraction is None else f"-p{self.prune_fraction:g}"
        return f"{self.row.name}{fraction}-s{self.seed}"

    @property
    def key(self) -> tuple[str, float | None, int]:
        """What identifies the run in the results."""
        return self.row.name, self.prune_fraction, self.seed

    def digest(self) -> str:
        """Changes with everything that decides on the weights: configurations, options, and the runs it needs."""
        words = self._words(Path("folder"), "version", {name: Path(name) for name in self.needs})
        files = [self.grid.digests[path] for path in (*self.grid.configs, *self.row.configs)]
        content = [words, files, [run.digest() for run in self.needs.values()]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def arguments(self, folder: Path, version: str, checkpoints: Mapping[str, Path]) -> list[str]:
        """The command line behind ``spikefit``.

        Args:
            folder, version: the run's files go into ``folder/version``.
            checkpoints: last one of every run in ``needs``, by row.
        """
        words = self._words(folder, version, checkpoints)
        if self.row.command == "fit":
            words.append("--trainer.callbacks+=callbacks.EpochTimer")
        if self.row.in_table:
            deployment = {**self.grid.deployment, "at_fit_end": self.row.command == "fit"}
            words.append(_option("--trainer.callbacks+", "callbacks.DeploymentSimulation", deployment))
        return words

    def _words(self, folder: Path, version: str, checkpoints: Mapping[str, Path]) -> list[str]:
        """The part of the command line that decides on the weights."""
        grid, row = self.grid, self.row
        words = [row.command]
        for config in (*grid.configs, *row.configs):
            words += ["--config", config]
        if self.prune_fraction is not None:
            words.append(f"--trainer.callbacks.fraction={self.prune_fraction}")
        epochs = grid.epochs_of(row) - grid.epochs_before(row)
        logger = {"save_dir": str(folder), "name": "", "version": version}
        words += [
            f"--seed_everything={self.seed}",
            f"--data.init_args.train_samples={grid.train_samples}",
            f"--data.init_args.batch_size={grid.batch_size}",
            f"--trainer.max_epochs={epochs}",
            "--trainer.enable_progress_bar=false",
            _option("--trainer.logger", "lightning.pytorch.loggers.CSVLogger", logger),
        ]
        per_epoch = math.ceil(grid.train_samples / grid.batch_size)
        places = {
            "seed": self.seed,
            "epochs": epochs,
            "steps": epochs * per_epoch,
            "steps_per_epoch": per_epoch,
            **{f"checkpoint:{name}": str(path) for name, path in checkpoints.items()},
        }
        options = {**grid.options, **row.options}
        words += [f"--{name}={_word(filled(value, places))}" for name, value in options.items()]
        if row.start is not None and row.start in checkpoints:
            begin = checkpoints[row.start]
            if row.start_epochs is not None:
                begin = begin.with_name(f"epoch{row.start_epochs - 1}.ckpt")
            start = {"checkpoint": str(begin), "copy_quantizers": row.keep_quantizers}
            words.append(_option("--trainer.callbacks+", "callbacks.InitialWeights", start))
        return words


def _option(name: str, class_path: str, init_args: dict[str, Any]) -> str:
    return f"{name}={json.dumps({'class_path': class_path, 'init_args': init_args})}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def filled(value: Any, places: Mapping[str, Any]) -> Any:
    """``value`` with the ``{name}`` in its strings replaced by what ``places`` has under that name.

    There are ``seed``, ``epochs`` and ``steps`` of this run, ``steps_per_epoch``, and ``checkpoint:ROW``, the last
    checkpoint of another row with the same seed. Other braces stay.
    """
    if isinstance(value, dict):
        return {key: filled(entry, places) for key, entry in value.items()}
    if isinstance(value, list):
        return [filled(entry, places) for entry in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{([\w:]+)\}", value)
    if whole and whole[1] in places:
        return places[whole[1]]
    return re.sub(r"\{([\w:]+)\}", lambda match: str(places.get(match[1], match[0])), value)


def all_runs(grid: Grid, seeds: tuple[int, ...] | None = None) -> Iterator[Run]:
    """Every run, seed by seed, each behind those that it needs.

    Args:
        grid: what to run.
        seeds: instead of the grid's and the rows' own.
    """
    every = seeds or tuple(dict.fromkeys(s for row in grid.rows for s in row.seeds or grid.seeds))
    for seed in every:
        runs: dict[str, Run] = {}
        for row in grid.rows:
            for fraction in row.prune_fractions or (None,):
                run = Run(grid, row, seed, fraction, {name: runs[name] for name in row.needs})
                runs[row.name] = run
                if seed in (seeds or row.seeds or grid.seeds):
                    yield run
