"""The working directory as a place of the user's own modules: ``class_path: my_module.MyNet``."""

import importlib
import os
import sys
from pathlib import Path

import spikefit
from spikefit.errors import ConfigurationError

OWN_PACKAGES = ("spikefit", "callbacks")


def import_from_here() -> None:
    """Let modules in the working directory be imported, before those that are installed.

    A folder ``callbacks`` or ``spikefit`` in the working directory does not hide the project's packages, which stay
    where they are. Every process of a distributed run calls this itself.

    Raises:
        ConfigurationError: if Python has already put the working directory first, and such a folder hides ours.
    """
    for name in OWN_PACKAGES:  # loaded before the working directory takes part
        found = importlib.import_module(name)
        if not _is_ours(Path(found.__file__ or "")):
            raise ConfigurationError(
                f"{found.__file__} hides spikefit's package {name}; expected another name, such as my_{name}.py."
            )
    here = os.getcwd()
    if here not in (os.path.abspath(entry) for entry in sys.path):
        sys.path.insert(0, here)


def _is_ours(file: Path) -> bool:
    return file.resolve().parents[1] == Path(spikefit.__file__).resolve().parents[1]


def hidden_module(name: str) -> Path | None:
    """A file or package of the user's that has the name of one of the project's packages, or None.

    Args:
        name: name of a module, such as ``callbacks``.
    """
    root = name.partition(".")[0]
    if root not in OWN_PACKAGES:
        return None
    files = (Path(f"{root}.py"), Path(root) / "__init__.py")
    return next((file for file in files if file.is_file() and not _is_ours(file)), None)
