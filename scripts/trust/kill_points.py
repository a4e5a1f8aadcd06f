"""Callback that kills its own process at a chosen point of a run."""

import os
import signal
from typing import Any, Literal, NoReturn

import lightning.pytorch as pl

Point = Literal["batch", "epoch", "writing", "renaming", "deployment"]


class KillItself(pl.Callback):
    """Sends SIGKILL to its own process, which no handler can delay.

    Args:
        point: ``batch`` (before batch ``batch``), ``epoch`` (at the end, before checkpoints), ``writing`` (a checkpoint
            is half written), ``renaming`` (a checkpoint is written and has its temporary name), or ``deployment``.
        epoch: the epoch, counted from 0; for ``writing`` and ``renaming`` the first checkpoint from it on.
        batch: the batch, counted from 0.
    """

    def __init__(self, point: Point, epoch: int = 0, batch: int = 0) -> None:
        self.point, self.epoch, self.batch = point, epoch, batch

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        """Kill before a batch, or arrange that the next checkpoint is not completed."""
        if (trainer.current_epoch, number) != (self.epoch, self.batch):
            return
        if self.point == "batch":
            kill()
        if self.point == "writing":
            os.fsync = half_written  # type: ignore[assignment]
        if self.point == "renaming":
            os.replace = kill  # type: ignore[assignment]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Kill at the end of an epoch."""
        if self.point == "epoch" and trainer.current_epoch == self.epoch:
            kill()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Kill when the network would be deployed."""
        if self.point == "deployment":
            kill()


def half_written(descriptor: int) -> NoReturn:
    """Cut the file of ``descriptor`` in half and kill the process, as if the disk had not got all of it."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    kill()


def kill(*_: object) -> NoReturn:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
