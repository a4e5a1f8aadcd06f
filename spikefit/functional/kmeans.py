"""Exact one-dimensional k-means.

In one dimension clusters are intervals, so dynamic programming finds the optimum without restarts (Wang and Song 2011).
The search itself is in :mod:`spikefit.functional.kernels.cpu.kmeans`.
"""

import torch
from torch import Tensor

from spikefit.errors import check_range


def kmeans_1d(values: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Centroids that minimise the total squared distance.

    Costs are differences of float64 sums. Clusterings whose costs differ by less than about ``1e-12`` of the squared
    distances to the mean of *all* values are not distinguished. The result is deterministic.

    Args:
        values: any shape, at least one value, all finite; searched on the CPU, in float64 for float64 values and in
            float32 for all others.
        clusters: number of centroids; if ``values`` has fewer distinct numbers, the largest centroid is repeated.

    Returns:
        Centroids ``[clusters]``, ascending, in the dtype and on the device of ``values``, and the number of values that
        each one serves, int64 ``[clusters]`` (0 for a repeated centroid).

    Raises:
        ConfigurationError: for ``clusters`` below 1.
        ValueError: for no values or non-finite values.
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
