"""SIGINT (Ctrl-C) and SIGTERM: training ends after the current batch, with a checkpoint to resume from."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BATCHES = 16
"""Several processes ask each other every so many batches, because asking makes a GPU wait."""


class Stopped(SystemExit):
    """The program ends because of a signal; the exit status is 128 and its number, as in a shell.

    Attributes:
        message: what is printed at the end.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(128 + number)
        self.message = message or f"stopped by {signal.Signals(number).name}"


class Signals:
    """Handler of :data:`SIGNALS`.

    During training the first signal is only noted, for :class:`StopOnSignal`; at other times it raises
    :class:`Stopped`. A second signal ends the process at once.

    Attributes:
        received: number of the first signal; None if there was none.
        training: whether training is in progress.
        trained: directory of the run whose training is over, for the message of a later signal; None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.training = False
        self.trained: Path | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        if not self.training and self.trained is not None:
            command = shlex.join(["spikefit", "deploy", str(self.trained)])
            raise Stopped(number, f"stopped by {signal.Signals(number).name} after training; deploy with: {command}")
        if not self.training:
            raise Stopped(number)
        print(f"\nspikefit: {signal.Signals(number).name}: saving a checkpoint after this batch", file=sys.stderr)

    def install(self) -> None:
        """Replace the present handlers."""
        for number in SIGNALS:
            signal.signal(number, self)


@contextmanager
def handled_signals() -> Iterator[Signals]:
    """Context with :class:`Signals` as the handler; the handlers before are restored on exit."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signals = Signals()
    signals.install()
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopOnSignal(Checkpoint):
    """Callback that saves ``last.ckpt`` after a signal, at the end of a batch, and ends the program.

    It is a ``Checkpoint`` so that Lightning calls it after all callbacks that change the network.

    Args:
        signals: the handler of the signals.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the handlers that Lightning has installed, which end without a checkpoint and with status 0 or 1."""
        self.signals.training = True
        self.signals.install()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end if a process has received a signal."""
        if trainer.world_size > 1 and batch_idx % BATCHES and not trainer.is_last_batch:
            return
        number = self._received(trainer)
        if number is not None:
            path = last_checkpoint(trainer)
            trainer.save_checkpoint(path)
            raise Stopped(number, self._message(trainer, number, path))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End after the last epoch; later signals end the program at once."""
        self.signals.training = False
        self.signals.trained = Path(trainer.log_dir or trainer.default_root_dir)
        number = self._received(trainer)
        if number is not None:
            raise Stopped(number, self._message(trainer, number, last_checkpoint(trainer)))

    def _received(self, trainer: pl.Trainer) -> int | None:
        """The signal that this process or another one has received. Collective: every process calls it."""
        number = self.signals.received
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(number is not None, all=False):
            return number or signal.SIGTERM
        return number

    def _message(self, trainer: pl.Trainer, number: int, path: Path) -> str:
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        where = f"stopped by {signal.Signals(number).name} in epoch {trainer.current_epoch}, step {trainer.global_step}"
        command = shlex.join(["lightning", "fit", "--config", str(folder / "config.yaml"), "--ckpt_path", str(path)])
        return f"{where}; resume with: {command}"


def last_checkpoint(trainer: pl.Trainer) -> Path:
    """Path of ``last.ckpt``, in the folder of the first checkpoint callback or in that of the run."""
    own = (callback.dirpath for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    run = Path(trainer.log_dir or trainer.default_root_dir)  # a collective: every process calls it
    return Path(next((folder for folder in own if folder is not None), run / "checkpoints")) / "last.ckpt"
