"""Callback that logs firing rates."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from callbacks.base import Place
from spikefit.module import SpikingClassifier
from spikefit.prune.scores.recording import recorded_spikes


class SpikeMonitor(pl.Callback):
    """Logs the firing rate of every layer in validation as ``spikes/LAYER``: mean spikes per living neuron and step.

    Example:
        >>> from spikefit.networks import MLP
        >>> module = SpikingClassifier(lambda shape, classes: MLP(shape, classes, (64, 32)), (1, 8, 8), 10)
        >>> SpikeMonitor().logged_metrics(module)
        ['spikes/fc1', 'spikes/fc2']
    """

    place = Place.MONITOR

    def __init__(self) -> None:
        self._recording: AbstractContextManager[dict[str, Tensor]] | None = None
        self._spikes: dict[str, Tensor] = {}

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """The firing rate of each layer with spiking neurons."""
        return [f"spikes/{name}" for name, block in module.network.named_blocks() if block.neuron is not None]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start recording spikes."""
        assert isinstance(pl_module, SpikingClassifier)
        self._recording = recorded_spikes(pl_module.network)
        self._spikes = self._recording.__enter__()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the firing rates of the batch."""
        assert isinstance(pl_module, SpikingClassifier)
        for name, block in pl_module.network.named_blocks():
            if block.neuron is not None:
                rate = self._spikes[name].mean() / block.neuron.alive.float().mean()
                samples = self._spikes[name].shape[1]
                pl_module.log(f"spikes/{name}", rate, on_epoch=True, batch_size=samples, sync_dist=True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop recording spikes."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop recording spikes."""
        self._stop()

    def _stop(self) -> None:
        if self._recording is not None:
            self._recording.__exit__(None, None, None)
        self._recording, self._spikes = None, {}
