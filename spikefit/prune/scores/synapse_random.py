"""Random score of synapses."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses
from spikefit.prune.scores.base import Batch, LossPerSample, SynapseScore


class SynapseRandom(SynapseScore):
    """Seeded random score of synapses: the baseline for all other scores.

    Args:
        seed: seed of the random numbers; the global random state is not used.

    Example:
        >>> from spikefit.networks import MLP
        >>> totals, _ = SynapseRandom(seed=0).accumulate(MLP((1, 8, 8), 10, hidden=[16]), [], None)
        >>> totals["readout"].shape
        torch.Size([10, 16])
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(0)
        self.seed = seed

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Uniform random numbers in [0, 1) for live synapses, and a sample count of 1."""
        generator = torch.Generator().manual_seed(self.seed)
        scores = {}
        for name, layer in network.named_synapses():
            live = live_synapses(network, name)
            scores[name] = torch.rand(layer.weight.shape, generator=generator).to(live.device) * live
        return scores, 1
