"""Exact one-dimensional k-means.

In one dimension clusters are intervals, so that the optimum is found by dynamic programming instead of by restarts
(Wang and Song 2011). The ``kmeans1d`` package does it in O(k n + n log n).
"""

import kmeans1d
import torch
from torch import Tensor

from spikefit.errors import check_range


def kmeans_1d(values: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Centroids of least total squared distance.

    Args:
        values: any shape, at least one finite value.
        clusters: how many centroids; when ``values`` holds fewer distinct numbers, the largest is repeated.

    Returns:
        centroids ``[clusters]``, ascending, and how many values each one serves, int64 ``[clusters]`` (0 for a repeated
        one); dtype and device of ``values`` for the centroids.

    Raises:
        ConfigurationError: for ``clusters`` below 1.
        ValueError: for no values or non-finite ones.
    """
    check_range("clusters", clusters, 1)
    flat = values.detach().flatten().to("cpu", torch.float64)
    if flat.numel() == 0 or not bool(flat.isfinite().all()):
        raise ValueError(f"k-means needs at least one value, all finite; got {flat.numel()} values.")
    distinct = int(torch.unique(flat).numel())
    found = kmeans1d.cluster(flat.tolist(), min(clusters, distinct))
    centroids, order = torch.tensor(found.centroids, dtype=torch.float64).sort()
    counts = torch.bincount(torch.tensor(found.clusters), minlength=len(centroids))[order]
    missing = clusters - len(centroids)
    if missing:
        centroids = torch.cat([centroids, centroids[-1:].expand(missing)])
        counts = torch.cat([counts, counts.new_zeros(missing)])
    return centroids.to(values), counts.to(values.device)
