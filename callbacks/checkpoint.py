"""Keep the best checkpoint among those that can be deployed."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.base import ScheduledCallback


class CompressedCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that saves only once every compressing callback is done.

    A network scores best in floating point with all its neurons. This one waits until the quantizers are on and the last
    unit is pruned, so that the best checkpoint is the best one that meets the chip's limits. Arguments as in
    ``lightning.pytorch.callbacks.ModelCheckpoint``.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the network's form is final."""
        if compression_settled(trainer):
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the network's form is final."""
        if compression_settled(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def compression_settled(trainer: pl.Trainer) -> bool:
    """Whether no scheduled callback will change any more which weights or units the network has."""
    scheduled = [callback for callback in trainer.callbacks if isinstance(callback, ScheduledCallback)]  # type: ignore[attr-defined]
    return all(callback.settled(callback.position(trainer)) for callback in scheduled)
