"""Files that are whole at every moment."""

import os
from pathlib import Path

from spikefit.deploy.report.data import Report


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` into ``folder``, whole or not at all, and return its path."""
    return write_whole(folder / "report.json", report.to_json())


def write_whole(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` at once: a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
