"""Reads the figures in ``docs/results``, and writes them as the tables of the documentation have them."""

import json
import statistics
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from spikefit.deploy.report.terminal import quantity

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
Row = dict[str, Any]


@cache
def read(name: str) -> Any:
    """Content of ``docs/results/NAME.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rows(file: str, /, **wanted: Any) -> list[Row]:
    """The rows of a file whose entries have the ``wanted`` values; at least one.

    Raises:
        KeyError: if there is no such row.
    """
    content = read(file)
    every = content if isinstance(content, list) else content["rows"]
    found = [row for row in every if all(row.get(key) == value for key, value in wanted.items())]
    if not found:
        raise KeyError(f"docs/results/{file}.json has no row with {wanted}")
    return found


def row(file: str, /, **wanted: Any) -> Row:
    """The only row with the ``wanted`` values."""
    (found,) = rows(file, **wanted)
    return found


def spread(values: Iterable[float], sign: str = "") -> str:
    """Mean and sample standard deviation of percentages given as shares.

    Example:
        >>> spread([0.91, 0.93]), spread([0.5]), spread([-0.01, -0.02], "+")
        ('92.00 ± 1.41', '50.00', '-1.50 ± 0.71')
    """
    percent = [100 * value for value in values]
    mean = f"{statistics.mean(percent):{sign}.2f}"
    return mean if len(percent) == 1 else f"{mean} ± {statistics.stdev(percent):.2f}"


def change(given: Sequence[Row], floats: Sequence[Row], measure: str) -> list[float]:
    """Differences of ``measure`` to the float row of the same seed."""
    reference = {each["seed"]: each[measure] for each in floats}
    return [each[measure] - reference[each["seed"]] for each in given if each["seed"] in reference]


def mean(given: Iterable[Row], measure: str) -> float:
    """Mean of ``measure``."""
    return statistics.mean(each[measure] for each in given)


def joules(value: float | None) -> str:
    """An energy as the report writes it."""
    return "unknown" if value is None else quantity(value, "J")


def millions(value: float) -> str:
    """A count in millions."""
    return f"{value / 1e6:.2f} M"


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(markdown(["", "a"], [["x", "1"]]))
        |  | a |
        |---|---|
        | x | 1 |
    """
    lines = [head, *body]
    written = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([written[0], "|" + "---|" * len(head), *written[1:]])
