"""Fan-out and fan-in of neurons, and the number of synaptic operations that spikes cause.

A synaptic operation (synop) is one spike delivered through one live synapse. A synapse is live if its weight is not
zero and if it lies within the borders: padding is not a neuron. This is the effective accumulate (AC) of NeuroBench
(arXiv 2304.04640).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input


def conv_fan_out(
    weight: Tensor,
    source: tuple[int, int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Number of live synapses that leave each input neuron of a convolution.

    Args:
        weight: ``[out, in / groups, kh, kw]``; an entry that is exactly zero is no synapse.
        source: shape ``(in, H, W)`` of the input neurons.
        stride, padding, dilation, groups: as in :func:`torch.nn.functional.conv2d`.

    Returns:
        int64 ``[in, H, W]``.
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    live = (weight != 0).to(torch.float64)
    ones = torch.ones_like(F.conv2d(live.new_zeros(1, *source), live, **options))
    return conv2d_input((1, *source), live, ones, **options)[0].round().to(torch.int64)


def conv_fan_in(
    weight: Tensor,
    source: tuple[int, int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Number of live synapses per output neuron of a convolution: int64 ``[out, H', W']``; see :func:`conv_fan_out`."""
    live = (weight != 0).to(torch.float64)
    ones = live.new_ones(1, *source)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return F.conv2d(ones, live, **options)[0].round().to(torch.int64)


def dense_fan_out(weight: Tensor) -> Tensor:
    """Number of live synapses per input of a dense layer with ``weight`` ``[out, in]``: int64 ``[in]``."""
    return (weight != 0).sum(dim=0)


def dense_fan_in(weight: Tensor) -> Tensor:
    """Number of live synapses per output of a dense layer with ``weight`` ``[out, in]``: int64 ``[out]``."""
    return (weight != 0).sum(dim=1)


def unpool_fan_out(fan_out: Tensor, source: tuple[int, int, int], kernel: int) -> Tensor:
    """Fan-out of the neurons before a ``kernel`` x ``kernel`` pooling, given the fan-out of the pooled map.

    Each neuron inherits the fan-out of the one window that covers it. Neurons that no window covers (the remainder on
    the lower and right border) have a fan-out of 0.

    Args:
        fan_out: of the pooled map, int64 ``[C, H // kernel, W // kernel]``.
        source: shape ``(C, H, W)`` of the neurons.
        kernel: side and stride of the window.

    Returns:
        int64 ``[C, H, W]``.
    """
    channels, height, width = source
    spread = fan_out.repeat_interleave(kernel, dim=1).repeat_interleave(kernel, dim=2)
    full = fan_out.new_zeros(channels, height, width)
    full[:, : spread.shape[1], : spread.shape[2]] = spread
    return full


def count_synops(spikes: Tensor, fan_out: Tensor) -> Tensor:
    """Number of synaptic operations that ``spikes`` cause.

    Args:
        spikes: ``[T, B, *source]``, 0 or 1 (or the number of spikes in the step).
        fan_out: ``[*source]``.

    Returns:
        int64 ``[T, B]``.
    """
    flat = spikes.reshape(*spikes.shape[:2], -1).to(torch.float64)
    return (flat @ fan_out.reshape(-1).to(torch.float64)).round().to(torch.int64)
