"""The git commit of the checkout that spikefit runs from."""

import os
import subprocess
from pathlib import Path

import spikefit


def checkout_commit(folder: Path | None = None) -> str | None:
    """The commit of the git checkout with root ``folder``, followed by ``-dirty`` if a tracked file differs from it.

    Args:
        folder: root of the checkout; by default the folder that contains the package ``spikefit``.

    Returns:
        40 hexadecimal digits, or None if ``folder`` is not a checkout or git can't read it.
    """
    folder = Path(spikefit.__file__).resolve().parents[1] if folder is None else folder
    if not (folder / ".git").exists():  # an installed package may be inside another project's checkout
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # do not interfere with the user's git commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
