"""Differentiable rounding to grids and codebooks."""

from typing import Any

import torch
from torch import Tensor

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
    """``value``, to the last bit, with the gradient passed to ``x``.

    The usual ``x + (value - x).detach()`` rounds twice, and a weight that should be one of M values then isn't.
    """
    return _StraightThrough.apply(x, value)


def round_ste(x: Tensor) -> Tensor:
    """``round(x)`` (half to even) with the gradient of the identity."""
    return straight_through(x, x.detach().round())


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """``x``, with its gradient multiplied by ``factor``."""
    return _ScaleGradient.apply(x, factor)


def assign(weight: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook value for each weight, by binary search on the midpoints.

    Args:
        weight: ``[G, N]``, one row a group.
        codebook: ``[G, M]``, ascending.

    Returns:
        int64 ``[G, N]``; a weight on a midpoint takes the lower value.
    """
    midpoints = (codebook[:, 1:] + codebook[:, :-1]) / 2
    if len(codebook) == 1:  # the batched search is several times slower
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
    """Each weight replaced by its nearest codebook value: ``W_hat = c[a]``.

    Backward: ``dL/dW = dL/dW_hat`` (straight through) and ``dL/dc_m`` is the sum of ``dL/dW_hat`` over the weights
    assigned to ``m``.

    Args:
        weight: ``[G, N]``.
        codebook: ``[G, M]``, ascending in each row.

    Returns:
        ``[G, N]``.
    """
    native = weight.device.type == "cpu" and weight.dtype == codebook.dtype and weight.dtype in _KERNEL_DTYPES
    if native and codebook.shape[1] <= _KERNEL_LEVELS:
        from spikefit.functional.quantize_cpu import codebook_lookup_cpu  # numba takes a while to import

        return codebook_lookup_cpu(weight, codebook)
    return _CodebookLookup.apply(weight, codebook)
