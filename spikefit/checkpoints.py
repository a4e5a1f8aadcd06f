"""Reading and comparing checkpoint files, with helpful error messages."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikefit.errors import CheckpointError

_FOLDER = 0x10  # attribute of a ZIP entry; torch leaves the memory of a tensor that is marked as a folder uninitialised


def read_checkpoint(path: Path, option: str, map_location: Any = "cpu", weights_only: bool = True) -> dict[str, Any]:
    """Read a Lightning checkpoint after comparing all of its content with its checksums.

    Args:
        path: the file.
        option: the option that named the file, for error messages.
        map_location: device of the tensors, as in ``torch.load``.
        weights_only: whether only tensors and primitives are read, as in ``torch.load``.

    Raises:
        CheckpointError: if the file does not exist, is damaged, can't be read, or is not a Lightning checkpoint.
    """
    require_intact(path, option)
    try:
        content = torch.load(path, map_location=map_location, weights_only=weights_only)
    except Exception as error:  # unpickling arbitrary bytes may raise anything
        reason = _reason(error, weights_only)
        raise CheckpointError(f"{option}: {path} can't be read as a checkpoint ({reason}).") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{option}: {path} is not a Lightning checkpoint: it has no state_dict.")
    return content


def _reason(error: Exception, weights_only: bool) -> str:
    """Why torch can't read a file. Its advice to execute code from the file (``weights_only=False``) is left out."""
    if weights_only and isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"Unsupported (?:global|class|operand)[^.\n]*: ?(?:GLOBAL )?([\w.]+)", str(error))
        what = f" such as {refused[1]}" if refused else ""
        return f"it holds other objects than tensors and primitives{what}, which are not loaded, or it is damaged"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def require_intact(path: Path, option: str) -> None:
    """Compare the content of a checkpoint with the checksums of its ZIP file, which ``torch.load`` ignores.

    Raises:
        CheckpointError: if the file does not exist, is truncated or damaged; the message names the damaged part.
    """
    if not path.is_file():
        raise CheckpointError(f"{option}: no file {path}; expected a checkpoint.")
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next((entry.filename for entry in archive.infolist() if entry.external_attr & _FOLDER), None)
            part = archive.testzip() or folder
    except Exception as error:  # damaged headers may raise anything
        raise CheckpointError(
            f"{option}: {path} can't be read as a checkpoint: it is damaged or another kind of file "
            f"({str(error) or type(error).__name__})."
        ) from error
    if part is not None:
        raise CheckpointError(f"{option}: {path} is damaged: the checksum or kind of {part} differs.")


def require_same_tensors(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], option: str, path: Path | None = None, optional: str = "\0"
) -> None:
    """Raise unless network and checkpoint have tensors of the same names and shapes.

    Args:
        own: tensors of the network, by name.
        given: tensors of the checkpoint, by name.
        option: the option that named the checkpoint, for the error message.
        path: the file, for the error message.
        optional: suffix of the names of tensors that may be missing in the checkpoint.

    Raises:
        CheckpointError: if they differ; the message names the first few tensors that are missing on one side or differ
            in shape.
    """
    lines = [f"{name}: only in the checkpoint" for name in given if name not in own]
    lines += [f"{name}: only in the network" for name in own if name not in given and not name.endswith(optional)]
    lines += [
        f"{name}: {tuple(given[name].shape)} in the checkpoint, {tuple(own[name].shape)} in the network"
        for name in own
        if name in given and own[name].shape != given[name].shape
    ]
    if lines:
        shown = "\n".join(f"  - {line}" for line in lines[:8])
        more = f"\n  and {len(lines) - 8} more" if len(lines) > 8 else ""
        which = "the checkpoint" if path is None else path
        raise CheckpointError(
            f"{option}: {which} holds another network than the configuration describes:\n{shown}{more}"
        )
