"""Fisher Spike Contribution: how much the loss would change if a unit fell silent."""

from torch import Tensor


def spike_contribution(spikes: Tensor, gradient: Tensor) -> Tensor:
    """First-order effect of each unit's gate on each sample's loss, ``dL_n/dg_k = sum_{t,h,w} dL_n/ds * s``.

    Args:
        spikes: ``[T, B, K, ...]``.
        gradient: the gradient of the *sum* over samples of the loss with respect to ``spikes``, same shape.

    Returns:
        ``[B, K]``.
    """
    product = (spikes * gradient).sum(dim=0)
    return product.flatten(2).sum(dim=2) if product.dim() > 2 else product


def fisher_sum(contribution: Tensor) -> Tensor:
    """Sum over samples of half the squared contribution, ``1/2 * sum_n (dL_n/dg_k)**2``.

    Divided by the number of samples this is the diagonal of the empirical Fisher information of the gates, the
    second-order estimate of the loss change (Theis et al. 2018, arXiv 1801.05787), taken on spikes. The square comes
    before the sum over samples.

    Args:
        contribution: ``[B, K]`` from :func:`spike_contribution`.

    Returns:
        ``[K]``.
    """
    return contribution.square().sum(dim=0) / 2
