"""Differentiable rounding to grids and codebooks."""

from typing import Any, Literal

import torch
from torch import Tensor

from spikefit.functional.devices import runs_triton

Zero = Literal["counted", "free", "none"]
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
    """``x``, with its gradient multiplied by ``factor``."""
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


def grid_step(scale: Tensor, learned: bool, gradient_scale: float = 1.0) -> Tensor:
    """The step of a grid, above 0 if it is ``learned``; else ``scale`` as it is."""
    if not learned:
        return scale
    step = scale_gradient(scale, gradient_scale) if gradient_scale != 1 else scale
    return step.abs().clamp_min(torch.finfo(step.dtype).tiny)


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


def grid_values(
    codebook: Tensor, scale: Tensor, largest: int, zero: Zero, learned: bool = False, gradient_scale: float = 1.0
) -> Tensor:
    """The codebooks on their grids, ``step * round(c / step)``, ascending.

    Args:
        codebook: ``[G, M]``, in any order.
        scale: ``[G, 1]``; see :func:`grid_step`.
        largest: the largest integer of the grid.
        zero: whether 0 is on the grid (``counted``), an additional value (``free``) or excluded (``none``).
        learned: whether the scale is a parameter.
        gradient_scale: factor on the gradients of both.

    Returns:
        ``[G, M]``, with ``zero="free"`` ``[G, M + 1]``.
    """
    if codebook.dtype == scale.dtype and codebook.dtype in _KERNEL_DTYPES and runs_triton(codebook):
        from spikefit.functional.kernels.cuda.codebook import GridValues

        return GridValues.apply(codebook, scale, largest, zero, learned, gradient_scale)
    return plain_grid_values(codebook, scale, largest, zero, learned, gradient_scale)


def plain_grid_values(
    codebook: Tensor, scale: Tensor, largest: int, zero: Zero, learned: bool, gradient_scale: float
) -> Tensor:
    """:func:`grid_values` in plain torch."""
    codebook = scale_gradient(codebook, gradient_scale) if gradient_scale != 1 else codebook
    step = grid_step(scale, learned, gradient_scale)
    values = round_to_grid(codebook / step, largest, zero) * step
    if zero == "free":
        values = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
    return values.sort(dim=1, stable=True).values


def soft_lookup(weight: Tensor, codebook: Tensor, hardness: float) -> Tensor:
    """Each weight between its two neighbours in the codebook, by shares that sharpen with ``hardness``.

    A weight at ``c_k + t * (c_{k+1} - c_k)`` belongs to ``c_{k+1}`` by ``p = (t - 1/2) / (1 - hardness) + 1/2``, which
    is clipped to [0, 1], and to ``c_k`` by ``1 - p``. Hardness 0 is the identity; towards 1 the nearer value takes all,
    as in :func:`codebook_lookup`. Beyond the outermost values the distance to them shrinks by ``1 - hardness``.

    Backward: ``dL/dW = dL/dW_hat`` (straight through); a codebook value gets ``dL/dW_hat`` by its share.

    Args:
        weight: ``[G, N]``.
        codebook: ``[G, M]``, ascending in each row, M at least 2.
        hardness: in [0, 1).

    Returns:
        ``[G, N]``.
    """
    x, c = weight.detach().contiguous(), codebook.detach().contiguous()
    right = (torch.bucketize(x, c[0]) if len(c) == 1 else torch.searchsorted(c, x)).clamp(1, c.shape[1] - 1)
    left, gap = c.gather(1, right - 1), (c.gather(1, right) - c.gather(1, right - 1))
    place = torch.where(gap > 0, (x - left) / gap, 0.5)
    share = ((place - 0.5) / (1 - hardness) + 0.5).clamp(0, 1)
    low, high = indexed_lookup(x, codebook, right - 1), indexed_lookup(x, codebook, right)
    beyond = x - torch.maximum(torch.minimum(x, c[:, -1:]), c[:, :1])
    soft = torch.lerp(low, high, share) + (1 - hardness) * beyond
    return soft + (weight - x)  # adds zero, and the gradient of the identity


def spread_evenly(x: Tensor) -> Tensor:
    """A number in [0, 1) for each element, the same at every call: its place times the golden ratio, modulo 1.

    Those below a share ``s`` are a share ``s`` of the elements, spread over the whole tensor (Fibonacci hashing).
    """
    place = torch.arange(x.numel(), device=x.device, dtype=torch.int64)
    return ((place * 2654435769) % 2**32).double().div_(2**32).view(x.shape)
