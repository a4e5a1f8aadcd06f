"""Differentiable number of synaptic operations, from the spikes that a layer received and its weights.

The number equals that of :mod:`spikefit.functional.fan_out`: spikes times live synapses, in bounds and not zero. It is
computed from sums over samples and steps, without the fan-out of every position: the uses of a kernel's taps are
products with two small matrices of zeros and ones.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from spikefit.functional.convolution import output_size


class _Live(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return (weight != 0).float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        magnitude = weight.abs()
        scale = magnitude.sum() / (magnitude > 0).sum().clamp_min(1)
        scale = scale.clamp_min(torch.finfo(scale.dtype).tiny)
        return grad.to(weight.dtype) * weight.sign() * (-magnitude / scale).exp() / scale


def live_synapses(weight: Tensor) -> Tensor:
    """1 for each weight that is not zero, else 0: float32, in the shape of ``weight``.

    The gradient is that of ``1 - exp(-|w| / a)`` (Mangasarian 1996), where ``a`` is the mean magnitude of the weights
    that are not zero. It is larger for small weights, so that those that cost least accuracy become zero first.

    Example:
        >>> live_synapses(torch.tensor([0.5, 0.0, -2.0])).tolist()
        [1.0, 0.0, 1.0]
    """
    return _Live.apply(weight)


def summed(x: Tensor) -> Tensor:
    """The sum of ``x`` ``[T, B, ...]`` over its first two dimensions, float32, in the order in which memory holds it.

    On a CPU, sum and gradient of a channels-last map are many times faster than with ``x.sum((0, 1))``.

    Example:
        >>> summed(torch.ones(2, 3, 4)).tolist()
        [6.0, 6.0, 6.0, 6.0]
    """
    order = sorted(range(2, x.dim()), key=lambda axis: -x.stride()[axis])
    flat = x.permute(0, 1, *order).flatten(0, 1)
    sums = flat.flatten(1).sum(0, dtype=torch.float32).view(flat.shape[1:])
    return sums.permute([order.index(axis) for axis in range(2, x.dim())])


@lru_cache(maxsize=256)
def _taps(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int, device: str) -> Tensor:
    """Whether a tap reads a position for some output, along one axis: float64 0 or 1, ``[kernel, size]``."""
    with torch.inference_mode(False):
        shifted = torch.arange(size, device=device) + padding
        target = shifted - dilation * torch.arange(kernel, device=device)[:, None]
        whole = target % stride == 0
        inside = (target >= 0) & (target.div(stride, rounding_mode="floor") < outputs)
        return (whole & inside).double()


def conv_synops(
    sent: Tensor,
    live: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Synaptic operations of a convolution.

    Args:
        sent: ``[C, H, W]``, spikes that arrive at each position, summed over samples and steps.
        live: ``[out, C / groups, kh, kw]``, 1 for a synapse and 0 for none.
        stride, padding, dilation, groups: as in :func:`torch.nn.functional.conv2d`.

    Returns:
        float64 scalar.

    Example:
        >>> conv_synops(torch.ones(1, 3, 3), torch.ones(2, 1, 3, 3), padding=(1, 1)).item()  # 49 uses of 2 kernels
        98.0
    """
    kernel = (live.shape[2], live.shape[3])
    sides = output_size(sent.shape[1:], kernel, stride, padding, dilation)
    rows, columns = (
        _taps(sent.shape[axis + 1], sides[axis], kernel[axis], stride[axis], padding[axis], dilation[axis], _name(sent))
        for axis in (0, 1)
    )
    uses = rows @ sent.double() @ columns.T
    reached = live.unflatten(0, (groups, -1)).sum(1).flatten(0, 1)
    return (uses * reached.double()).sum()


def dense_synops(sent: Tensor, live: Tensor) -> Tensor:
    """Synaptic operations of a dense layer: float64 scalar.

    Args:
        sent: any shape of N elements, spikes of each input, summed over samples and steps.
        live: ``[out, N]``, 1 for a synapse and 0 for none.
    """
    return (sent.double().flatten() * live.sum(0).double()).sum()


@lru_cache(maxsize=256)
def _tap_uses(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Number of pairs of an output and a tap that read a position in bounds, along one axis."""
    read = (out * stride - padding + dilation * tap for out in range(outputs) for tap in range(kernel))
    return sum(0 <= position < size for position in read)


def conv_synapses(size: tuple[int, ...], layer: nn.Conv2d) -> int:
    """Number of synapses in bounds of a convolution of a map ``size`` ``(H, W)``, no weight being zero.

    Example:
        >>> conv_synapses((3, 3), nn.Conv2d(1, 2, 3, padding=1))
        98
    """
    assert isinstance(layer.padding, tuple)
    sides = output_size(size, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    uses = 1
    for axis in (0, 1):
        geometry = (layer.kernel_size[axis], layer.stride[axis], int(layer.padding[axis]), layer.dilation[axis])
        uses *= _tap_uses(size[axis], sides[axis], *geometry)
    return uses * layer.out_channels * layer.in_channels // layer.groups


def _name(tensor: Tensor) -> str:
    return str(tensor.device)
