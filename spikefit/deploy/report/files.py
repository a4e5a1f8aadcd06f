"""Atomic writing of files, and of ``report.json``."""

import os
from pathlib import Path

from spikefit.deploy.report.data import Report


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` into ``folder`` atomically and return its path."""
    return write_whole(folder / "report.json", report.to_json())


def write_whole(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` atomically and return ``path``: readers see the old or the new file, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
