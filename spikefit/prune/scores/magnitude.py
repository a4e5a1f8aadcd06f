"""Magnitude of the weights as a score of units."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses, unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score


class Magnitude(Score):
    """Mean magnitude of a unit's incoming live weights.

    This is their L1 norm (Li et al. 2017, arXiv 1608.08710) divided by their number. Weights of a convolutional
    shortcut are incoming weights of its block. The means of tied blocks are added.

    Example:
        >>> from spikefit.networks import MLP
        >>> totals, _ = Magnitude().accumulate(MLP((1, 8, 8), 10, hidden=[16]), [], None)
        >>> {name: score.shape for name, score in totals.items()}
        {'fc1': torch.Size([16])}
    """

    def __init__(self) -> None:
        super().__init__(0)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Mean magnitude of each unit's incoming weights, and a sample count of 1."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for name, layer in network.named_synapses():
            block = name.partition(".")[0]
            live = live_synapses(network, name).flatten(1)
            sums[block] = sums.get(block, 0) + (layer.weight.flatten(1).abs() * live).sum(dim=1)
            counts[block] = counts.get(block, 0) + live.sum(dim=1)
        means = {name: sums[name] / counts[name].clamp_min(1) for name in sums}
        groups = unit_groups(network)
        return {group.name: torch.stack([means[name] for name in group.blocks]).sum(dim=0) for group in groups}, 1
