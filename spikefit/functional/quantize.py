"""Differentiable rounding to grids and codebooks."""

from typing import Any, Literal

import torch
from torch import Tensor

from spikefit.functional.devices import runs_triton

Zero = Literal["counted", "free", "none"]
"""Whether 0 is on the grid of a codebook, an additional value, or excluded."""
_KERNEL_DTYPES = (torch.float32, torch.float64)
_KERNEL_LEVELS = 256


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` exactly, with the gradient passed to ``x``.

    The usual ``x + (value - x).detach()`` rounds twice, so a weight that should be one of M values may differ from it.
    """
    return _StraightThrough.apply(x, value)


def round_ste(x: Tensor) -> Tensor:
    """Round ``x`` (half to even), with the gradient of the identity."""
    return straight_through(x, x.detach().round())


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``, with its gradient multiplied by ``factor``."""
    return _ScaleGradient.apply(x, factor)


def assign(weight: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook value of each weight, by binary search on the midpoints.

    Args:
        weight: ``[G, N]``, one row per group.
        codebook: ``[G, M]``, ascending.

    Returns:
        int64 ``[G, N]``; a weight on a midpoint takes the lower value.
    """
    midpoints = (codebook[:, 1:] + codebook[:, :-1]) / 2
    if len(codebook) == 1:  # several times faster than the batched search
        return torch.bucketize(weight, midpoints[0])
    return torch.searchsorted(midpoints.contiguous(), weight.contiguous())


class _CodebookLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, codebook: Tensor) -> Tensor:
        index = assign(weight, codebook)
        ctx.save_for_backward(index)
        ctx.codebook_shape = codebook.shape
        return codebook.gather(1, index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (index,) = ctx.saved_tensors
        grad_codebook = None
        if ctx.needs_input_grad[1]:
            grad_codebook = grad.new_zeros(ctx.codebook_shape).scatter_add_(1, index, grad)
        return grad, grad_codebook


def codebook_lookup(weight: Tensor, codebook: Tensor) -> Tensor:
    """Replace each weight by its nearest codebook value: ``W_hat = c[a]``.

    Backward: ``dL/dW = dL/dW_hat`` (straight through) and ``dL/dc_m`` is the sum of ``dL/dW_hat`` over the weights
    assigned to ``m``.

    Args:
        weight: ``[G, N]``.
        codebook: ``[G, M]``, ascending in each row.

    Returns:
        ``[G, N]``.
    """
    native = weight.dtype == codebook.dtype and codebook.shape[1] <= _KERNEL_LEVELS
    if native and weight.device.type == "cpu" and weight.dtype in _KERNEL_DTYPES:
        from spikefit.functional.kernels.cpu.codebook import codebook_lookup_cpu  # numba takes a while to import

        return codebook_lookup_cpu(weight, codebook)
    if native and runs_triton(weight):
        from spikefit.functional.kernels.cuda.codebook import CodebookLookup

        return CodebookLookup.apply(weight, codebook)
    return _CodebookLookup.apply(weight, codebook)


class _IndexedLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, codebook: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.codebook_shape = codebook.shape
        return codebook.gather(1, index.long())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (index,) = ctx.saved_tensors
        grad_codebook = grad.new_zeros(ctx.codebook_shape).scatter_add_(1, index.long(), grad)
        return torch.zeros_like(grad) if ctx.needs_input_grad[0] else None, grad_codebook, None


def indexed_lookup(weight: Tensor, codebook: Tensor, index: Tensor) -> Tensor:
    """Return ``codebook[index]``, independent of the values of ``weight``.

    Backward: ``dL/dc_m`` as in :func:`codebook_lookup`. ``dL/dW`` is a tensor of zeros instead of None, because DDP
    waits for the gradient of every parameter.

    Args:
        weight: ``[G, N]``.
        codebook: ``[G, M]``.
        index: uint8 or int64 ``[G, N]``.

    Returns:
        ``[G, N]``.
    """
    if codebook.shape[1] <= _KERNEL_LEVELS and runs_triton(codebook):
        from spikefit.functional.kernels.cuda.codebook import IndexedLookup

        return IndexedLookup.apply(weight, codebook, index)
    return _IndexedLookup.apply(weight, codebook, index)


def grid_step(scale: Tensor, learned: bool) -> Tensor:
    """The step of a grid: above 0 if it is ``learned``, else ``scale`` unchanged."""
    if not learned:
        return scale
    return scale.abs().clamp_min(torch.finfo(scale.dtype).tiny)


def round_to_grid(x: Tensor, largest: int, zero: Zero) -> Tensor:
    """Round ``x`` to integers from ``-largest`` to ``largest``, without 0 unless ``zero="counted"``.

    The gradient is that of the identity within the grid and 0 outside.
    """
    reach = largest + 0.49  # rounds to largest, and keeps its gradient despite rounding errors in x
    clamped = x.clamp(-reach, reach)
    if zero == "counted":
        return round_ste(clamped)
    # 0 is not on the grid: a value that would round to it becomes -1 or 1, whichever is nearer.
    away = torch.where(clamped < 0, -1.0, 1.0).to(clamped)
    integer = torch.where(clamped.abs() < 0.5, away, clamped.round())
    return straight_through(clamped, integer.detach())


def grid_values(codebook: Tensor, scale: Tensor, largest: int, zero: Zero, learned: bool = False) -> Tensor:
    """Round codebooks to their grids, ``step * round(c / step)``, and sort them in ascending order.

    Args:
        codebook: ``[G, M]``, in any order.
        scale: ``[G, 1]``; see :func:`grid_step`.
        largest: the largest integer of the grid.
        zero: whether 0 is on the grid (``counted``), an additional value (``free``) or excluded (``none``).
        learned: whether the scale is a parameter.

    Returns:
        ``[G, M]``, with ``zero="free"`` ``[G, M + 1]``.
    """
    if codebook.dtype == scale.dtype and codebook.dtype in _KERNEL_DTYPES and runs_triton(codebook):
        from spikefit.functional.kernels.cuda.codebook import GridValues

        return GridValues.apply(codebook, scale, largest, zero, learned)
    return plain_grid_values(codebook, scale, largest, zero, learned)


def plain_grid_values(codebook: Tensor, scale: Tensor, largest: int, zero: Zero, learned: bool) -> Tensor:
    """Plain-torch version of :func:`grid_values`."""
    step = grid_step(scale, learned)
    values = round_to_grid(codebook / step, largest, zero) * step
    if zero == "free":
        values = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
    return values.sort(dim=1, stable=True).values
