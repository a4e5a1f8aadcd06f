"""Singular values of spike activity (QP-SNN) as a score of units."""

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.prune.scores.activity import ActivityScore


class SVS(ActivityScore):
    """Singular values of spike activity; maps of low rank are pruned first (QP-SNN, Wei et al. 2025, arXiv 2502.05905).

    As in the paper, a channel's spikes are averaged over time, the singular values of the resulting map ``[H, W]``
    above a small epsilon are counted, and the counts are averaged over samples. The paper's full text was not available
    to us; the implementation follows its abstract, a review and a public reimplementation. The value of epsilon is our
    choice. So are the following rules, which the paper does not need because it sets a pruning rate for each
    convolution: counts of different layers are compared directly; a neuron of a linear layer is a map with one
    position, so that its score is the share of samples in which it fires; the counts of tied blocks are added.

    Args:
        batches: number of training batches.
        epsilon: singular values up to epsilon count as zero; spikes averaged over T steps are multiples of 1/T.

    Example:
        >>> spikes = torch.zeros(4, 1, 2, 3, 3)  # [T, B, K, H, W]
        >>> spikes[:, :, 1] = torch.eye(3)
        >>> SVS().of_spikes(spikes).tolist()
        [[0.0, 3.0]]
    """

    def __init__(self, batches: int = 8, epsilon: float = 1e-4) -> None:
        check_range("epsilon", epsilon, 0)
        super().__init__(batches)
        self.epsilon = epsilon

    def of_spikes(self, spikes: Tensor) -> Tensor:
        """Number of singular values above epsilon, ``[B, K]``."""
        activity = spikes.mean(dim=0)
        if activity.dim() == 2:
            return (activity > self.epsilon).float()
        return (torch.linalg.svdvals(activity) > self.epsilon).float().sum(dim=2)
