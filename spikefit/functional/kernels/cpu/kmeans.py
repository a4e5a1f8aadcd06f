"""Exact one-dimensional k-means in a few passes over the values, without sorting all of them.

Optimal clusters are intervals, so ``M`` clusters are ``M - 1`` cuts of the sorted values. The values are first
summarised in consecutive *cells*: bins, later runs of sorted values, finally single values. Over cells,

* cuts only at the borders of cells give an upper bound of the optimal cost, and
* cuts *inside* cells give a lower bound for each cell that may contain a cut, if the values of the cells that are cut
  are taken to cost nothing (part of a cluster never costs more than the whole cluster).

A cell whose lower bound exceeds the upper bound contains no cut of an optimum. A few short *stretches* of cells remain
for each cut. Only their values are sorted. Dynamic programming over the stretches is exact, because all values between
two stretches belong to one cluster. The best cut moves to the right with the end of the cluster (the cost is a Monge
array), so each step takes ``O(n log n)``.

A cell is a count and a sum. Its sum of squares is computed as if all its values were equal. This omits the same amount
for all cuts that keep the cell whole.
"""

import itertools
import math
from typing import Any

import numpy as np

from spikefit.functional.kernels.cpu.jit import jit

Array = np.ndarray[Any, Any]
_BINS = 1 << 14
_CELLS = 1 << 10  # per cut, in a round that shortens the stretches
_FEW = 1 << 14  # positions of cuts that are searched without another round
_SLACK = 1e-11  # rounding error of sums, relative to the total sum of squares


@jit
def _bin(y: float, least: float, per_unit: float, bins: int) -> int:
    """Bin of ``y``: monotonic in ``y``, so equal values share a bin."""
    return min(bins - 1, int((y - least) * per_unit))


@jit
def _histogram(values: Array, frame: Array, bins: Array) -> None:
    """Count and sum of ``y = values * factor - shift`` in each bin.

    Args:
        values: ``[N]``.
        frame: factor, shift, the smallest ``y``, and bins per unit of ``y``.
        bins: float64 ``[B, 2]``, zeros; the result.
    """
    factor, shift, least, per_unit = frame[0], frame[1], frame[2], frame[3]  # else the array is read for each value
    for i in range(len(values)):
        y = values[i] * factor - shift
        cell = _bin(y, least, per_unit, len(bins))
        bins[cell, 0] += 1
        bins[cell, 1] += y


@jit
def _collect(values: Array, frame: Array, wanted: Array, out: Array) -> None:
    """Copy the values of the ``wanted`` bins (0 or 1) to ``out``, which is longer by one."""
    factor, shift, least, per_unit = frame[0], frame[1], frame[2], frame[3]
    position = 0
    for i in range(len(values)):
        out[position] = values[i]  # overwritten by the next value unless wanted; faster than a branch
        position += wanted[_bin(values[i] * factor - shift, least, per_unit, len(wanted))]


@jit
def _append(ordered: Array, frame: Array, prefix: Array, row: int) -> int:
    """Append a cell for each distinct value to ``prefix``, filled up to border ``row``; return the last border."""
    factor, shift = frame[0], frame[1]
    for i in range(len(ordered)):
        y = ordered[i] * factor - shift
        if i == 0 or ordered[i] != ordered[i - 1]:
            row += 1
            prefix[row] = prefix[row - 1]
        prefix[row, 0] += 1
        prefix[row, 1] += y
        prefix[row, 2] += y * y
    return row


@jit
def _cost(prefix: Array, i: int, j: int) -> float:
    """Sum of squared distances to the mean of the values between the borders ``i`` and ``j``."""
    if j <= i:
        return 0.0
    n = prefix[j, 0] - prefix[i, 0]
    if n <= 0:
        return 0.0
    s = prefix[j, 1] - prefix[i, 1]
    return max(0.0, prefix[j, 2] - prefix[i, 2] - s * s / n)


@jit
def _forward(prefix: Array, gap: int, places: Array, start: Array) -> tuple[Array, Array]:
    """Least cost of all clusters before each possible position of each cut.

    Args:
        prefix: count, sum and sum of squares up to each border, ``[cells + 1, 3]``.
        gap: 0 for cuts on borders, with at least one cell per cluster; 1 for cuts inside cells, which cost nothing.
        places: possible positions of each cut, ascending, one cut after the other; both ends count as cuts.
        start: index in ``places`` at which the positions of each cut begin, and their total, int64 ``[M + 2]``.

    Returns:
        The cost of each position, infinite if it cannot be reached, and the index of the position of the previous cut.
    """
    best = np.full(len(places), np.inf)
    before = np.zeros(len(places), np.int64)
    best[: start[1]] = 0
    for k in range(1, len(start) - 1):
        count = start[k + 1] - start[k]
        step = 1
        while step < count:
            step *= 2
        while step >= 1:  # every second remaining position; its known neighbours bound the previous cut
            for i in range(start[k] + step - 1, start[k + 1], 2 * step):
                left = before[i - step] if i - step >= start[k] else start[k - 1]
                right = before[i + step] if i + step < start[k + 1] else start[k] - 1
                least, index = np.inf, start[k - 1]
                for j in range(left, right + 1):
                    if places[j] >= places[i] + gap:
                        break
                    cost = best[j] + _cost(prefix, places[j] + gap, places[i])
                    if cost < least:
                        least, index = cost, j
                best[i], before[i] = least, index
            step //= 2
    return best, before


def cluster(values: Array, clusters: int) -> tuple[Array, Array]:
    """Centroids that minimise the total squared distance.

    Args:
        values: float32 or float64 ``[N]``, contiguous, ``N >= 1``.
        clusters: number of clusters, at least 1.

    Returns:
        The centroids, ascending, float64, and the number of values that each one serves, int64; fewer than ``clusters``
        if there are fewer distinct values.

    Raises:
        ValueError: for values that are not finite.
    """
    frame = _frame(values)
    prefix, stretches = _cells(values, frame, clusters)
    if len(prefix) - 1 > clusters:
        prefix = prefix[_best_cuts(prefix, _shrink(prefix, stretches, _FEW))]
    counts, sums, _ = np.diff(prefix, axis=0).T
    means = (sums / counts + frame[1]) / frame[0]
    # Differences of sums are rounded, so two nearly equal means may come out in the wrong order.
    return np.maximum.accumulate(means), counts.astype(np.int64)


def _frame(values: Array) -> Array:
    """Factor, shift, smallest value and bins per unit that scale ``values`` to about [-1, 1], centred at 0.

    The factor is a power of two and the shift is the mean of some values: this keeps the rounding errors of sums of
    squares small.
    """
    least, largest = float(values.min()), float(values.max())
    if not (math.isfinite(least) and math.isfinite(largest)):
        raise ValueError(f"k-means needs finite values; they range from {least} to {largest}.")
    _, exponent = math.frexp(max(-least, largest))
    factor = math.ldexp(1.0, max(-1000, min(1000, -exponent)))
    shift = float((values[:: max(1, len(values) >> 13)].astype(np.float64) * factor).mean())
    least, largest = least * factor - shift, largest * factor - shift
    return np.array([factor, shift, least, _BINS / max(largest - least, 1e-300)])


def _cells(values: Array, frame: Array, clusters: int) -> tuple[Array, list[Array]]:
    """Cells that are single values where an optimal cut is possible, and the stretches of possible cuts.

    Returns:
        Count, sum and sum of squares up to each border, ``[C + 1, 3]``; for each cut its stretches ``[n, 2]``, the
        first and the last border of each.
    """
    if len(values) > 2 * _FEW:
        bins = np.zeros((_BINS, 2))
        _histogram(values, frame, bins)
        if np.count_nonzero(bins[:, 0]) >= clusters:  # else there may be too few distinct values
            return _cells_around_cuts(values, frame, clusters, bins)
    prefix = np.zeros((len(values) + 1, 3))
    last = _append(np.sort(values), frame, prefix, 0)
    return prefix[: last + 1], [np.array([[0, last]])] * (clusters - 1)


def _cells_around_cuts(values: Array, frame: Array, clusters: int, bins: Array) -> tuple[Array, list[Array]]:
    """Compute :func:`_cells` from ``bins`` ``[B, 2]``."""
    binned = np.zeros((_BINS + 1, 3))
    squares = bins[:, 1] ** 2 / np.maximum(bins[:, 0], 1)
    np.cumsum(np.column_stack([bins, squares]), axis=0, out=binned[1:])
    stretches = _shrink(binned, [np.array([[0, _BINS]])] * (clusters - 1), 0, (0.5 / frame[3]) ** 2)
    wanted = np.zeros(_BINS, np.uint8)
    for first, last in itertools.chain(*stretches):
        wanted[first:last] = 1
    ordered = np.empty(int(bins[wanted > 0, 0].sum()) + 1, values.dtype)
    _collect(values, frame, wanted, ordered)
    ordered = np.sort(ordered[:-1])
    edges = [0, *(np.flatnonzero(np.diff(wanted)) + 1), _BINS]
    prefix, row, position = np.zeros((len(ordered) + len(edges), 3)), 0, 0
    for first, last in itertools.pairwise(edges):
        count, total, _ = binned[last] - binned[first]
        if wanted[first]:
            end = position + int(count)
            row = _append(ordered[position:end], frame, prefix, row)
            position = end
        elif count:
            prefix[row + 1] = prefix[row] + [count, total, total**2 / count]
            row += 1
    prefix = prefix[: row + 1]
    # No cell is empty, so its count identifies a border. No stretch is empty either: by the lower bound, a cut in the
    # first non-empty bin after an empty bin is no worse.
    return prefix, [np.searchsorted(prefix[:, 0].copy(), binned[part, 0]) for part in stretches]


def _stretches(cells: Array) -> Array:
    """First and last border ``[n, 2]`` of each run of consecutive ``cells``, which ascend."""
    breaks = np.flatnonzero(np.diff(cells) > 1)
    return np.stack([cells[np.concatenate([[0], breaks + 1])], cells[np.concatenate([breaks, [-1]])] + 1], axis=1)


def _length(stretches: Array) -> int:
    return int(np.diff(stretches).sum())


def _places(stretches: Array, ends: int) -> Array:
    """The cells (``ends`` 0) or the borders (``ends`` 1) of ``stretches``."""
    return np.concatenate([np.arange(first, last + ends) for first, last in stretches])


def _shrink(prefix: Array, stretches: list[Array], few: int, spread: float = 0.0) -> list[Array]:
    """Shorten the stretches of each cut; they still contain all optimal cuts.

    Stops at ``few`` positions per cut, at single cells, or when a round halves the length for no cut.

    Args:
        prefix: sums up to each border, ``[C + 1, 3]``.
        stretches: of each cut.
        few: number of positions per cut at which to stop.
        spread: upper bound of what a value adds to the cost of its cell beyond the cost by ``prefix``.
    """
    ceiling = math.inf
    lengths = [_length(part) for part in stretches]
    while max(lengths, default=0) > few:
        strides = [-(-length // _CELLS) for length in lengths]
        inside = [np.arange(a, b, s) for part, s in zip(stretches, strides, strict=True) for a, b in part]
        chosen = np.sort(np.concatenate([*inside, *map(np.ravel, stretches), [0, len(prefix) - 1]]))
        chosen = chosen[np.append(True, chosen[1:] != chosen[:-1])]
        spans = [np.searchsorted(chosen, part) for part in stretches]
        ceiling, kept = _narrow(prefix[chosen], spans, ceiling, spread)
        stretches = [chosen[_stretches(part)] for part in kept]
        before, lengths = lengths, [_length(part) for part in stretches]
        if max(strides) == 1 or not any(2 * new < old for new, old in zip(lengths, before, strict=True)):
            break
    return stretches


def _narrow(prefix: Array, spans: list[Array], ceiling: float, spread: float) -> tuple[float, list[Array]]:
    """Cells in the stretches ``spans`` that may contain an optimal cut, and a tighter upper bound of the least cost."""
    last = len(prefix) - 1
    borders = [np.array([0]), *(_places(part, 1) for part in spans), np.array([last])]
    ceiling = min(ceiling, _search(prefix, 0, borders)[0][-1])
    cells = [np.array([-1]), *(_places(part, 0) for part in spans), np.array([last])]  # both ends lie outside all cells
    least, _, start = _search(prefix, 1, cells)
    mirrored = np.ascontiguousarray((prefix[-1] - prefix)[::-1])
    least += _search(mirrored, 1, [last - 1 - part[::-1] for part in reversed(cells)])[0][::-1]
    margin = _SLACK * prefix[-1, 2] + spread * len(spans) * np.diff(prefix[:, 0]).max()
    possible = np.split(least <= ceiling + margin, start[1:-1])
    return ceiling, [part[kept] for part, kept in zip(cells, possible, strict=True)][1:-1]


def _best_cuts(prefix: Array, stretches: list[Array]) -> Array:
    """The borders ``[M + 1]`` of the optimal clusters, including both ends."""
    places = [np.array([0]), *(_places(part, 1) for part in stretches), np.array([len(prefix) - 1])]
    _, before, _ = _search(prefix, 0, places)
    index = [len(before) - 1]
    for _ in places[1:]:
        index.append(before[index[-1]])
    return np.concatenate(places)[index[::-1]]


def _search(prefix: Array, gap: int, places: list[Array]) -> tuple[Array, Array, Array]:
    """Run :func:`_forward` for a list of positions per cut; also return its ``start``."""
    start = np.cumsum([0, *map(len, places)])
    return *_forward(prefix, gap, np.concatenate(places), start), start
