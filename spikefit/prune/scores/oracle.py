"""Measured change of the loss on removal of each unit: the ground truth for other scores."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.networks.blocks import Network
from spikefit.prune.groups import alive_units, set_alive, unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score


class Oracle(Score):
    """Change of the loss when a unit is silenced, without retraining: ``1/N * sum_n L_n(without k) - L_n``.

    Takes one forward pass per unit and batch. It is meant for small networks and for evaluating other scores
    (``scripts/rank_scores.py``). A dead unit scores 0.

    Args:
        batches: number of training batches.

    Example:
        >>> from torch.nn.functional import cross_entropy
        >>> from spikefit.networks import MLP
        >>> network = MLP((1, 8, 8), 10, hidden=[16]).eval()
        >>> batch = torch.ones(4, 2, 1, 8, 8), torch.tensor([3, 7])
        >>> totals, _ = Oracle().accumulate(network, [batch], lambda x, y: cross_entropy(x, y, reduction="none"))
        >>> totals["fc1"].shape
        torch.Size([16])
    """

    def __init__(self, batches: int = 8) -> None:
        super().__init__(batches)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score over samples, and the number of samples; the network's masks are set and restored."""
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
