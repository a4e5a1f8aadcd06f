"""A random order of units as a score."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score


class Random(Score):
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
        """Uniform numbers in [0, 1)."""
        generator = torch.Generator().manual_seed(self.seed)
        return {group.name: torch.rand(group.units, generator=generator) for group in unit_groups(network)}, 1
