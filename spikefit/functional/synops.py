"""Differentiable number of synaptic operations, from the spikes that a layer received and its weights.

The number equals that of :mod:`spikefit.functional.fan_out`: spikes times live synapses, in bounds and not zero. It is
computed from sums over samples and steps, without the fan-out of every position.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def conv_uses(sent: Tensor, layer: nn.Conv2d) -> Tensor:
    """How many spikes each tap of a kernel delivers: float64 ``[C, kh, kw]``; positions out of bounds send none.

    Args:
        sent: ``[C, H, W]``, spikes that arrive at each position.
        layer: gives the geometry.
    """
    size, padding = layer.kernel_size, layer.padding
    columns = F.unfold(sent[None], size, layer.dilation, padding, layer.stride)  # type: ignore[arg-type]
    return columns.sum(2, dtype=torch.float64).view(layer.in_channels, *size)


def conv_synops(sent: Tensor, live: Tensor, layer: nn.Conv2d) -> Tensor:
    """Synaptic operations of a convolution.

    Args:
        sent: ``[C, H, W]``, spikes that arrive at each position, summed over samples and steps.
        live: ``[out, C / groups, kh, kw]``, 1 for a synapse and 0 for none.
        layer: gives the geometry.

    Returns:
        float64 scalar.

    Example:
        >>> layer = nn.Conv2d(1, 2, 3, padding=1)
        >>> conv_synops(torch.ones(1, 3, 3), torch.ones(2, 1, 3, 3), layer).item()  # 49 uses of 2 kernels
        98.0
    """
    reached = live.unflatten(0, (layer.groups, -1)).sum(1).flatten(0, 1)
    return (conv_uses(sent, layer) * reached.double()).sum()


def dense_synops(sent: Tensor, live: Tensor) -> Tensor:
    """Synaptic operations of a dense layer: float64 scalar.

    Args:
        sent: any shape of N elements, spikes of each input, summed over samples and steps.
        live: ``[out, N]``, 1 for a synapse and 0 for none.
    """
    return (sent.double().flatten() * live.sum(0).double()).sum()
