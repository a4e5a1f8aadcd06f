"""What a check finds: one violated limit of a chip."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One violated limit.

    Attributes:
        limit: its name.
        where: the population, projection or chip.
        needed: what the network needs.
        available: what the chip has.
        remedy: a sentence that says what would help.
        kind: ``structure`` or ``capacity``.
        prune_blocks: populations of which fewer units would mend it; empty where pruning can't.
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


def plain(value: object) -> int | float | str:
    """``value`` as a number or a text: a tuple as its elements with commas."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, int | float | str) else str(value)
