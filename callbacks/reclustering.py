"""Switch quantizers on after a float warm-up and move their codebooks to the weights from time to time."""

from typing import Any

import lightning.pytorch as pl
import torch

from callbacks.base import Interval, ScheduledCallback, broadcast
from spikefit.errors import check_range
from spikefit.module import SpikingClassifier
from spikefit.prune.groups import live_synapses
from spikefit.quantize.base import latent_weight


class CodebookReclustering(ScheduledCallback):
    """Float warm-up before ``start``; then every codebook is set to the exact one-dimensional k-means of its weights.

    At ``start`` all quantizers are fitted and switched on (learned-step and ternary ones too). At the later positions
    of the schedule codebooks move to the optimum for the weights as they are by then; other quantizers follow their
    weights by themselves. Synapses of pruned neurons do not count. Logs ``quantizer/error``, the relative root mean
    square difference between weights and quantised weights, averaged over layers.

    With a ``ramp`` the network is led over from float to quantised weights step by step
    (:class:`~spikefit.quantize.base.Quantizer`), and is quantised in full only behind it.

    Args:
        start: epoch (or step) at which quantization begins.
        stop: last position that may recluster; None for no end. ``stop`` equal to ``start`` fits once.
        every: distance between two reclusterings.
        interval: ``epoch`` or ``step``.
        name: tells two callbacks of the same schedule apart.
        ramp: epochs (fractions too) or steps over which the strength of the quantizers grows from 0 to 1.

    Raises:
        ConfigurationError: for a schedule or a ramp that is not allowed.
    """

    def __init__(
        self,
        start: int = 0,
        stop: int | None = None,
        every: int = 1,
        interval: Interval = "epoch",
        name: str = "",
        ramp: float = 0.0,
    ) -> None:
        super().__init__(start, stop, every, interval, name)
        check_range("ramp", ramp, 0)
        self.ramp = ramp

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Switch the quantizers off for the warm-up; a checkpoint that is restored afterwards has the last word."""
        if stage == "fit" and (self.start > 0 or self.ramp > 0):
            assert isinstance(pl_module, SpikingClassifier)
            for _, _, quantizer in pl_module.quantized_layers():
                quantizer.strength.zero_()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Act at steps; follow the ramp."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        position = self.position(trainer)
        if self.ramp == 0 or position < self.start:
            return
        # The last batch of the ramp trains at full strength, so that what is evaluated then is quantised.
        within = (batch_idx + 1) / trainer.num_training_batches if self.interval == "epoch" else 1.0
        strength = min(1.0, (position - self.start + within) / self.ramp)
        assert isinstance(pl_module, SpikingClassifier)
        for _, _, quantizer in pl_module.quantized_layers():
            quantizer.strength.fill_(strength)

    def settled(self, position: int) -> bool:
        """Reclustering moves values but changes no counts: settled as soon as the quantizers are on in full."""
        done = position + 1 if self.interval == "epoch" else position  # by the end of this epoch; before this step
        return position >= self.start and done >= self.start + self.ramp

    @torch.no_grad()
    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Fit on process 0, then give every process the same codebooks."""
        errors = []
        for name, layer, quantizer in module.quantized_layers():
            weight = latent_weight(layer).detach()
            if quantizer.strength == 0:  # moments of the warm-up, when its parameters had no say, mean nothing
                for optimizer in trainer.optimizers:
                    for parameter in quantizer.parameters():
                        optimizer.state.pop(parameter, None)
            if trainer.is_global_zero:
                live = live_synapses(module.network, name)
                if quantizer.strength > 0:
                    quantizer.recluster(weight, live)
                else:
                    quantizer.refit(weight, live)
                    quantizer.strength.fill_(0.0 if self.ramp else 1.0)
            broadcast(trainer, [*quantizer.parameters(), *quantizer.buffers()])
            errors.append((quantizer.quantize(weight) - weight).norm() / weight.norm().clamp_min(1e-12))
        if errors and self.interval == "epoch":
            module.log("quantizer/error", torch.stack(errors).mean(), rank_zero_only=False)


class PostTrainingQuantization(pl.Callback):
    """Switch every quantizer on when a test begins: quantization after training, the baseline of training with it.

    Fits each quantizer that is off to the trained weights. One within its ramp keeps its fit; all take full strength.
    """

    @torch.no_grad()
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit and switch on, equally in every process: the fit is deterministic."""
        assert isinstance(pl_module, SpikingClassifier)
        for name, layer, quantizer in pl_module.quantized_layers():
            if quantizer.strength == 0:
                quantizer.refit(latent_weight(layer).detach(), live_synapses(pl_module.network, name))
            quantizer.strength.fill_(1.0)
