"""Memory format of feature maps: channels last, except for convolutions that cannot use it."""

import torch
from torch import Tensor, nn


def channels_last(x: Tensor) -> Tensor:
    """Images ``[N, C, H, W]`` in channels-last format, which convolutions preserve; copied only if necessary."""
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    # With one channel both formats have the same layout; only the strides tell a convolution which one it is.
    return x.as_strided(x.shape, (height * width, 1, width, 1)) if channels == 1 else x


def laid_out_for(layer: nn.Module, x: Tensor) -> Tensor:
    """Convert ``x`` to the memory format for ``layer``: :func:`channels_last`, with one exception.

    A 1x1 convolution with fewer than 8 input channels gets channels first. With channels last, torch's weight gradient
    writes out of bounds on a CPU (observed with a stride and torch 2.14.1; the process aborts).
    """
    if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} and layer.in_channels < 8:
        return x.contiguous()
    return channels_last(x)
