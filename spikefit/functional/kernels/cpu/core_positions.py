"""Local search for cores that talk to each other, as a numba kernel."""

from typing import Any

import numpy as np

from spikefit.functional.kernels.cpu.jit import jit

Array = np.ndarray[Any, Any]


@jit
def _cost(
    core: int, y: int, x: int, other: int, ys: Array, xs: Array, starts: Array, ends: Array, traffic: Array
) -> float:
    """Messages times distance of ``core`` at ``(y, x)``, without those of ``other``, with which it changes places."""
    total = 0.0
    for entry in range(starts[core], starts[core + 1]):
        end = ends[entry]
        if end != other:
            total += traffic[entry] * (abs(ys[end] - y) + abs(xs[end] - x))
    return total


@jit
def improve(ys: Array, xs: Array, grid: Array, starts: Array, ends: Array, traffic: Array, sweeps: int) -> int:
    """Move each core towards the middle of those that it talks to, while that saves messages times distance.

    Works in place. A core changes places with whatever is at one of the nine places around the weighted mean of its
    partners, if the sum of both falls; the best of the nine is taken.

    Args:
        ys, xs: place of each core, int64 ``[K]``.
        grid: the core at each place, -1 for none, int64 ``[rows, columns]``.
        starts, ends, traffic: symmetric traffic in compressed rows, int64 ``[K + 1]``, int64 and float64 ``[entries]``.
        sweeps: most rounds over all cores.

    Returns:
        The number of moves.
    """
    moves = 0
    for _ in range(sweeps):
        before = moves
        for core in range(len(ys)):
            weight = y_sum = x_sum = 0.0
            for entry in range(starts[core], starts[core + 1]):
                weight += traffic[entry]
                y_sum += traffic[entry] * ys[ends[entry]]
                x_sum += traffic[entry] * xs[ends[entry]]
            if weight == 0:
                continue
            middle_y, middle_x = round(y_sum / weight), round(x_sum / weight)
            best, best_y, best_x = -1e-9, -1, -1
            for y in range(max(0, middle_y - 1), min(grid.shape[0], middle_y + 2)):
                for x in range(max(0, middle_x - 1), min(grid.shape[1], middle_x + 2)):
                    other = grid[y, x]
                    if other == core:
                        continue
                    change = _cost(core, y, x, other, ys, xs, starts, ends, traffic)
                    change -= _cost(core, ys[core], xs[core], other, ys, xs, starts, ends, traffic)
                    if other >= 0:
                        change += _cost(other, ys[core], xs[core], core, ys, xs, starts, ends, traffic)
                        change -= _cost(other, y, x, core, ys, xs, starts, ends, traffic)
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
