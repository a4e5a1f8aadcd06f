"""Writes the tables of figures into README and docs, and names sentences that differ from ``docs/results``.

``python -m scripts.docs.figures`` writes the tables; with ``--check`` it changes nothing. The exit status is 1 if a
table (with ``--check``) or a sentence differs.

A table stands between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``, where NAME is one of
:data:`scripts.docs.tables.TABLES`.
"""

import argparse
import re
from pathlib import Path

from scripts.docs.prose import sentences
from scripts.docs.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
TABLE = re.compile(r"(<!-- figures: (\w+) -->\n\n).*?(\n\n<!-- end of figures -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """``text`` with its tables written anew.

    Raises:
        KeyError: for a name that is not in ``TABLES``.
    """
    return TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def documents() -> list[Path]:
    """README and the pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def differing() -> list[str]:
    """One line for each page whose tables differ, and for each sentence that its page does not have."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in documents()}
    lines = [f"{name}: tables differ" for name, text in texts.items() if with_tables(text) != text]
    words = {name: " ".join(text.split()) for name, text in texts.items()}
    lines += [f"{page}: expected: {wanted}" for page, wanted in sentences() if wanted not in words[page]]
    return lines


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    if not parser.parse_args().check:
        for path in documents():
            text = path.read_text(encoding="utf-8")
            if with_tables(text) != text:
                path.write_text(with_tables(text), encoding="utf-8")
                print(f"written: {path.relative_to(ROOT)}")
    found = differing()
    print("\n".join(found) or "all figures agree with docs/results")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
