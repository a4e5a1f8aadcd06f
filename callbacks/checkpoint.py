"""Checkpoint callback that saves only fully compressed networks."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.base import ScheduledCallback
from spikefit.errors import ConfigurationError
from spikefit.preflight import Preflight, training_end


class CompressedCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that saves only after every compressing callback has finished.

    A network usually scores best in floating point with all its neurons. This callback waits until the quantizers are
    on and the last unit is pruned, so that the best checkpoint is the best one that meets the chip's limits. Arguments
    as in ``lightning.pytorch.callbacks.ModelCheckpoint``.

    Raises:
        ConfigurationError: before training, if a compressing callback does not finish before training ends.

    Example:
        >>> checkpoint = CompressedCheckpoint(monitor="val/accuracy", mode="max", save_last=True)
        >>> checkpoint.monitor, checkpoint.save_top_k
        ('val/accuracy', 1)
    """

    def preflight(self, check: Preflight) -> None:
        """Raise if training ends before compression has finished, because nothing would be saved."""
        for callback in scheduled(check.trainer) if check.fitting else ():
            interval = callback.schedule.interval
            end = training_end(check.trainer, interval)
            if end is None:
                continue
            last = end if interval == "step" else last_validated(end, check.trainer.check_val_every_n_epoch or 1)
            if not callback.may_settle(last):
                raise ConfigurationError(
                    f"{type(self).__name__}: would never save, because {type(callback).__name__} "
                    f"({callback.schedule}) still changes the network at {interval} {last}, the last one that is "
                    "validated. Expected an earlier schedule.stop, or a longer training (trainer.max_epochs)."
                )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if compression has finished."""
        if compression_settled(trainer):
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if compression has finished."""
        if compression_settled(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def compression_settled(trainer: pl.Trainer) -> bool:
    """Whether all scheduled callbacks have finished changing which weights and units the network has."""
    return all(callback.settled(callback.position(trainer)) for callback in scheduled(trainer))


def scheduled(trainer: pl.Trainer) -> list[ScheduledCallback]:
    """The trainer's callbacks that change the network on a schedule."""
    return [callback for callback in trainer.callbacks if isinstance(callback, ScheduledCallback)]  # type: ignore[attr-defined]


def last_validated(end: int, every: int) -> int:
    """The last validated of ``end`` epochs, counted from 0, with a validation after every ``every`` epochs."""
    return max(end // every * every, 1) - 1
