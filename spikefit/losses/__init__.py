"""Losses on logits, one value per sample.

Every loss is called as ``loss(logits, labels, inputs, steps)``: the logits ``[B, classes]``, the labels ``[B]``, the
network's inputs ``[T, B, ...]``, and the readout's output at every step ``[T, B, classes]``. The logits are the mean of
the steps, or their sum if the readout spikes. Pruning scores call the loss with logits and labels only, in evaluation.
"""

from spikefit.losses.energy_penalty import EnergyPenalty
from spikefit.losses.of_labels import CrossEntropy, TemporalCrossEntropy, require_loss_arguments

__all__ = ["CrossEntropy", "EnergyPenalty", "TemporalCrossEntropy", "require_loss_arguments"]
