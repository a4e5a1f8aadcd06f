"""Fenced blocks of README, CONTRIBUTING and docs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?ms)^(<!-- not run: (?P<reason>.+?) -->\n\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        where: file and line.
        language: as the fence names it.
        body: its lines.
        reason: why it is not run; None for a block that is run.
    """

    where: str
    language: str
    body: str
    reason: str | None


def blocks(*languages: str) -> Iterator[Block]:
    """All blocks in ``languages``."""
    for path in DOCUMENTS:
        text = path.read_text()
        for found in FENCE.finditer(text):
            if found["language"] in languages:
                line = text.count("\n", 0, found.start("body")) + 1
                where = f"{path.relative_to(ROOT)}:{line}"
                yield Block(where, found["language"], found["body"], found["reason"])
