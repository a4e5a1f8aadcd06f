"""Reading and comparing checkpoint files, with helpful error messages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikefit.errors import CheckpointError


def read_checkpoint(path: Path, option: str) -> dict[str, Any]:
    """Read a Lightning checkpoint into CPU memory.

    Args:
        path: the file.
        option: the option that named the file, for error messages.

    Raises:
        CheckpointError: if the file does not exist, can't be read, or is not a Lightning checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{option}: no file {path}; expected a checkpoint.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling arbitrary bytes may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{option}: {path} can't be read as a checkpoint ({reason}).") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{option}: {path} is not a Lightning checkpoint: it has no state_dict.")
    return content


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
