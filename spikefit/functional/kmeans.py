"""Exact one-dimensional k-means.

In one dimension clusters are intervals, so that the optimum is found by dynamic programming instead of by restarts
(Wang and Song 2011). The search itself is in :mod:`spikefit.functional.kernels.cpu.kmeans`.
"""

import torch
from torch import Tensor

from spikefit.errors import check_range


def kmeans_1d(values: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Centroids of least total squared distance.

    Costs are differences of float64 sums: two ways to cluster whose costs differ by less than about ``1e-12`` of the
    squared distances to the mean of *all* values are one to it. The result depends on nothing but ``values``.

    Args:
        values: any shape, at least one finite value; searched on the CPU, in float64 if they are that, else in float32.
        clusters: how many centroids; when ``values`` holds fewer distinct numbers, the largest is repeated.

    Returns:
        centroids ``[clusters]``, ascending, and how many values each one serves, int64 ``[clusters]`` (0 for a repeated
        one); dtype and device of ``values`` for the centroids.

    Raises:
        ConfigurationError: for ``clusters`` below 1.
        ValueError: for no values or non-finite ones.
    """
    from spikefit.functional.kernels.cpu.kmeans import cluster  # numba takes a while to import

    check_range("clusters", clusters, 1)
    wide = values.dtype == torch.float64
    flat = values.detach().flatten().to("cpu", torch.float64 if wide else torch.float32).contiguous()
    if flat.numel() == 0:
        raise ValueError("k-means needs at least one finite value; got none.")
    found, served = cluster(flat.numpy(), clusters)
    centroids, counts = torch.from_numpy(found), torch.from_numpy(served)
    missing = clusters - len(centroids)
    if missing:
        centroids = torch.cat([centroids, centroids[-1:].expand(missing)])
        counts = torch.cat([counts, counts.new_zeros(missing)])
    return centroids.to(values), counts.to(values.device)
