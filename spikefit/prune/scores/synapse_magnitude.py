"""Magnitude of the weight as a score of synapses."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses
from spikefit.prune.scores.base import Batch, LossPerSample, SynapseScore


class SynapseMagnitude(SynapseScore):
    """Magnitude of the weight that the layer uses (Han et al. 2015, arXiv 1506.02626).

    Example:
        >>> from spikefit.networks import MLP
        >>> totals, _ = SynapseMagnitude().accumulate(MLP((1, 8, 8), 10, hidden=[16]), [], None)
        >>> {name: score.shape for name, score in totals.items()}
        {'fc1': torch.Size([16, 64]), 'readout': torch.Size([10, 16])}
    """

    def __init__(self) -> None:
        super().__init__(0)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Magnitudes of live weights, and a sample count of 1."""
        layers = network.named_synapses()
        return {name: layer.weight.abs() * live_synapses(network, name) for name, layer in layers}, 1
