"""What the removal of each unit really costs: the ground truth that scores are measured against."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import alive_units, set_alive, unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score


class Oracle(Score):
    """The change of the loss when a unit falls silent, without training anew: ``1/N * sum_n L_n(without k) - L_n``.

    One forward pass a unit and batch: for small networks, and to judge other scores by (``scripts/rank_scores.py``).
    A dead unit scores 0.

    Args:
        batches: how many training batches to look at.
    """

    def __init__(self, batches: int = 8) -> None:
        super().__init__(batches)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums over samples; the network's own masks are set and restored."""
        groups = unit_groups(network)
        totals = {group.name: torch.zeros(group.units, dtype=torch.float64) for group in groups}
        samples = 0
        for inputs, labels in batches:
            whole = loss(network.logits(network(inputs)), labels)
            for group in groups:
                alive = alive_units(network, group).clone()
                for unit in alive.nonzero().flatten().tolist():
                    without = alive.clone()
                    without[unit] = False
                    set_alive(network, group, without)
                    changed = loss(network.logits(network(inputs)), labels) - whole
                    totals[group.name][unit] += changed.double().sum().cpu()
                set_alive(network, group, alive)
            samples += len(labels)
        return totals, samples
