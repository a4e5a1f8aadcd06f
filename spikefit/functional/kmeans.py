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


def kmeans_1d_with_zero(values: Tensor, clusters: int, rounds: int = 100) -> tuple[Tensor, Tensor]:
    """Centroids of which one is fixed at 0; the others minimise the squared distance, to a local optimum.

    Lloyd's iterations from starts with several numbers of negative centroids and several shares of values that 0
    serves; the best result is taken.

    Args:
        values: as in :func:`kmeans_1d`.
        clusters: number of centroids, 0 included, at least 2.
        rounds: most iterations.

    Returns:
        The centroids besides 0, ``[clusters - 1]``, ascending, and the number of values that each one serves.

    Raises:
        ConfigurationError: for ``clusters`` below 2.
        ValueError: for no values or non-finite values.

    Example:
        >>> kmeans_1d_with_zero(torch.tensor([-2.0, -2.0, 0.1, 0.2, 3.0]), 3)[0].tolist()
        [-2.0, 3.0]
    """
    check_range("clusters", clusters, 2)
    ordered = values.detach().flatten().to("cpu", torch.float64).sort().values
    if not len(ordered) or not bool(ordered.isfinite().all()):
        raise ValueError("k-means needs at least one finite value and no others.")
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    magnitudes = ordered.abs().sort().values
    best: tuple[float, Tensor, Tensor] | None = None
    for share in (0.0, 0.2, 0.4, 0.6, 0.8):  # of the values that 0 serves at first
        width = magnitudes[int(share * len(magnitudes))] if share else 0.0
        below, above = ordered[ordered < -width], ordered[ordered > width]
        middle = round((clusters - 1) * len(below) / max(1, len(below) + len(above)))
        for negative in range(max(0, middle - 2), min(clusters - 1, middle + 2) + 1):
            if (len(below) or not negative) and (len(above) or negative == clusters - 1):
                start = torch.cat([_spread(below, negative), _spread(above, clusters - 1 - negative)])
                found = _lloyd(ordered, sums, start, rounds)
                best = found if best is None or found[0] < best[0] else best
    if best is None:  # every value is 0
        return values.new_zeros(clusters - 1), torch.zeros(clusters - 1, dtype=torch.int64, device=values.device)
    return best[1].to(values), best[2].to(values.device)


def _spread(ordered: Tensor, count: int) -> Tensor:
    """``count`` of the values ``ordered``, in the middle of parts of equal size."""
    return ordered[((torch.arange(count) + 0.5) / max(count, 1) * len(ordered)).long()]


def _lloyd(ordered: Tensor, sums: Tensor, centroids: Tensor, rounds: int) -> tuple[float, Tensor, Tensor]:
    """Relative cost, centroids besides a fixed 0, and how many values they serve."""
    for _ in range(rounds):
        every = torch.cat([centroids, centroids.new_zeros(1)]).sort()
        borders = torch.searchsorted(ordered, (every.values[1:] + every.values[:-1]) / 2)
        ends = torch.cat([borders.new_zeros(1), borders, borders.new_full((1,), len(ordered))])
        counts, totals = ends.diff(), sums[ends].diff()
        own = every.indices != len(centroids)  # all but the fixed 0
        counts, totals = counts[own], totals[own]
        centroids, before = torch.where(counts > 0, totals / counts.clamp_min(1), every.values[own]), every.values[own]
        if torch.equal(centroids, before):
            break
    return -float((counts * centroids.square()).sum()), centroids, counts
