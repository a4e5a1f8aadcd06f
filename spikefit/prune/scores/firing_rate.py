"""Firing rate as a score of units."""

from torch import Tensor

from spikefit.prune.scores.activity import ActivityScore


class FiringRate(ActivityScore):
    """Mean number of spikes per neuron, step and sample; the units that fire least are pruned first.

    Args:
        batches: number of training batches.

    Example:
        >>> import torch
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])  # [T, B, K] = [2, 1, 2]
        >>> FiringRate().of_spikes(spikes).tolist()
        [[1.0, 0.5]]
    """

    def of_spikes(self, spikes: Tensor) -> Tensor:
        """Mean over steps and positions of the map, ``[B, K]``."""
        rate = spikes.mean(dim=0)
        return rate.flatten(2).mean(dim=2) if rate.dim() > 2 else rate
