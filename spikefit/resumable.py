"""Base class of the LightningModule: what a checkpoint needs so that a resumed run equals the uninterrupted one."""

from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl

from spikefit.checkpoint_io import is_remote
from spikefit.checkpoints import require_intact


class ResumableModule(pl.LightningModule):
    """A ``LightningModule`` that can be resumed exactly from checkpoints that are not damaged."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a module as Lightning does, after comparing the file with its checksums.

        Raises:
            CheckpointError: if the file does not exist or is damaged.
        """
        if isinstance(checkpoint_path, str | Path) and not is_remote(checkpoint_path):
            require_intact(Path(checkpoint_path), "checkpoint_path")
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
