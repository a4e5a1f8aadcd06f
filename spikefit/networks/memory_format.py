"""How feature maps lie in memory: channels last, wherever a convolution can read them so."""

import torch
from torch import Tensor, nn


def channels_last(x: Tensor) -> Tensor:
    """Images ``[N, C, H, W]`` with channels last in memory, copied only if they are not; convolutions keep it so."""
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    # One channel lies in memory either way, and a convolution reads off the strides alone which way it is.
    return x.as_strided(x.shape, (height * width, 1, width, 1)) if channels == 1 else x


def laid_out_for(layer: nn.Module, x: Tensor) -> Tensor:
    """``x`` as ``layer`` reads it: :func:`channels_last`.

    But a 1x1 convolution with fewer than 8 input channels reads channels first: for channels last torch's gradient of
    its weight writes beyond its memory on a CPU (seen with a stride and torch 2.14.1; the process then aborts).
    """
    if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} and layer.in_channels < 8:
        return x.contiguous()
    return channels_last(x)
