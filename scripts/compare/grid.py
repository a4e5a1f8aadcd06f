"""Grid files: the rows of the method table and how each of them is trained."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from spikefit.cli.include import expand
from spikefit.errors import ConfigurationError, check_choice, check_range

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Row:
    """One row of the table: a run for each seed and, if it prunes, for each fraction.

    Attributes:
        name: unique name of the row.
        method: rows of one method share a colour in the plots; ``float`` is the method that others are compared with.
        configs: configuration files that follow the grid's own.
        options: of the command line by dotted name, with the placeholders of :func:`scripts.compare.run.filled`.
        command: ``fit``, or ``test`` for a method that needs no training.
        start: the row whose last checkpoint this row starts from (``from`` in YAML); None for random weights.
        start_epochs: start from the checkpoint that ``start`` wrote after this number of epochs (``from_epochs`` in
            YAML), ``checkpoints/epochN.ckpt`` with N counted from 0, which its configuration must keep.
        epochs: of training in total, including those of ``start``; None for the grid's.
        prune_fractions: one run for each; the last callback of the configuration files takes the fraction.
    """

    name: str
    method: str
    configs: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    command: str = "fit"
    start: str | None = None
    start_epochs: int | None = None
    epochs: int | None = None
    prune_fractions: list[float] = field(default_factory=list)

    @property
    def fractions(self) -> list[float] | list[None]:
        """Pruning fractions of its runs; a single None for a row that does not prune."""
        return self.prune_fractions or [None]

    @property
    def needs(self) -> list[str]:
        """The rows whose checkpoints this row reads: its start, and those that its options name."""
        named = re.findall(r"\{checkpoint:(\w+)\}", json.dumps(self.options))
        return list(dict.fromkeys([*([self.start] if self.start else []), *named]))


@dataclass(frozen=True)
class Grid:
    """The content of a grid file.

    Attributes:
        configs: configuration files of every run.
        epochs: of training in total, for rows that do not set them.
        train_samples: images of an epoch; a fixed, stratified subset where the data set has more.
        batch_size: samples of a step.
        seeds: one run for each.
        rows: in the order of the table.
        options: of every run, before the row's own.
        deployment: options of ``callbacks.DeploymentSimulation``.
        contents: of every configuration file, the files that it includes and itself, as they are when the grid is read.
    """

    configs: list[str]
    epochs: int
    train_samples: int
    batch_size: int
    seeds: list[int]
    rows: list[Row]
    options: dict[str, Any] = field(default_factory=dict)
    deployment: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def epochs_of(self, row: Row) -> int:
        """Epochs that the weights of ``row`` were trained for, including those of its start."""
        if row.command == "test":
            return self.epochs_before(row)
        return self.epochs if row.epochs is None else row.epochs

    def epochs_before(self, row: Row) -> int:
        """Epochs that the start of ``row`` was trained for."""
        if row.start_epochs is not None:
            return row.start_epochs
        return 0 if row.start is None else self.epochs_of(next(other for other in self.rows if other.name == row.start))


def merge(old: Any, new: Any) -> Any:
    """``new`` over ``old`` as the command line merges configurations: ``key+`` appends to a list, other keys override.

    Options for a list go to its last object, as ``--trainer.callbacks.fraction`` does.
    """
    if isinstance(old, list) and isinstance(new, dict):
        return [*old[:-1], merge(old[-1], {"init_args": new})]
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    merged = dict(old)
    for key, value in new.items():
        if key.endswith("+"):
            merged[key[:-1]] = [*(merged.get(key[:-1]) or []), *(value if isinstance(value, list) else [value])]
        else:
            merged[key] = merge(merged.get(key, {}), value)
    return merged


def load_grid(path: Path) -> Grid:
    """Read a grid file, which may ``include`` another one.

    Raises:
        ConfigurationError: naming the file or the row, the key, and what is allowed.
    """
    content: dict[str, Any] = reduce(merge, _read(path), {})
    rows = [_make(Row, f"row {entry.get('name')}", entry) for entry in content.pop("rows", [])]
    grid = _make(Grid, str(path), {**content, "rows": rows})
    _check(grid)
    configs = [*grid.configs, *(config for row in rows for config in row.configs)]
    return dataclasses.replace(grid, contents={config: _read(Path(config)) for config in configs})


def _read(path: Path) -> list[dict[str, Any]]:
    return [content for _, content in expand(path)]


def _make(kind: type[Kind], where: str, content: dict[str, Any]) -> Kind:
    names = {"from": "start", "from_epochs": "start_epochs"}  # `from` is no name in Python
    try:
        return kind(**{names.get(key, key): value for key, value in content.items()})
    except TypeError as error:
        words = {name: key for key, name in names.items()}
        allowed = (words.get(entry.name, entry.name) for entry in dataclasses.fields(kind))  # type: ignore[arg-type]
        raise ConfigurationError(f"{where}: {error}; expected the keys {', '.join(allowed)}.") from error


def _check(grid: Grid) -> None:
    check_range("train_samples", grid.train_samples, 1)
    check_range("batch_size", grid.batch_size, 1)
    earlier: dict[str, Row] = {}
    for row in grid.rows:
        if row.name in earlier:
            raise ConfigurationError(f"rows: the name {row.name!r} is there twice.")
        check_choice(f"command of {row.name}", row.command, ("fit", "test"))
        for name in row.needs:
            option = "from" if name == row.start else "checkpoint"
            check_choice(f"{option} of {row.name}", name, earlier)
            if earlier[name].prune_fractions or earlier[name].command == "test":
                raise ConfigurationError(f"{option} of {row.name}: {name} leaves no checkpoint, or several.")
        before, total = grid.epochs_before(row), grid.epochs_of(row)
        if row.start is not None and row.start_epochs is not None:
            check_range(f"from_epochs of {row.name}", row.start_epochs, 1, grid.epochs_of(earlier[row.start]))
        if row.command == "test" and row.start is None:
            raise ConfigurationError(f"from of {row.name}: a test needs a row that was trained.")
        if row.command == "fit" and total <= before:
            raise ConfigurationError(
                f"epochs of {row.name}: got {total}, expected more than the {before} of {row.start}."
            )
        earlier[row.name] = row
