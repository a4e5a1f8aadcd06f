"""Scores of units from their spikes alone."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.networks.blocks import Network
from spikefit.prune.groups import unit_groups
from spikefit.prune.scores import Batch, LossPerSample, Score, recorded_spikes


class ActivityScore(Score):
    """A score that adds up what it sees in each sample's spikes; tied blocks add theirs.

    Args:
        batches: how many training batches to look at.
    """

    def __init__(self, batches: int = 8) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches)

    @abstractmethod
    def of_spikes(self, spikes: Tensor) -> Tensor:
        """The score of each unit in each sample, ``[B, K]``, from a block's spikes ``[T, B, K]`` or with ``H, W``."""

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums over samples."""
        groups = unit_groups(network)
        totals: dict[str, Tensor] = {}
        samples = 0
        with recorded_spikes(network) as spikes:
            for inputs, labels in batches:
                network(inputs)
                for group in groups:
                    seen = [self.of_spikes(spikes[name].float()).sum(dim=0) for name in group.blocks]
                    totals[group.name] = totals.get(group.name, 0) + torch.stack(seen).sum(dim=0)
                samples += len(labels)
        return totals, samples


class FiringRate(ActivityScore):
    """Mean spikes a neuron, step and sample: the unit that fires least goes first.

    Args:
        batches: how many training batches to look at.
    """

    def of_spikes(self, spikes: Tensor) -> Tensor:
        """Mean over steps and map."""
        rate = spikes.mean(dim=0)
        return rate.flatten(2).mean(dim=2) if rate.dim() > 2 else rate


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
