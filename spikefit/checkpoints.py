"""Checkpoints as files: read with a message that a user can act on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikefit.errors import CheckpointError


def read_checkpoint(path: Path, option: str) -> dict[str, Any]:
    """The content of a Lightning checkpoint, on the CPU.

    Args:
        path: the file.
        option: which option named it, for the messages.

    Raises:
        CheckpointError: when there is no such file, it can't be read, or it is no Lightning checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{option}: no file {path}; expected a checkpoint.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling makes of bytes that are no checkpoint
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{option}: {path} can't be read as a checkpoint ({reason}).") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{option}: {path} is no Lightning checkpoint: it has no state_dict.")
    return content


def require_same_tensors(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], option: str, path: Path | None = None, optional: str = "\0"
) -> None:
    """Refuse the weights of another network, with a message that fits on a screen.

    Args:
        own: the network's tensors, by name.
        given: the checkpoint's.
        option: which option named the checkpoint.
        path: the file, for the message.
        optional: tensors whose names end so may be missing in the checkpoint.

    Raises:
        CheckpointError: naming the first few tensors that only one side has, or that have two shapes.
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
            f"{option}: {which} is of another network than the configuration describes:\n{shown}{more}"
        )
