"""Coordinate descent of :mod:`spikefit.functional.output_matching` as a numba kernel."""

from typing import Any

import numpy as np
from numba import prange
from torch import Tensor

from spikefit.functional.kernels.cpu.jit import jit, parallel, use_torch_threads

Array = np.ndarray[Any, Any]


@jit
def _sweep_row(row: int, gram: Array, codebook: Array, gain: Array, wanted: Array, held: Array, index: Array) -> int:
    moved, a, w, p = 0, gain[row], wanted[row], held[row]
    for i in range(len(w)):
        here, slope = codebook[index[row, i]], w[i] - a * p[i]
        best, least = index[row, i], 0.0
        for m in range(len(codebook)):
            step = a * (codebook[m] - here)
            change = step * (step * gram[i, i] - 2 * slope)
            if change < least:
                best, least = m, change
        if best != index[row, i]:
            step = codebook[best] - here
            for j in range(len(p)):
                p[j] += step * gram[i, j]
            index[row, i] = best
            moved += 1
    return moved


@parallel
def _sweep(gram: Array, codebook: Array, gain: Array, wanted: Array, held: Array, index: Array, moved: Array) -> None:
    for row in prange(len(wanted)):
        moved[row] = _sweep_row(np.int64(row), gram, codebook, gain, wanted, held, index)


def sweep(gram: Tensor, codebook: Tensor, gain: Tensor, wanted: Tensor, projected: Tensor, index: Tensor) -> int:
    """Move each weight in turn to the codebook value of least error, in every row.

    Args:
        gram: float64 ``[n, n]``, symmetric.
        codebook: float64 ``[M]``.
        gain: float64 ``[rows]``.
        wanted: float64 ``[rows, n]``, ``weight @ gram``.
        projected: float64 ``[rows, n]``, ``codebook[index] @ gram``; updated in place.
        index: int64 ``[rows, n]``; updated in place.

    Returns:
        The number of weights that moved. The error of a row never increases.
    """
    use_torch_threads()
    moved = np.zeros(len(wanted), dtype=np.int64)
    _sweep(*(x.contiguous().numpy() for x in (gram, codebook, gain, wanted)), projected.numpy(), index.numpy(), moved)
    return int(moved.sum())
