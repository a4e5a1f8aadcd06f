"""The grid file of ``compare.py``."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spikefit.errors import ConfigurationError, check_choice, check_range

PRETRAIN = "pretrain"


@dataclass(frozen=True)
class Row:
    """One method of the table: a run for each seed and, if it prunes, each fraction.

    Attributes:
        name: of the row; free, but unique.
        method: family of methods, such as ``cat`` or ``lsq``; rows of one family share a colour in the plots.
        levels, bits, scope, prune_method: what the table says of the row; they set nothing by themselves.
        configs: YAML files behind the grid's own.
        options: ``{dotted name: value}`` for the command line; see :func:`compare_run.filled`.
        command: ``fit``, or ``test`` for what needs no training.
        start: the row whose last checkpoint this one starts from (``from`` in YAML; the stage ``pretrain`` if there is
            one and nothing else is said); None for random weights.
        start_epochs: take the checkpoint that ``start`` wrote after so many of its epochs (``from_epochs`` in YAML),
            not its last one; its configuration must keep it as ``checkpoints/epochN.ckpt``, with N counted from 0.
        keep_quantizers: go on with the codebooks and steps of ``start``, which has the same quantizers.
        epochs: of training altogether, those of ``start`` included.
        prune_fractions: one run each; the last callback in ``configs`` gets the fraction.
        seeds: None for the grid's.
    """

    name: str
    method: str
    levels: int | None = None
    bits: int | None = None
    scope: str | None = None
    prune_method: str | None = None
    configs: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    command: str = "fit"
    start: str | None = None
    start_epochs: int | None = None
    keep_quantizers: bool = False
    epochs: int | None = None
    prune_fractions: tuple[float, ...] = ()
    seeds: tuple[int, ...] | None = None

    @property
    def in_table(self) -> bool:
        """Whether it is a row of the table."""
        return self.name != PRETRAIN

    @property
    def needs(self) -> tuple[str, ...]:
        """The rows whose checkpoints this one reads: its start, and those that its options mention."""
        mentioned = re.findall(r"\{checkpoint:(\w+)\}", json.dumps(self.options))
        return tuple(dict.fromkeys([*([self.start] if self.start else []), *mentioned]))


@dataclass(frozen=True)
class Grid:
    """What a grid file says.

    Attributes:
        dataset: its name, for the table.
        configs: YAML files that every run starts from.
        options: for every run, in front of the row's own.
        epochs: of training altogether in a row that does not say otherwise.
        train_samples: how many images an epoch has; a fixed, stratified subset where the data holds more.
        batch_size: samples a step.
        seeds: one run each.
        deployment: options of ``callbacks.DeploymentSimulation``.
        rows: in the order of the table; a stage ``pretrain`` comes first and is no row of it.
        digests: of each configuration file's content.
    """

    dataset: str
    configs: tuple[str, ...]
    epochs: int
    train_samples: int
    batch_size: int
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    options: dict[str, Any] = field(default_factory=dict)
    deployment: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def epochs_of(self, row: Row) -> int:
        """Epochs of training behind the weights of ``row``, those of its start included."""
        if row.command == "test":
            return self.epochs_before(row)
        return self.epochs if row.epochs is None else row.epochs

    def epochs_before(self, row: Row) -> int:
        """Epochs that its start was trained for."""
        if row.start_epochs is not None:
            return row.start_epochs
        return 0 if row.start is None else self.epochs_of(next(other for other in self.rows if other.name == row.start))


def load_grid(path: Path) -> Grid:
    """Read a grid file.

    Raises:
        ConfigurationError: naming the file, the key, and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"grid: {path} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"grid: {path} holds no mapping.")
    stage = content.pop(PRETRAIN, None)
    rows = [] if stage is None else [_row({"name": PRETRAIN, "method": PRETRAIN, "from": None, **stage}, None)]
    rows += [_row(entry, PRETRAIN if stage is not None else None) for entry in content.get("rows") or []]
    wanted = {f.name for f in dataclasses.fields(Grid)} - {"digests"}
    required = wanted - {"options", "deployment"}
    _expect_keys(str(path), content, wanted, required)
    files = {config for row in rows for config in row.configs} | set(content["configs"])
    digests = {file: _digest(Path(file)) for file in sorted(files)}
    lists = {"configs": tuple(content["configs"]), "seeds": tuple(content["seeds"]), "rows": tuple(rows)}
    grid = Grid(**{**content, **lists, "digests": digests})
    _check(grid)
    return grid


def _row(content: dict[str, Any], start: str | None) -> Row:
    known = {f.name for f in dataclasses.fields(Row)} - {"start", "start_epochs"} | {"from", "from_epochs"}
    _expect_keys(f"row {content.get('name')}", content, known, {"name", "method"})
    content = {"from": start, **content}
    content["start"], content["start_epochs"] = content.pop("from"), content.pop("from_epochs", None)
    for name in ("configs", "prune_fractions", "seeds"):
        if content.get(name) is not None:
            content[name] = tuple(content[name])
    return Row(**content)


def _expect_keys(where: str, content: dict[str, Any], known: set[str], required: set[str]) -> None:
    for key in content:
        check_choice(f"key of {where}", key, sorted(known))
    missing = sorted(required - set(content))
    if missing:
        raise ConfigurationError(f"{where}: {', '.join(missing)} missing.")


def _digest(path: Path) -> str:
    """Of the parsed content, so that a comment changes nothing."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"configs: {path} can't be read: {error}") from error
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
        if row.start is not None and row.start_epochs is not None:
            check_range(f"from_epochs of {row.name}", row.start_epochs, 1, grid.epochs_of(earlier[row.start]))
        if row.command == "test" and row.start is None:
            raise ConfigurationError(f"from of {row.name}: a test needs a row that was trained.")
        if row.command == "fit" and grid.epochs_of(row) <= grid.epochs_before(row):
            raise ConfigurationError(
                f"epochs of {row.name}: got {grid.epochs_of(row)}, expected more than the {grid.epochs_before(row)} of "
                f"{row.start}."
            )
        earlier[row.name] = row
