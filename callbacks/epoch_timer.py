"""Callback that measures the duration of epochs."""

import time
from collections.abc import Iterable

import lightning.pytorch as pl

from callbacks.base import Place
from spikefit.module import SpikingClassifier


class EpochTimer(pl.Callback):
    """Logs ``time/epoch_seconds`` (wall clock) and ``time/epoch_cpu_seconds`` (processor time of this process).

    An epoch is measured from the end of the previous one to its own end, so it includes reclustering, pruning,
    validation and the work of other callbacks. On a machine shared with other programs, the processor time is the more
    stable figure.

    Example:
        >>> from callbacks import EpochTimer
        >>> EpochTimer().logged_metrics(None)
        ('time/epoch_seconds', 'time/epoch_cpu_seconds')
    """

    place = Place.MONITOR

    def __init__(self) -> None:
        self._start = (0.0, 0.0)

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """Both times."""
        return ("time/epoch_seconds", "time/epoch_cpu_seconds")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._start = _clocks()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the duration of the epoch and restart the clocks."""
        now = _clocks()
        pl_module.log("time/epoch_seconds", now[0] - self._start[0])
        pl_module.log("time/epoch_cpu_seconds", now[1] - self._start[1])
        self._start = now


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
