"""Folders that environment variables name."""

import os
from pathlib import Path


def data_folder(root: str | None) -> Path:
    """The folder of data sets: ``root``, else the environment variable SPIKEFIT_DATA_DIR, else ``data``."""
    return Path(root or os.environ.get("SPIKEFIT_DATA_DIR") or "data")
