"""Recording of training for the report: accuracy, energy, pruning and codebooks, epoch by epoch."""

from dataclasses import replace
from typing import Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.base import side_effect_free
from callbacks.float_accuracy import float_network
from spikefit.deploy.report.collect import codebook_values, layer_weights
from spikefit.deploy.report.picture_data import EpochEntry
from spikefit.errors import TargetError
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.module import SpikingClassifier
from spikefit.networks.blocks import Network
from spikefit.prune.groups import alive_units, unit_groups
from spikefit.prune.resources import alive_by_block, energy, measure_traffic, terms_left_out
from spikefit.prune.synapse_mask import mask_of

SAMPLES = 16  # on which the firing rates for the energy are measured


def begin(module: SpikingClassifier, context: DeploymentContext | None) -> None:
    """Start the record of ``module``, unless a checkpoint brought one with epochs."""
    if module.training_record.epochs:
        return
    groups, masked = unit_groups(module.network), _masked(module.network)
    without = () if context is None else tuple(terms_left_out(context.chip, context.input_kind))
    module.training_record = replace(
        module.training_record,
        layers=tuple(group.name for group in groups),
        units=tuple(group.units for group in groups),
        masked=tuple(masked),
        weights=tuple(mask.numel() for mask in masked.values()),
        energy_on=None if context is None else context.chip.name,
        energy_without=without,
    )


def record_weights(trainer: pl.Trainer, module: SpikingClassifier) -> None:
    """Record the weights of the float network, when compression is about to begin."""
    if module.training_record.before is None and float_network(trainer, module):
        module.training_record = replace(module.training_record, before=layer_weights(module.network))


def record_codebooks(module: SpikingClassifier) -> None:
    """Record the values of the codebooks that have been switched on since the last call."""
    known = dict(module.training_record.first_values or {})
    for name, _, quantizer in module.quantized_layers():
        if name not in known and quantizer.strength > 0:
            known[name] = codebook_values(quantizer)
    module.training_record = replace(module.training_record, first_values=known)


def record_epoch(
    trainer: pl.Trainer,
    module: SpikingClassifier,
    stage: Literal["val", "train"],
    context: DeploymentContext | None,
    inputs: Tensor | None,
) -> None:
    """Record the state of the network after the validation or at the end of an epoch. Every process must call it.

    Args:
        trainer: trainer of the run.
        module: module that holds the network.
        stage: whose accuracy is up to date; that of the other stage is kept, if this epoch has one.
        context: the chip for the energy; None for none.
        inputs: ``[T, B, ...]``, samples on which the firing rates are measured; None for none.
    """
    record, epoch = module.training_record, trainer.current_epoch
    known = record.epochs[-1] if record.epochs and record.epochs[-1].epoch == epoch else None
    logged = trainer.callback_metrics.get(f"{stage}/accuracy")  # may be collective
    accuracies: dict[str, float | None] = {"val": None if known is None else known.accuracy_val, "train": None}
    accuracies[stage] = None if logged is None else float(logged)
    measure = context is not None and inputs is not None and (known is None or stage == "val")
    strengths = [quantizer.strength for _, _, quantizer in module.quantized_layers()]
    entry = EpochEntry(
        epoch=epoch,
        accuracy_val=accuracies["val"],
        accuracy_train=accuracies["train"],
        energy_j=_energy(trainer, module, context, inputs) if measure else known.energy_j if known else None,  # type: ignore[arg-type]
        alive=tuple(int(alive_units(module.network, group).sum()) for group in unit_groups(module.network)),
        synapses=tuple(int(mask.sum()) for mask in _masked(module.network).values()),
        quantised=sum(strength == 1 for strength in strengths) / len(strengths) if strengths else None,
        emulated=module.network.emulation is not None,
    )
    module.training_record = record.with_epoch(entry)


@torch.no_grad()
def _energy(trainer: pl.Trainer, module: SpikingClassifier, context: DeploymentContext, inputs: Tensor) -> float | None:
    """Energy of an inference by the firing rates of process 0; None if a price is unknown."""
    if not trainer.is_global_zero:
        return None
    network = module.network
    try:
        with side_effect_free(module, "energy of the epoch", trainer.current_epoch):
            module.eval()
            found = measure_traffic(network, [(inputs, inputs)], context.input_kind)
            joule = energy(network, context.chip, found).total(alive_by_block(network))
    except TargetError:
        return None
    return float(f"{joule:.6g}")


def _masked(network: Network) -> dict[str, Tensor]:
    masks = {name: mask_of(layer) for name, layer in network.named_synapses()}
    return {name: mask.live for name, mask in masks.items() if mask is not None}
