"""Base class of scores that are computed from spikes alone."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.errors import check_range
from spikefit.networks.blocks import Network
from spikefit.prune.groups import unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score
from spikefit.prune.scores.recording import recorded_spikes


class ActivityScore(Score):
    """Base class of scores that are sums over the spikes of each sample; scores of tied blocks are added.

    Args:
        batches: number of training batches.
    """

    def __init__(self, batches: int = 8) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches)

    @abstractmethod
    def of_spikes(self, spikes: Tensor) -> Tensor:
        """Score of each unit in each sample, ``[B, K]``, from spikes ``[T, B, K]`` or ``[T, B, K, H, W]``."""

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score over samples, and the number of samples."""
        groups = unit_groups(network)
        totals: dict[str, Tensor] = {}
        samples = 0
        with recorded_spikes(network) as spikes:
            for inputs, labels in batches:
                network(inputs)
                for group in groups:
                    sums = [self.of_spikes(spikes[name].float()).sum(dim=0) for name in group.blocks]
                    totals[group.name] = totals.get(group.name, 0) + torch.stack(sums).sum(dim=0)
                samples += len(labels)
        return totals, samples
