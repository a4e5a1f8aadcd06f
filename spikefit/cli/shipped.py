"""Where configuration files are: in the working directory, next to an including file, or among the shipped ones."""

import difflib
from pathlib import Path

from spikefit.errors import ConfigurationError
from spikefit.locations import shipped_configs

FOLDER = "configs"
"""Name of the folder of shipped configurations in a clone."""


def shipped_names() -> list[str]:
    """Names of the shipped configurations for ``--config``, such as ``quickstart`` and ``data/digits``."""
    folder = shipped_configs()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("hardware/"))  # chips are no configurations


def find_config(name: str, folders: tuple[Path, ...] = (Path(),)) -> Path | None:
    """Find a configuration file by its path or name; ``.yaml`` may be omitted.

    Args:
        name: a path, relative to one of ``folders`` or to the shipped configurations. A leading ``configs/`` is ignored
            among the latter, so that commands of the documentation work without a clone.
        folders: folders to look in first.

    Returns:
        The first file that exists, or None.

    Example:
        >>> find_config("experiment/digits_truenorth").name
        'digits_truenorth.yaml'
    """
    given = Path(name).expanduser()
    inside = given.relative_to(FOLDER) if given.parts[:1] == (FOLDER,) else given
    shipped = [] if ".." in given.parts else [shipped_configs() / inside]
    for path in (*(folder / given for folder in folders), *shipped):
        for candidate in (path, path.with_name(f"{path.name}.yaml")) if path.name else ():
            if candidate.is_file():
                return candidate
    return None


def require_config(name: str) -> Path:
    """Find the configuration file that ``--config`` names.

    Raises:
        ConfigurationError: if there is none; the message names the nearest shipped one.
    """
    found = find_config(name)
    if found is None:
        names = shipped_names()
        plain = name.removeprefix(f"{FOLDER}/").removesuffix(".yaml")
        close = difflib.get_close_matches(plain, names, 1) or [n for n in names if n.rpartition("/")[2] == plain]
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigurationError(
            f"config: no file {name}, neither here nor among the shipped configurations; expected the path of a YAML "
            f"file or a shipped name, such as quickstart or data/digits.{hint}"
        )
    return found
