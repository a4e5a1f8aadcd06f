"""Fisher Spike Contribution (FSC), a score of units."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spikefit.functional.fisher import (
    fisher_sum,
    spike_contribution,
)
from spikefit.networks.blocks import Network
from spikefit.prune.groups import unit_groups
from spikefit.prune.scores.base import Batch, LossPerSample, Score
from spikefit.prune.scores.fisher import FisherImportance


class FSC(FisherImportance, Score):
    """Fisher Spike Contribution, ``1/(2N) * sum_n (sum_{t,h,w} dL_n/ds_k * s_k)**2`` with ``L = -log p(y|x)``.

    This is the Fisher information of a gate on the unit's spikes. The contributions of blocks that a shortcut ties
    together are added before the square, because one gate silences them all. Arguments are those of
    :class:`FisherImportance`.

    Example:
        >>> from torch.nn.functional import cross_entropy
        >>> from spikefit.networks import MLP
        >>> network = MLP((1, 8, 8), 10, hidden=[16]).eval()
        >>> batch = torch.ones(4, 2, 1, 8, 8), torch.tensor([3, 7])
        >>> totals, samples = FSC().accumulate(network, [batch], lambda x, y: cross_entropy(x, y, reduction="none"))
        >>> totals["fc1"].shape, samples
        (torch.Size([16]), 2)
    """

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score over samples, and the number of samples.

        Spikes are recorded after the pooling, so that norm, neuron and pooling can run as one kernel.
        """
        groups = unit_groups(network)
        totals: dict[str, Tensor] = {}
        samples = 0
        blocks = {name: network.block(name) for group in groups for name in group.blocks}
        for batch in self.passes(network, blocks, batches, loss):
            for gradients in batch.gradients():
                by_block = {
                    name: spike_contribution(batch.outputs[name].detach().float(), gradient.float())
                    for name, gradient in gradients.items()
                }
                for group in groups:
                    contribution = torch.stack([by_block[name] for name in group.blocks]).sum(dim=0)
                    totals[group.name] = totals.get(group.name, 0) + fisher_sum(contribution)
            samples += batch.samples
        return totals, samples
