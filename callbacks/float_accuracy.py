"""The test part within a training: its batches, and the accuracy of the network before it is compressed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from callbacks.base import side_effect_free
from callbacks.initial_weights import InitialWeights
from spikefit.deploy.deployment import samples_checksum
from spikefit.deploy.report.sections import Accuracy
from spikefit.errors import SpikeFitError
from spikefit.module import SpikingClassifier
from spikefit.prune.groups import alive_units, unit_groups
from spikefit.prune.synapse_mask import mask_of


def batches_of_test_part(data: Any, module: pl.LightningModule) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs ``[T, B, ...]`` and labels ``[B]`` of the test part, on the module's device."""
    data.setup("test")
    for batch in data.test_dataloader():
        batch = data.on_before_batch_transfer(batch, 0)
        moved = module.transfer_batch_to_device(batch, module.device, 0)
        inputs, labels = data.on_after_batch_transfer(moved, 0)
        yield inputs, labels


def float_network(trainer: pl.Trainer, module: SpikingClassifier) -> bool:
    """Whether there is a trained network in floating point, with all of its units and synapses, to compare with.

    One whose quantizers have been on from the first step has none, unless its weights came from another run.
    """
    network = module.network
    came = trainer.global_step == 0 and any(isinstance(callback, InitialWeights) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    masks = [mask_of(layer) for _, layer in network.named_synapses()]
    return (
        network.emulation is None
        and (came or all(quantizer.strength == 0 for _, _, quantizer in module.quantized_layers()))
        and all(bool(alive_units(network, group).all()) for group in unit_groups(network))
        and all(bool(mask.live.all()) for mask in masks if mask is not None)
    )


@contextmanager
def in_floating_point(module: SpikingClassifier) -> Iterator[None]:
    """The network without its quantizers inside; as strong as they were after it."""
    strengths = [(quantizer, quantizer.strength) for _, _, quantizer in module.quantized_layers()]
    try:
        for quantizer, _ in strengths:
            quantizer.strength = 0.0
        yield
    finally:
        for quantizer, before in strengths:
            quantizer.strength = before


def accuracy_on_test_part(
    trainer: pl.Trainer, module: SpikingClassifier, max_samples: int | None = None
) -> Accuracy | None:
    """Accuracy of the network without its quantizers, in this process alone; random state and modes stay as they are.

    Args:
        trainer: whose data module has the test part.
        module: whose network.
        max_samples: classify the first so many; None for all.

    Returns:
        None where there is no test part, or it can't be loaded.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None or not is_overridden("test_dataloader", data, pl.LightningDataModule):
        return None
    samples, seen = 0, 0
    correct = torch.zeros((), dtype=torch.int64, device=module.device)
    try:
        with side_effect_free(module, "before compression"), torch.no_grad(), in_floating_point(module):
            module.eval()
            for inputs, labels in batches_of_test_part(data, module):
                left = len(labels) if max_samples is None else min(len(labels), max_samples - samples)
                logits = module.network.logits(module.network(inputs[:, :left]))
                correct += (logits.argmax(dim=1) == labels[:left]).sum()
                samples += left
                seen += samples_checksum(inputs[:, :left].cpu())
                if samples == max_samples:
                    break
    except SpikeFitError as error:  # a training must not end for want of this figure
        rank_zero_warn(f"accuracy before compression: the test part can't be used ({error}); the report has null.")
        return None
    return Accuracy(int(correct), samples, seen) if samples else None
