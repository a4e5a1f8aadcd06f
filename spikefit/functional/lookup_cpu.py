"""Codebook lookup as numba kernels: one pass over the weights, one byte of index for each."""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from spikefit.functional.jit import jit, opaque, use_torch_threads

Array = np.ndarray[Any, Any]
_RUN = 4096  # weights of a work item
_WAYS = 8  # sums kept side by side, so that an addition needn't wait for the one before


@jit
def lookup(weight: Array, codebook: Array, index: Array, out: Array) -> None:
    """Nearest value ``out`` and its ``index`` (uint8) of each weight ``[G, N]``; ``codebook`` ``[G, M]``, ascending.

    A weight is compared with all ``M - 1`` midpoints in turn: up to M = 256 that is faster than a binary search,
    because it does not branch.
    """
    groups, count = weight.shape
    segments = (count + _RUN - 1) // _RUN
    two = weight.dtype.type(2)
    for item in prange(groups * segments):
        group, start = item // segments, item % segments * _RUN
        end = min(count, start + _RUN)
        w, o, k, c = weight[group, start:end], out[group, start:end], index[group, start:end], codebook[group]
        for i in range(len(w)):
            k[i] = 0
            o[i] = c[0]
        for m in range(1, len(c)):
            midpoint, value = (c[m] + c[m - 1]) / two, c[m]
            for i in range(len(w)):
                above = w[i] > midpoint
                k[i] += np.uint8(above)
                o[i] = value if above else o[i]


@jit
def sum_by_index(x: Array, index: Array, levels: int) -> Array:
    """Sums of ``x`` ``[G, N]`` over equal ``index``: float64 ``[G, levels]``, whatever the number of threads."""
    groups, count = x.shape
    segments = (count + _RUN - 1) // _RUN
    parts = np.zeros((groups, segments, levels))
    for item in prange(groups * segments):
        group, segment = item // segments, item % segments
        start, end = segment * _RUN, min(count, (segment + 1) * _RUN)
        values, k = x[group, start:end], index[group, start:end]
        ways = np.zeros((_WAYS, levels))
        for i in range(len(values)):
            ways[i & (_WAYS - 1), k[i]] += values[i]
        for way in range(_WAYS):
            for m in range(levels):
                parts[group, segment, m] += ways[way, m]
    total = np.zeros((groups, levels))
    for segment in range(segments):
        total += parts[:, segment]
    return total


class _CodebookLookupCPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, codebook: Tensor) -> Tensor:
        weight = weight.detach().contiguous()
        index, out = torch.empty_like(weight, dtype=torch.uint8), torch.empty_like(weight)
        use_torch_threads()
        lookup(weight.numpy(), codebook.detach().contiguous().numpy(), index.numpy(), out.numpy())
        ctx.save_for_backward(index)
        ctx.levels = codebook.shape[1]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (index,) = ctx.saved_tensors
        grad_codebook = None
        if ctx.needs_input_grad[1]:
            use_torch_threads()
            sums = sum_by_index(grad.detach().contiguous().numpy(), index.numpy(), ctx.levels)
            grad_codebook = torch.from_numpy(sums).to(grad)
        return grad, grad_codebook


@opaque
def codebook_lookup_cpu(weight: Tensor, codebook: Tensor) -> Tensor:
    """:func:`spikefit.functional.quantize.codebook_lookup` on a CPU, for at most 256 values in float32 or float64."""
    return _CodebookLookupCPU.apply(weight, codebook)
