"""Folders of data sets and of shipped configurations."""

import os
from pathlib import Path


def data_folder(root: str | None) -> Path:
    """The folder of data sets: ``root``, else the environment variable SPIKEFIT_DATA_DIR, else ``data``."""
    return Path(root or os.environ.get("SPIKEFIT_DATA_DIR") or "data")


def shipped_configs() -> Path:
    """The folder of the configurations that come with the project, in a clone or an installed package."""
    package = Path(__file__).resolve().parent
    installed = package / "_configs"
    return installed if installed.is_dir() else package.parent / "configs"
