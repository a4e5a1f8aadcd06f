"""Singular values of spike activity (QP-SNN) as a score."""

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.prune.scores.activity import ActivityScore


class SVS(ActivityScore):
    """Singular values of spike activity (QP-SNN, Wei et al. 2025, arXiv 2502.05905): maps of low rank go first.

    As in the paper, a channel's spikes are averaged over time, the singular values of that map ``[H, W]`` that are
    above a small epsilon are counted, and the counts are averaged over samples. The paper's full text was not available
    to us: this is read off its abstract, a review and a public reimplementation. Ours are the value of epsilon and what
    the paper doesn't need, because it gives each convolution a pruning rate of its own: counts of different layers are
    compared as they are; a neuron of a linear layer is a map of one place, so that its score is the share of samples
    in which it fires; tied blocks add up.

    Args:
        batches: how many training batches to look at.
        epsilon: singular values up to this count as zero; spikes averaged over T steps are multiples of 1/T.
    """

    def __init__(self, batches: int = 8, epsilon: float = 1e-4) -> None:
        check_range("epsilon", epsilon, 0)
        super().__init__(batches)
        self.epsilon = epsilon

    def of_spikes(self, spikes: Tensor) -> Tensor:
        """How many singular values are above epsilon."""
        activity = spikes.mean(dim=0)
        if activity.dim() == 2:
            return (activity > self.epsilon).float()
        return (torch.linalg.svdvals(activity) > self.epsilon).float().sum(dim=2)
