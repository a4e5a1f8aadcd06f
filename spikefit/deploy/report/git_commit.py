"""The commit that spikefit runs from."""

import os
import subprocess
from pathlib import Path

import spikefit


def checkout_commit(folder: Path | None = None) -> str | None:
    """Commit of the git checkout whose root is ``folder``, with ``-dirty`` where a tracked file differs from it.

    Args:
        folder: the folder above the package ``spikefit`` if not given.

    Returns:
        40 hexadecimal digits, or None where ``folder`` is no checkout or git can't read it.
    """
    folder = Path(spikefit.__file__).resolve().parents[1] if folder is None else folder
    if not (folder / ".git").exists():  # an installed package may lie within somebody else's checkout
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # a report must not disturb what the user does with git
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
