"""Random score of units."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score


class Random(Score):
    """Seeded random score of units: the baseline for all other scores.

    Args:
        seed: seed of the random numbers; the global random state is not used.

    Example:
        >>> from spikefit.networks import MLP
        >>> totals, samples = Random(seed=0).accumulate(MLP((1, 8, 8), 10, hidden=[16]), [], None)
        >>> totals["fc1"].shape, samples
        (torch.Size([16]), 1)
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(0)
        self.seed = seed

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Uniform random numbers in [0, 1), and a sample count of 1."""
        generator = torch.Generator().manual_seed(self.seed)
        return {group.name: torch.rand(group.units, generator=generator) for group in unit_groups(network)}, 1
