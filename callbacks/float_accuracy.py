"""Accuracy of the uncompressed float network on the test set, measured during training."""

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
    """Iterate over inputs ``[T, B, ...]`` and labels ``[B]`` of the test set, on the module's device."""
    data.setup("test")
    for batch in data.test_dataloader():
        batch = data.on_before_batch_transfer(batch, 0)
        moved = module.transfer_batch_to_device(batch, module.device, 0)
        inputs, labels = data.on_after_batch_transfer(moved, 0)
        yield inputs, labels


def float_network(trainer: pl.Trainer, module: SpikingClassifier) -> bool:
    """Whether the network is a trained float network with all its units and synapses, as a reference for compression.

    A network whose quantizers were on from the first step is not, unless its weights were copied from another run.
    """
    network = module.network
    copied = trainer.global_step == 0 and any(isinstance(callback, InitialWeights) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    masks = [mask_of(layer) for _, layer in network.named_synapses()]
    return (
        network.emulation is None
        and (copied or all(quantizer.strength == 0 for _, _, quantizer in module.quantized_layers()))
        and all(bool(alive_units(network, group).all()) for group in unit_groups(network))
        and all(bool(mask.live.all()) for mask in masks if mask is not None)
    )


@contextmanager
def in_floating_point(module: SpikingClassifier) -> Iterator[None]:
    """Context in which all quantizers are off; their strengths are restored on exit."""
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
    """Measure the accuracy of the network without its quantizers, in this process only.

    The random state and the train/eval modes are restored.

    Args:
        trainer: trainer with the data module.
        module: module that holds the network.
        max_samples: number of samples to classify, from the start of the test set; None for all.

    Returns:
        The accuracy; None if there is no test set or it can't be loaded.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None or not is_overridden("test_dataloader", data, pl.LightningDataModule):
        return None
    samples, checksum = 0, 0
    correct = torch.zeros((), dtype=torch.int64, device=module.device)
    try:
        with side_effect_free(module, "before compression"), torch.no_grad(), in_floating_point(module):
            module.eval()
            for inputs, labels in batches_of_test_part(data, module):
                left = len(labels) if max_samples is None else min(len(labels), max_samples - samples)
                logits = module.network.logits(module.network(inputs[:, :left]))
                correct += (logits.argmax(dim=1) == labels[:left]).sum()
                samples += left
                checksum += samples_checksum(inputs[:, :left].cpu())
                if samples == max_samples:
                    break
    except SpikeFitError as error:  # training must not fail because this optional figure is missing
        rank_zero_warn(f"accuracy before compression: the test set can't be used ({error}); the report shows null.")
        return None
    return Accuracy(int(correct), samples, checksum) if samples else None
