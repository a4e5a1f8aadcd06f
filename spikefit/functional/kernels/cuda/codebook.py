"""Codebooks on a CUDA device: the functions of :mod:`spikefit.functional.quantize` as Triton kernels.

A quantised layer takes two launches forward (grid, lookup) and two or three backward (sums, their sum where a row has
several chunks, grid). Kernels are in :mod:`.codebook_kernels`. Nothing here waits for the device.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from spikefit.functional.devices import constants
from spikefit.functional.kernels.cuda import codebook_kernels as kernels
from spikefit.functional.kernels.cuda.precision import compute_dtype, number

_BLOCK = 1024
_SUMS = 8192  # that a program of eight warps keeps, 32 in a thread
_PROGRAMS = 528  # four on each of an H100's multiprocessors


def _blocks(count: int) -> tuple[int, int]:
    """Elements of a block, and how many blocks cover a row of ``count``."""
    block = min(_BLOCK, triton.next_power_of_2(max(1, count)))
    return block, triton.cdiv(count, block)


def summed_by_index(x: Tensor, index: Tensor, levels: int) -> Tensor:
    """Sums of ``x`` over equal ``index``, the same at every call: ``[G, levels]``.

    Each program sums a chunk of a row in float32 (float64 of float64), then the chunks are summed in their order.

    Args:
        x: ``[G, N]``.
        index: integers ``[G, N]``, from 0 to ``levels - 1``.
        levels: at most 256.
    """
    x, dtype = x.contiguous(), compute_dtype(x)
    rows, count = x.shape
    padded = triton.next_power_of_2(levels)
    lanes = _SUMS // padded
    chunks = max(1, min(triton.cdiv(count, 4 * lanes), _PROGRAMS // rows))
    chunk = triton.cdiv(triton.cdiv(count, chunks), lanes) * lanes
    chunks = max(1, triton.cdiv(count, chunk))
    parts = torch.empty(rows, chunks, levels, dtype=dtype, device=x.device)
    kernels.sum_by_index[(chunks * rows,)](
        x, index, parts, count, chunk, chunks, number(dtype), levels, padded, lanes, num_warps=8
    )
    return (parts[:, 0] if chunks == 1 else parts.sum(dim=1)).to(x.dtype)


class CodebookLookup(torch.autograd.Function):
    """:func:`spikefit.functional.quantize.codebook_lookup` for at most 256 values."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, codebook: Tensor) -> Tensor:
        """Nearest values, ``[G, N]``."""
        weight, codebook = weight.contiguous(), codebook.contiguous()
        (rows, count), levels = weight.shape, codebook.shape[1]
        index, out = torch.empty_like(weight, dtype=torch.uint8), torch.empty_like(weight)
        block, blocks = _blocks(count)
        kernels.lookup[(blocks * rows,)](
            weight, codebook, index, out, count, blocks, number(compute_dtype(weight)), levels,
            (levels - 1).bit_length(), block,
        )  # fmt: skip
        ctx.save_for_backward(index)
        ctx.levels = levels
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gradients of weights (as it came) and codebook."""
        (index,) = ctx.saved_tensors
        return grad, summed_by_index(grad, index, ctx.levels) if ctx.needs_input_grad[1] else None


class IndexedLookup(torch.autograd.Function):
    """:func:`spikefit.functional.quantize.indexed_lookup` for at most 256 values."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, codebook: Tensor, index: Tensor) -> Tensor:
        """``codebook[index]``, ``[G, N]``."""
        codebook, index = codebook.contiguous(), index.contiguous()
        (rows, count), levels = index.shape, codebook.shape[1]
        out = torch.empty(rows, count, dtype=codebook.dtype, device=codebook.device)
        block, blocks = _blocks(count)
        kernels.gather[(blocks * rows,)](codebook, index, out, count, blocks, levels, block)
        ctx.save_for_backward(index)
        ctx.levels = levels
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of weights (zeros) and codebook."""
        (index,) = ctx.saved_tensors
        of_codebook = summed_by_index(grad, index, ctx.levels) if ctx.needs_input_grad[1] else None
        return torch.zeros_like(grad) if ctx.needs_input_grad[0] else None, of_codebook, None


class GridValues(torch.autograd.Function):
    """:func:`spikefit.functional.quantize.grid_values`; float32 and float64."""

    @staticmethod
    def forward(ctx: Any, codebook: Tensor, scale: Tensor, largest: int, zero: str, learned: bool) -> Tensor:
        """The values ``[G, M]`` (with ``zero="free"`` ``[G, M + 1]``), ascending."""
        codebook, scale = codebook.contiguous(), scale.contiguous()
        rows, levels = codebook.shape
        columns = levels + (zero == "free")
        out = torch.empty(rows, columns, dtype=codebook.dtype, device=codebook.device)
        rank = torch.empty_like(out, dtype=torch.uint8)
        limits = constants((largest + 0.49, torch.finfo(scale.dtype).tiny), codebook.dtype, codebook.device)
        ctx.kinds = (
            levels, columns - levels, zero == "counted", learned, codebook.dtype == torch.float64,
            triton.next_power_of_2(columns),
        )  # fmt: skip
        kernels.grid_values[(rows,)](codebook, scale, limits, out, rank, *ctx.kinds)
        ctx.save_for_backward(codebook, scale, limits, rank)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of codebook and scale."""
        codebook, scale, limits, rank = ctx.saved_tensors
        of_codebook, of_scale = torch.empty_like(codebook), torch.empty_like(scale) if ctx.needs_input_grad[1] else None
        kernels.grid_gradient[(len(codebook),)](
            grad.contiguous(), codebook, scale, limits, rank, of_codebook, of_scale, *ctx.kinds
        )
        return of_codebook, of_scale, None, None, None
