"""Encodings of static images in time: pixels ``[B, C, H, W]`` in [0, 1] become ``[T, B, C, H, W]``, float32."""

import torch
from torch import Tensor


def direct(images: Tensor, steps: int) -> Tensor:
    """Direct coding: the image as a constant input current. All frames share memory (stride 0 in time)."""
    return images.float().expand(steps, *images.shape)


def rate(images: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Rate coding: random spikes whose probability in each step is the brightness of the pixel.

    Args:
        images: ``[B, C, H, W]`` in [0, 1].
        steps: T.
        generator: random number generator; None for torch's global generator.
    """
    noise = torch.rand(steps, *images.shape, device=images.device, generator=generator)
    return (noise < images.float()).float()


def latency(images: Tensor, steps: int) -> Tensor:
    """Latency coding: one spike per pixel, in step ``round((1 - x) * (T - 1))``. Black pixels never fire."""
    arrival = ((1 - images.float()) * (steps - 1)).round().long()
    spikes = torch.zeros(steps, *images.shape, device=images.device)
    return spikes.scatter_(0, arrival.unsqueeze(0), (images > 0).float().unsqueeze(0))
