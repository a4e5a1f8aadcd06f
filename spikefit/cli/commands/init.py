"""Start a project: a network of your own, a configuration for it, the configurations that it includes, and a README.

Nothing that exists is overwritten.

example:
  spikefit init demo && cd demo && lightning fit --config config.yaml
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from spikefit.atomic import writing
from spikefit.errors import ConfigurationError
from spikefit.locations import shipped_configs

FILES = ("README.md", "config.yaml", "my_network.py")
LEFT_OUT = ("compare", "hardware")
"""Folders of configurations that are of no use in a project: grids of the method table, and chips, found by name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the project; created if it does not exist")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Copy the files."""
    folder = parser.parse_args(words).folder
    existing = [name for name in (*FILES, "configs") if (folder / name).exists()]
    if existing:
        raise ConfigurationError(
            f"init: {folder} has {', '.join(existing)} already; expected a folder without, or a new one."
        )
    skeleton = Path(__file__).resolve().parents[1] / "skeleton"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(shipped_configs(), folder / "configs", ignore=shutil.ignore_patterns(*LEFT_OUT))
        for name in FILES:
            shutil.copyfile(skeleton / name, folder / name)
    print(f"{folder}: {', '.join(FILES)}, configs")
    print(f"Next: cd {folder} && spikefit check --config config.yaml --hardware all")
    return 0
