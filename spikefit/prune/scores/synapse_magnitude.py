"""Magnitude of single weights as a score."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses
from spikefit.prune.scores.base import Batch, LossPerSample, SynapseScore


class SynapseMagnitude(SynapseScore):
    """Magnitude of the weight that the layer uses (Han et al. 2015, arXiv 1506.02626)."""

    def __init__(self) -> None:
        super().__init__(0)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Magnitudes of live weights."""
        layers = network.named_synapses()
        return {name: layer.weight.abs() * live_synapses(network, name) for name, layer in layers}, 1
