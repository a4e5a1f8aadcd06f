"""Energy of an inference on Loihi before and after pruning, at the same firing rates."""

import lightning.pytorch as pl
import torch

from helpers.tiny_fit import TinyData
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.prune.resources import Traffic, alive_by_block, energy, measure_traffic


class PlannedEnergy:
    """Put ``before`` and ``after`` around a pruning callback that measures on all training data.

    Attributes:
        sizes: at the start of each epoch, joule before and after, both at the firing rates before.
    """

    def __init__(self) -> None:
        self.sizes: list[tuple[float, float]] = []
        self.before, self.after = _Measure(self, first=True), _Measure(self, first=False)
        self.traffic: Traffic | None = None
        self.size = 0.0


class _Measure(pl.Callback):
    def __init__(self, plan: PlannedEnergy, first: bool) -> None:
        self.plan, self.first = plan, first
        self.inputs = torch.stack([x for x, _ in TinyData().dataset]).transpose(0, 1)

    def on_train_epoch_start(self, trainer, pl_module):
        network = pl_module.network.eval()
        if self.first:
            self.plan.traffic = measure_traffic(network, [(self.inputs, torch.zeros(64))], InputKind.SPIKES)
        size = energy(network, HardwareTarget.load("loihi"), self.plan.traffic).total(alive_by_block(network))
        network.train()
        if self.first:
            self.plan.size = size
        else:
            self.plan.sizes.append((self.plan.size, size))
