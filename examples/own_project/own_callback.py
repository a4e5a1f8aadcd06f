"""A callback of your own that changes the network on a schedule; one that only observes derives from Lightning's."""

import lightning.pytorch as pl
import torch

from callbacks import Place, Schedule
from callbacks.base import ScheduledCallback
from spikefit.module import SpikingClassifier
from spikefit.quantize.base import latent_weight


class WeightClipping(ScheduledCallback):
    """Clips latent weights to a multiple of their layer's standard deviation, at the start of scheduled epochs."""

    place = Place.CODEBOOKS  # acts before units are scored
    compresses = False  # removes neither precision nor units

    def __init__(self, multiple: float = 3.0, schedule: Schedule = Schedule(), name: str = "") -> None:
        super().__init__(schedule, name)
        self.multiple = multiple

    @torch.no_grad()
    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Change tensors in place, identically in every process, without waiting for the device."""
        for _, layer in module.network.named_synapses():
            weight = latent_weight(layer)
            limit = self.multiple * weight.std()
            weight.copy_(weight.clamp(-limit, limit))
