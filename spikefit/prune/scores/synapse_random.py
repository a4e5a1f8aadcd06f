"""A random order of synapses as a score."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses
from spikefit.prune.scores.base import Batch, LossPerSample, SynapseScore


class SynapseRandom(SynapseScore):
    """A seeded random order: the baseline that every score must beat.

    Args:
        seed: of the order; it does not touch the global random state.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(0)
        self.seed = seed

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Uniform numbers in [0, 1) for live synapses."""
        generator = torch.Generator().manual_seed(self.seed)
        scores = {}
        for name, layer in network.named_synapses():
            live = live_synapses(network, name)
            scores[name] = torch.rand(layer.weight.shape, generator=generator).to(live.device) * live
        return scores, 1
