"""Callbacks that switch quantizers on, refit their codebooks during training, and freeze them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Literal, get_args

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from callbacks.base import (
    Milestone,
    Place,
    ScheduledCallback,
    announce_compression,
    broadcast,
    reduce_sum,
    side_effect_free,
    training_batches,
)
from callbacks.schedule import Schedule
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Block
from spikefit.preflight import Preflight
from spikefit.prune.groups import live_synapses
from spikefit.quantize.base import Quantizer, latent_weight
from spikefit.quantize.codebook import Codebook
from spikefit.quantize.input_moments import input_moments

Metric = Literal["weights", "currents"]


class CodebookReclustering(ScheduledCallback):
    """Switches quantizers on after a float warm-up, moves codebooks to the optimum of their weights, and freezes them.

    Before ``schedule.start`` the network trains in floating point. At the start all quantizers are fitted and switched
    on, including learned-step and ternary ones. At every later position of the schedule, each codebook is set to the
    exact one-dimensional k-means of its current weights; other quantizers adapt by themselves. Synapses of pruned
    neurons are ignored. The callback logs ``quantizer/error/LAYER``, the relative root mean square difference between
    weights and quantised weights.

    With ``ramp``, the weights change gradually from float to quantised (:class:`~spikefit.quantize.base.Quantizer`),
    and are fully quantised only at the end of the ramp.

    With ``freeze``, the assignment of weights to codebook values no longer changes, and only the values are trained.
    The rest of the network can then settle on fixed assignments. Weights that oscillate between two values are the main
    source of loss in low-bit training (Nagel et al. 2022, arXiv 2203.11086).

    With the metric ``currents``, codebook and assignment are fitted to the currents that each layer delivers on some
    training batches, instead of to its weights (:mod:`spikefit.functional.output_matching`), layer by layer in network
    order. This preserves the function of a trained network better than nearest values, above all in a layer that reads
    images. Weights are moved into the cells of their codebook values, and the subsequent norm is adjusted.

    Several of these callbacks, each with its own ``layers``, give different layers different schedules.

    Args:
        schedule: quantization begins at ``start``; codebooks are fitted at every position. With ``stop`` equal to
            ``start`` they are fitted once.
        name: distinguishes two callbacks of the same schedule in a checkpoint.
        ramp: number of epochs (may be fractional) or steps over which the quantizers' strength grows from 0 to 1.
        freeze: epoch (or step) from which on the assignment of weights to values is frozen; None for never.
        layers: names of layers, or :mod:`fnmatch` patterns.
        metric: ``weights`` (k-means) or ``currents``.
        batches: training batches on which the inputs of each layer are measured; for ``currents`` only.

    Raises:
        ConfigurationError: for options that are not allowed; before training, for a pattern that matches no quantised
            layer, or for ``freeze`` or the metric ``currents`` on layers without a codebook.

    Example:
        >>> from callbacks import CodebookReclustering, Schedule
        >>> reclustering = CodebookReclustering(Schedule(2, 8, every=3), freeze=10)
        >>> [epoch for epoch in range(12) if reclustering.due(epoch)]
        [2, 5, 8, 10]
    """

    place = Place.CODEBOOKS

    def __init__(
        self,
        schedule: Schedule = Schedule(),
        name: str = "",
        ramp: float = 0.0,
        freeze: int | None = None,
        layers: Sequence[str] = ("*",),
        metric: Metric = "weights",
        batches: int = 8,
    ) -> None:
        super().__init__(schedule, name)
        check_range("ramp", ramp, 0)
        if freeze is not None:
            check_range("freeze", freeze, schedule.start + ramp)
        check_choice("metric", metric, get_args(Metric))
        check_range("batches", batches, 1)
        self.ramp, self.freeze, self.layers = ramp, freeze, tuple(layers)
        self.metric, self.batches = metric, batches

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint; differs with the schedule, the layers and the name."""
        schedule = self.schedule
        options = {"start": schedule.start, "every": schedule.every, "interval": schedule.interval}
        return self._generate_state_key(**options, name=self.name, layers=self.layers)

    def milestones(self) -> Iterator[Milestone]:
        """The position at which the assignment freezes, and the end of the ramp."""
        if self.freeze is not None:
            yield Milestone("freeze", self.freeze, self.freeze)
        if self.ramp > 0:  # full strength is reached at the end of this position
            yield Milestone("ramp", self.ramp, math.ceil(self.schedule.start + self.ramp) - 1)

    def logged_metrics(self, module: SpikingClassifier) -> Iterable[str]:
        """The quantization error of every layer; empty for a schedule of steps, which logs nothing."""
        names = [name for name, _, _ in self.chosen(module)]
        return [f"quantizer/error/{name}" for name in names] if self.schedule.interval == "epoch" else ()

    def chosen(self, module: SpikingClassifier) -> Iterator[tuple[str, nn.Conv2d | nn.Linear, Quantizer]]:
        """Name, layer and quantizer of each quantised layer that matches ``layers``."""
        for name, layer, quantizer in module.quantized_layers():
            if any(fnmatchcase(name, pattern) for pattern in self.layers):
                yield name, layer, quantizer

    def preflight(self, check: Preflight) -> None:
        """Raise if training is too short for the schedule, or if layers are missing or lack a codebook."""
        super().preflight(check)
        if check.fitting:
            self._check_layers(check.module)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Switch the quantizers off for the warm-up; a checkpoint that is restored later overrides this."""
        if stage != "fit":
            return
        assert isinstance(pl_module, SpikingClassifier)
        if self.schedule.start > 0 or self.ramp > 0:
            for _, _, quantizer in self.chosen(pl_module):
                quantizer.strength = 0.0

    def _check_layers(self, module: SpikingClassifier) -> None:
        names = [name for name, _, _ in module.quantized_layers()]
        for pattern in self.layers:
            if pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigurationError(
                    f"layers: {pattern!r} matches no quantised layer, expected {', '.join(names)}."
                )
        wanted: list[tuple[str, object]] = [("freeze", self.freeze)] if self.freeze is not None else []
        wanted += [("metric", self.metric)] if self.metric == "currents" else []
        for name, _, quantizer in self.chosen(module):
            if wanted and not isinstance(quantizer, Codebook):
                (option, value), kind = wanted[0], type(quantizer).__name__
                raise ConfigurationError(
                    f"{option}: got {value!r}, expected a Codebook on layer {name}; it has {kind}, which assigns no "
                    "weight to a codebook value."
                )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Act if a step is due, and update the strength of the quantizers during the ramp."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        position = self.position(trainer)
        if self.ramp == 0 or position < self.schedule.start:
            return
        # The last batch of the ramp trains at full strength, so that validation sees quantised weights.
        within = (batch_idx + 1) / trainer.num_training_batches if self.schedule.interval == "epoch" else 1.0
        strength = min(1.0, (position - self.schedule.start + within) / self.ramp)
        assert isinstance(pl_module, SpikingClassifier)
        for _, _, quantizer in self.chosen(pl_module):
            quantizer.strength = strength

    def due(self, position: int) -> bool:
        """Whether to fit or to freeze at epoch (or step) ``position``."""
        return super().due(position) or position == self.freeze

    def settled(self, position: int) -> bool:
        """Whether the quantizers are at full strength; later reclustering moves values but changes no counts."""
        start = self.schedule.start
        done = position + 1 if self.schedule.interval == "epoch" else position  # at the epoch's end; before the step
        return position >= start and done >= start + self.ramp

    @torch.no_grad()
    def act(self, trainer: pl.Trainer, module: SpikingClassifier, position: int) -> None:
        """Fit and freeze codebooks on process 0, then copy them to all processes."""
        for name, layer, quantizer in self.chosen(module):
            starting = quantizer.strength == 0 or self.last_acted < 0
            if self.metric == "currents" and (starting or super().due(position)) and not _is_frozen(quantizer):
                assert isinstance(quantizer, Codebook)
                self._match(trainer, module, name, layer, quantizer)
            elif trainer.is_global_zero and starting:
                quantizer.refit(latent_weight(layer).detach(), live_synapses(module.network, name))
            elif trainer.is_global_zero and super().due(position):
                quantizer.recluster(latent_weight(layer).detach(), live_synapses(module.network, name))
            if starting:  # discard optimizer moments of the warm-up, in which the parameters had no effect
                quantizer.strength = 0.0 if self.ramp else 1.0
                for optimizer in trainer.optimizers:
                    for parameter in quantizer.parameters():
                        optimizer.state.pop(parameter, None)
            if position == self.freeze and isinstance(quantizer, Codebook):
                quantizer.freeze(latent_weight(layer))
            broadcast(trainer, [*quantizer.parameters(), *quantizer.buffers()])
            quantizer.read_switches()
            if self.schedule.interval == "epoch":
                weight = latent_weight(layer).detach()
                error = (quantizer.quantize(weight) - weight).norm() / weight.norm().clamp_min(1e-12)
                module.log(f"quantizer/error/{name}", error, rank_zero_only=False)

    def _match(
        self, trainer: pl.Trainer, module: SpikingClassifier, name: str, layer: nn.Module, quantizer: Codebook
    ) -> None:
        """Fit a codebook to the currents of a layer: they are measured in every process and fitted on process 0."""
        with side_effect_free(module, "currents", self.position(trainer), trainer.global_rank):
            module.eval()
            inputs = (batch[0] for batch in islice(training_batches(trainer), self.batches))
            moments = input_moments(module.network, name, inputs)
        for part in ("count", "first", "second"):  # summed on the module's device, because NCCL needs CUDA tensors
            total = reduce_sum(trainer, getattr(moments, part).to(module.device))
            setattr(moments, part, total.cpu())
        block = module.network.block(name.partition(".")[0])
        free_gain = block.norm is not None and block.skip is None
        weight, factor = latent_weight(layer), torch.ones(len(quantizer.group_of_output))
        if trainer.is_global_zero:
            gram, live = (
                moments.gram(centred=block.norm is not None and block.norm.centres),
                live_synapses(module.network, name),
            )
            moved, factor = quantizer.match(weight, gram, free_gain, live)
            weight.copy_(moved)
        factor = factor.to(weight)
        broadcast(trainer, [weight, factor])
        if free_gain:
            rescale(block, factor)


def rescale(block: Block, factor: Tensor) -> None:
    """Adapt norm and bias of a block, in place, to output currents that were multiplied by ``factor`` ``[out]``."""
    norm, bias = block.norm, block.synapses.bias
    assert norm is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.mul_(factor)
    norm.running_var.mul_(factor.square())
    if bias is not None:
        bias.data.mul_(factor)


def _is_frozen(quantizer: Quantizer) -> bool:
    return isinstance(quantizer, Codebook) and quantizer.frozen


class PostTrainingQuantization(pl.Callback):
    """Switches every quantizer on when a test begins: post-training quantization, a baseline for quantised training.

    Each quantizer that is off is fitted to the trained weights. A quantizer whose ramp has begun keeps its fit. All are
    set to full strength.

    Example:
        >>> from spikefit.networks import MLP
        >>> module = SpikingClassifier(lambda shape, classes: MLP(shape, classes, (4,)), (1, 8, 8), 10, Codebook)
        >>> for _, _, quantizer in module.quantized_layers():
        ...     quantizer.strength = 0.0
        >>> PostTrainingQuantization().on_test_start(pl.Trainer(accelerator="cpu", logger=False), module)
        >>> [quantizer.strength for _, _, quantizer in module.quantized_layers()]
        [1.0, 1.0]
    """

    place = Place.POST_TRAINING

    @torch.no_grad()
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit the quantizers and switch them on; the fit is deterministic, so all processes agree."""
        assert isinstance(pl_module, SpikingClassifier)
        announce_compression(trainer, pl_module)
        for name, layer, quantizer in pl_module.quantized_layers():
            if quantizer.strength == 0:
                quantizer.refit(latent_weight(layer).detach(), live_synapses(pl_module.network, name))
            quantizer.strength = 1.0
