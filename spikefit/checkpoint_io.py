"""Lightning's way to checkpoint files: they are written atomically and read with their checksums."""

import io
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from spikefit.atomic import write_atomically
from spikefit.checkpoints import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's ``CheckpointIO`` for local files that survives a crash, a full disk and damaged files.

    A file is written next to its target and renamed, so that the previous checkpoint remains until the new one is
    complete. Lightning writes to the folder for temporary files and moves, which copies if this is another filesystem.
    Paths with a protocol, such as ``s3://``, are left to Lightning.

    Example:
        >>> trainer = pl.Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu")
        >>> type(trainer.strategy.checkpoint_io).__name__
        'AtomicCheckpointIO'
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            StorageError: if it can't be written; an existing file is unchanged.
        """
        if is_remote(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read the checkpoint ``path``.

        Raises:
            CheckpointError: if it does not exist or is damaged.
        """
        if is_remote(path):
            return super().load_checkpoint(path, map_location, weights_only)
        return read_checkpoint(Path(path), "ckpt_path", map_location, True if weights_only is None else weights_only)


def is_remote(path: Any) -> bool:
    """Whether ``path`` names a file of another filesystem by its protocol."""
    return "://" in str(path)


def protect_checkpoints(trainer: pl.Trainer) -> None:
    """Set :class:`AtomicCheckpointIO`, unless the user has chosen a ``CheckpointIO``."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
