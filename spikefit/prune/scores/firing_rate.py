"""Firing rate as a score."""

from torch import Tensor

from spikefit.prune.scores.activity import ActivityScore


class FiringRate(ActivityScore):
    """Mean spikes a neuron, step and sample: the unit that fires least goes first.

    Args:
        batches: how many training batches to look at.
    """

    def of_spikes(self, spikes: Tensor) -> Tensor:
        """Mean over steps and map."""
        rate = spikes.mean(dim=0)
        return rate.flatten(2).mean(dim=2) if rate.dim() > 2 else rate
