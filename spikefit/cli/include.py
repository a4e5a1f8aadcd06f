"""The key ``include`` of a configuration file: other files that are read before it."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from jsonargparse._actions import ActionConfigFile, previous_config
from lightning.pytorch.cli import LightningArgumentParser

from spikefit.cli.shipped import find_config
from spikefit.errors import ConfigurationError
from spikefit.strict_yaml import read_yaml, require_unique_keys

KEY = "include"
_load_yaml = get_loader("yaml")
set_loader("yaml", lambda text: _load_yaml(require_unique_keys(text)), (yaml.YAMLError,))


def expand(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read a configuration file and all files that it includes, directly or not.

    Args:
        path: the file. Paths in its ``include`` are relative to its folder, or to the shipped configurations.

    Returns:
        Each file with its content except for ``include``, in the order in which they apply: later ones override. A file
        that several others include is there once, where it comes first.

    Raises:
        ConfigurationError: for an ``include`` that is no path or list of paths, that names a missing file or leads back
            to the file itself, and for a file that holds no YAML mapping.
    """
    files: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for file, content in _expand(path, ()):
        files.setdefault(file.resolve(), (file, content))
    return list(files.values())


def _expand(path: Path, including: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    content = _content(path)
    chain = (*including, path)
    files: list[tuple[Path, dict[str, Any]]] = []
    for name in _included(path, content):
        file = find_config(name, (path.parent,))
        if file is None:
            raise ConfigurationError(
                f"{path}: include: no file {name}; expected paths of YAML files, relative to the folder of {path} or "
                "to the shipped configurations."
            )
        if file.resolve() in [earlier.resolve() for earlier in chain]:
            circle = " -> ".join(str(earlier) for earlier in (*chain, file))
            raise ConfigurationError(
                f"{path}: include: {name} leads back to itself ({circle}); expected files that do not include {path}."
            )
        files += _expand(file, chain)
    return [*files, (path, {key: value for key, value in content.items() if key != KEY})]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a YAML mapping of options, got {type(content).__name__}.")
    return content


def _included(path: Path, content: dict[str, Any]) -> list[str]:
    """The paths below ``include``, as written."""
    given = content.get(KEY, [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{path}: include: got {given!r}, expected a path or a list of paths.")
    return names


class IncludingParser(LightningArgumentParser):
    """A parser whose configuration files may include others, as if ``--config`` named these first."""

    _including = False

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Apply the files that ``path`` includes to the configuration so far, then parse ``path`` itself.

        jsonargparse comes here for every configuration file, whether named on the command line or in the environment.
        """
        so_far = previous_config.get()  # what jsonargparse appends `callbacks+` to
        if so_far is None:
            return super().parse_path(path, *args, **kwargs)
        if not self._including:
            self._including = True
            try:
                for included, _ in expand(Path(path))[:-1]:
                    ActionConfigFile.apply_config(self, so_far, "config", str(included))  # calls this method
            finally:
                self._including = False
        parsed = super().parse_path(path, *args, **kwargs)
        parsed.pop(KEY, None)
        return parsed
