"""Codebook lookup as numba kernels: one pass over the weights, with a one-byte index per weight."""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from spikefit.functional.kernels.cpu.jit import jit, opaque, parallel, use_torch_threads

Array = np.ndarray[Any, Any]
_RUN = 4096  # weights per work item
_WAYS = 8  # independent partial sums, so that an addition needn't wait for the previous one


@jit
def _lookup(item: int, weight: Array, codebook: Array, index: Array, out: Array) -> None:
    segments = (weight.shape[1] + _RUN - 1) // _RUN
    group, start = item // segments, item % segments * _RUN
    end = min(weight.shape[1], start + _RUN)
    w, o, k, c = weight[group, start:end], out[group, start:end], index[group, start:end], codebook[group]
    two = weight.dtype.type(2)
    k[:] = 0
    o[:] = c[0]
    for m in range(1, len(c)):
        midpoint, value = (c[m] + c[m - 1]) / two, c[m]
        for i in range(len(w)):
            above = w[i] > midpoint
            k[i] += np.uint8(above)
            o[i] = value if above else o[i]


@parallel
def lookup(weight: Array, codebook: Array, index: Array, out: Array) -> None:
    """Store the nearest value ``out`` of each weight ``[G, N]`` and its ``index`` (uint8).

    ``codebook`` ``[G, M]`` is ascending. Each weight is compared with all ``M - 1`` midpoints. Up to M = 256 this is
    faster than a binary search, because it does not branch.
    """
    for item in prange(weight.shape[0] * ((weight.shape[1] + _RUN - 1) // _RUN)):
        _lookup(np.int64(item), weight, codebook, index, out)


@jit
def _sum_by_index(item: int, x: Array, index: Array, parts: Array) -> None:
    _, segments, levels = parts.shape
    group, segment = item // segments, item % segments
    start, end = segment * _RUN, min(x.shape[1], (segment + 1) * _RUN)
    values, k = x[group, start:end], index[group, start:end]
    ways = np.zeros((_WAYS, levels))
    for i in range(len(values)):
        ways[i & (_WAYS - 1), k[i]] += values[i]
    for way in range(_WAYS):
        for m in range(levels):
            parts[group, segment, m] += ways[way, m]


@parallel
def sum_by_index(x: Array, index: Array, parts: Array) -> None:
    """Add sums of ``x`` ``[G, N]`` over equal ``index``, one per segment, to float64 ``parts`` ``[G, segments, M]``."""
    for item in prange(parts.shape[0] * parts.shape[1]):
        _sum_by_index(np.int64(item), x, index, parts)


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
            groups, count = index.shape
            parts = np.zeros((groups, -(-count // _RUN), ctx.levels))
            sum_by_index(grad.detach().contiguous().numpy(), index.numpy(), parts)
            grad_codebook = torch.from_numpy(parts.sum(axis=1)).to(grad)
        return grad, grad_codebook


@opaque
def codebook_lookup_cpu(weight: Tensor, codebook: Tensor) -> Tensor:
    """CPU version of :func:`spikefit.functional.quantize.codebook_lookup`, for up to 256 values, float32 or float64."""
    return _CodebookLookupCPU.apply(weight, codebook)
