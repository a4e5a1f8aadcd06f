"""Findings of a check: violated limits of a chip."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One violated limit of a chip.

    Attributes:
        limit: name of the limit.
        where: name of the population, projection or chip that violates it.
        needed: amount that the network needs.
        available: amount that the chip has.
        remedy: a sentence that says what would help.
        kind: ``structure`` or ``capacity``.
        prune_blocks: populations whose pruning would resolve the finding; empty if pruning can't.

    Example:
        >>> print(Finding("fan-in", "fc1", 512, 256, "prune 32 of 64 channels of conv2", "capacity", ("conv2",)))
        fc1: fan-in: needs 512, the chip has 256; prune 32 of 64 channels of conv2.
    """

    limit: str
    where: str
    needed: int | float | str
    available: int | float | str
    remedy: str
    kind: Literal["structure", "capacity"]
    prune_blocks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.limit}: needs {self.needed}, the chip has {self.available}; {self.remedy}."


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """``findings`` with those joined that differ only in where they are.

    Example:
        >>> one, two = (Finding("layer", where, "conv", "dense", "avoid conv", "structure") for where in ("a", "b"))
        >>> [str(finding) for finding in grouped([one, two])]
        ['a, b: layer: needs conv, the chip has dense; avoid conv.']
    """
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        places.setdefault(replace(finding, where="", prune_blocks=()), []).append(finding.where)
    return [replace(finding, where=", ".join(dict.fromkeys(where))) for finding, where in places.items()]


def plain(value: object) -> int | float | str:
    """``value`` as a number or text; a tuple becomes its elements separated by commas."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, int | float | str) else str(value)
