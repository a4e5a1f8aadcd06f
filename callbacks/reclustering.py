"""Switch quantizers on after a float warm-up and move their codebooks to the weights from time to time."""

import lightning.pytorch as pl
import torch

from callbacks.base import Interval, ScheduledCallback, broadcast
from spikefit.module import SpikingClassifier
from spikefit.prune.groups import live_synapses
from spikefit.quantize.base import latent_weight


class CodebookReclustering(ScheduledCallback):
    """Float warm-up before ``start``; then every codebook is set to the exact one-dimensional k-means of its weights.

    At ``start`` all quantizers are fitted and switched on (learned-step and ternary ones too). At the later positions
    of the schedule codebooks move to the optimum for the weights as they are by then; other quantizers follow their
    weights
    by themselves. Synapses of pruned neurons do not count. Logs ``quantizer/error``, the relative root mean square
    difference between weights and quantised weights, averaged over layers.

    Args:
        start: epoch (or step) at which quantization begins.
        stop: last position that may recluster; None for no end. ``stop`` equal to ``start`` fits once.
        every: distance between two reclusterings.
        interval: ``epoch`` or ``step``.
        name: tells two callbacks of the same schedule apart.
    """

    def __init__(
        self,
        start: int = 0,
        stop: int | None = None,
        every: int = 1,
        interval: Interval = "epoch",
        name: str = "",
    ) -> None:
        super().__init__(start, stop, every, interval, name)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Switch the quantizers off for the warm-up; a checkpoint that is restored afterwards has the last word."""
        if stage == "fit" and self.start > 0:
            assert isinstance(pl_module, SpikingClassifier)
            for _, _, quantizer in pl_module.quantized_layers():
                quantizer.active.fill_(False)

    def settled(self, position: int) -> bool:
        """Reclustering moves values but changes no counts: settled as soon as the quantizers are on."""
        return position >= self.start

    @torch.no_grad()
    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Fit on process 0, then give every process the same codebooks."""
        errors = []
        for name, layer, quantizer in module.quantized_layers():
            weight = latent_weight(layer).detach()
            if not quantizer.active:  # moments of the warm-up, when its parameters had no say, mean nothing
                for optimizer in trainer.optimizers:
                    for parameter in quantizer.parameters():
                        optimizer.state.pop(parameter, None)
            if trainer.is_global_zero:
                live = live_synapses(module.network, name)
                if quantizer.active:
                    quantizer.recluster(weight, live)
                else:
                    quantizer.refit(weight, live)
                    quantizer.active.fill_(True)
            broadcast(trainer, [*quantizer.parameters(), *quantizer.buffers()])
            errors.append((quantizer.quantize(weight) - weight).norm() / weight.norm().clamp_min(1e-12))
        if errors and self.interval == "epoch":
            module.log("quantizer/error", torch.stack(errors).mean(), rank_zero_only=False)


class PostTrainingQuantization(pl.Callback):
    """Switch every quantizer on when a test begins: quantization after training, the baseline of training with it.

    Fits each quantizer to the trained weights; those that are on already are left alone.
    """

    @torch.no_grad()
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit and switch on, equally in every process: the fit is deterministic."""
        assert isinstance(pl_module, SpikingClassifier)
        for name, layer, quantizer in pl_module.quantized_layers():
            if not quantizer.active:
                quantizer.refit(latent_weight(layer).detach(), live_synapses(pl_module.network, name))
                quantizer.active.fill_(True)
