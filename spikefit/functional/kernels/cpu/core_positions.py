"""Positions of cores on a mesh: the hops of their messages, and a local search for fewer, as numba kernels."""

from typing import Any

import numpy as np

from spikefit.functional.kernels.cpu.jit import jit

Array = np.ndarray[Any, Any]


@jit
def _hops(
    core: int, y: int, x: int, without: int, ys: Array, xs: Array, starts: Array, ends: Array, messages: Array
) -> float:
    """Hops of the messages of ``core`` at ``(y, x)``, except for those exchanged with the core ``without``."""
    total = 0.0
    for entry in range(starts[core], starts[core + 1]):
        end = ends[entry]
        if end != without:
            total += messages[entry] * (abs(ys[end] - y) + abs(xs[end] - x))
    return total


@jit
def total_hops(ys: Array, xs: Array, starts: Array, ends: Array, messages: Array) -> float:
    """Hops of all messages; arguments as in :func:`improve`."""
    total = 0.0
    for core in range(len(ys)):
        total += _hops(core, ys[core], xs[core], -1, ys, xs, starts, ends, messages)
    return total / 2  # every message is in the symmetric matrix twice


@jit
def improve(ys: Array, xs: Array, grid: Array, starts: Array, ends: Array, messages: Array, sweeps: int) -> int:
    """Move each core towards the cores with which it exchanges messages, as long as this saves hops; in place.

    A core swaps positions with the content of one of the nine positions around the weighted mean of its partners if
    that lowers the hops of both; the best of the nine is taken.

    Args:
        ys, xs: position of each core, int64 ``[K]``.
        grid: the core at each position, -1 for none, int64 ``[rows, columns]``.
        starts, ends, messages: symmetric matrix of messages in compressed rows, int64 ``[K + 1]``, int64 and float64
            ``[entries]``.
        sweeps: maximum number of rounds over all cores.

    Returns:
        The number of moves.
    """
    moves = 0
    for _ in range(sweeps):
        before = moves
        for core in range(len(ys)):
            weight = y_sum = x_sum = 0.0
            for entry in range(starts[core], starts[core + 1]):
                weight += messages[entry]
                y_sum += messages[entry] * ys[ends[entry]]
                x_sum += messages[entry] * xs[ends[entry]]
            if weight == 0:
                continue
            middle_y, middle_x = round(y_sum / weight), round(x_sum / weight)
            best, best_y, best_x = -1e-9, -1, -1
            for y in range(max(0, middle_y - 1), min(grid.shape[0], middle_y + 2)):
                for x in range(max(0, middle_x - 1), min(grid.shape[1], middle_x + 2)):
                    other = grid[y, x]
                    if other == core:
                        continue
                    change = _hops(core, y, x, other, ys, xs, starts, ends, messages)
                    change -= _hops(core, ys[core], xs[core], other, ys, xs, starts, ends, messages)
                    if other >= 0:
                        change += _hops(other, ys[core], xs[core], core, ys, xs, starts, ends, messages)
                        change -= _hops(other, y, x, core, ys, xs, starts, ends, messages)
                    if change < best:
                        best, best_y, best_x = change, y, x
            if best_y >= 0:
                other = grid[best_y, best_x]
                grid[ys[core], xs[core]] = other
                if other >= 0:
                    ys[other], xs[other] = ys[core], xs[core]
                ys[core], xs[core] = best_y, best_x
                grid[best_y, best_x] = core
                moves += 1
        if moves == before:
            break
    return moves
