"""One run of a grid: its command line, and the digest of its recipe."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from scripts.compare.grid import Grid, Row, merge

Key = tuple[str, float | None, int]


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
    def key(self) -> Key:
        """What identifies the run in the results."""
        return self.row.name, self.prune_fraction, self.seed

    def digest(self) -> str:
        """Hash of everything that determines the weights: the merged configuration and the runs that it starts from.

        Names of configuration files, their division, comments, and the modules of classes do not enter.
        """
        files = [content for config in self._configs for content in self.grid.contents[config]]
        starts = {name: Path(run.digest()) / "last.ckpt" for name, run in self.needs.items()}
        options = [
            reduce(lambda value, key: {key: value}, reversed(k.split(".")), v) for k, v in self._settings(starts)
        ]
        merged = merge(reduce(merge, [*files, *options], {}), {"trainer": {"logger": None}})
        text = json.dumps([self.row.command, merged], sort_keys=True)
        text = re.sub(r'"(?:\w+\.)+([A-Z]\w*)"', r'"\1"', text)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def arguments(self, folder: Path, version: str, checkpoints: Mapping[str, Path]) -> list[str]:
        """The command line after ``spikefit``.

        Args:
            folder, version: the run writes into ``folder/version``.
            checkpoints: the last checkpoint of every run in ``needs``, by row.
        """
        trains = self.row.command == "fit"
        logger = {"save_dir": str(folder), "name": "", "version": version}
        settings = [
            *self._settings(checkpoints),
            ("trainer.enable_progress_bar", False),
            ("trainer.logger", _object("lightning.pytorch.loggers.CSVLogger", logger)),
            *([("trainer.callbacks+", "callbacks.EpochTimer")] if trains else []),
            (
                "trainer.callbacks+",
                _object("callbacks.DeploymentSimulation", {**self.grid.deployment, "at_fit_end": trains}),
            ),
        ]
        configs = [word for config in self._configs for word in ("--config", config)]
        words = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings]
        return [self.row.command, *configs, *words]

    @property
    def _configs(self) -> list[str]:
        return [*self.grid.configs, *self.row.configs]

    def _settings(self, checkpoints: Mapping[str, Path]) -> list[tuple[str, Any]]:
        """Options that determine the weights, in the order in which they apply."""
        grid, row = self.grid, self.row
        epochs = grid.epochs_of(row) - grid.epochs_before(row)
        places = {
            "seed": self.seed,
            "steps": epochs * math.ceil(grid.train_samples / grid.batch_size),
            **{f"checkpoint:{name}": str(path) for name, path in checkpoints.items()},
        }
        settings: list[tuple[str, Any]] = [
            *([] if self.prune_fraction is None else [("trainer.callbacks.fraction", self.prune_fraction)]),
            ("seed_everything", self.seed),
            ("data.init_args.train_samples", grid.train_samples),
            ("data.init_args.batch_size", grid.batch_size),
            ("trainer.max_epochs", epochs),
            *filled({**grid.options, **row.options}, places).items(),
        ]
        if row.start is not None and row.start in checkpoints:
            start = checkpoints[row.start]
            if row.start_epochs is not None:
                start = start.with_name(f"epoch{row.start_epochs - 1}.ckpt")
            settings.append(("trainer.callbacks+", _object("callbacks.InitialWeights", {"checkpoint": str(start)})))
        return settings


def _object(class_path: str, init_args: dict[str, Any]) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def filled(options: dict[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` with every value that is a placeholder, such as ``"{steps}"``, replaced.

    Placeholders are ``seed`` and ``steps`` of the run, and ``checkpoint:ROW``, the last checkpoint of another row with
    the same seed.
    """
    text = json.dumps(options)
    for name, value in places.items():
        text = text.replace(f'"{{{name}}}"', json.dumps(value))
    return dict(json.loads(text))


def all_runs(grid: Grid, seeds: Sequence[int] = ()) -> Iterator[Run]:
    """Every run of ``seeds``, by default the grid's, seed by seed, each after those that it needs."""
    for seed in seeds or grid.seeds:
        runs: dict[str, Run] = {}
        for row in grid.rows:
            for fraction in row.fractions:
                runs[row.name] = Run(grid, row, seed, fraction, {name: runs[name] for name in row.needs})
                yield runs[row.name]
