"""Callback that writes the state of each process, to compare processes and runs."""

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import torch


class DumpState(pl.Callback):
    """At the start of every epoch (after the callbacks before it) save the network's state, one file a process."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = Path(os.environ["DUMP_STATE_DIR"])
        path = folder / f"epoch{trainer.current_epoch}-rank{trainer.global_rank}.pt"
        torch.save(pl_module.network.state_dict(), path)


class Interrupt(pl.Callback):
    """Raise ``KeyboardInterrupt`` in the middle of epoch ``epoch``, as Ctrl-C would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 3:
            raise KeyboardInterrupt


class Signal(pl.Callback):
    """Send this process ``number`` in the middle of epoch ``epoch``, as ``kill`` would."""

    def __init__(self, epoch: int, number: int) -> None:
        self.epoch, self.number = epoch, number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 3:
            signal.raise_signal(self.number)
