"""A pruning score of your own; the units of lowest score are pruned first."""

from torch import Tensor

from spikefit.prune.scores.activity import ActivityScore


class Information(ActivityScore):
    """Variance of the spikes of a unit: one that never fires, or fires in every step, carries no information."""

    def of_spikes(self, spikes: Tensor) -> Tensor:
        """Score of each unit in each sample, ``[B, K]``, from spikes ``[T, B, K]`` or ``[T, B, K, H, W]``."""
        rate = spikes.mean(dim=0)
        variance = rate * (1 - rate)
        return variance.reshape(*variance.shape[:2], -1).sum(dim=2)
