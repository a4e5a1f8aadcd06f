"""Augmentation of whole batches on any device, with random parameters for each sample.

Samples are images ``[B, C, H, W]`` or frames of events ``[B, T, C, H, W]``, uint8 or floating point. All time steps and
channels of a sample are transformed in the same way.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.errors import ConfigurationError, check_choice, check_range

Padding = Literal["zero", "reflect"]


def crop(samples: Tensor, top: Tensor, left: Tensor, padding: int, mode: Padding) -> Tensor:
    """Cut a window of the original size out of each padded sample.

    Args:
        samples: ``[B, ..., H, W]``.
        top, left: int64 ``[B]``, corner of the window in the padded sample, 0 to ``2 * padding``.
        padding: pixels added at each side.
        mode: content of the padding: ``zero``, or ``reflect`` for the sample mirrored at its edge.
    """
    planes, sides = samples.flatten(1, -3), (padding,) * 4
    reflects = mode == "reflect"  # torch supports it for floating point only
    padded = F.pad(planes.float(), sides, mode).to(planes.dtype) if reflects else F.pad(planes, sides)
    windows = padded.unfold(2, planes.shape[2], 1).unfold(3, planes.shape[3], 1)  # [B, K, top, left, H, W], a view
    return windows[torch.arange(len(planes), device=planes.device), :, top, left].reshape(samples.shape)


def flip(samples: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the ``chosen`` samples (bool ``[B]``) of ``[B, ..., W]`` from left to right."""
    return torch.where(chosen.view(-1, *[1] * (samples.dim() - 1)), samples.flip(-1), samples)


def cut_out(samples: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Set a square of each sample to zero.

    Args:
        samples: ``[B, ..., H, W]``.
        top, left: int64 ``[B]``, corner of the square; the part outside the sample is ignored.
        side: side of the square in pixels.
    """
    planes = samples.flatten(1, -3)
    rows, columns = (
        torch.arange(size, device=planes.device) - corner[:, None]
        for size, corner in zip(planes.shape[2:], (top, left), strict=True)
    )
    kept_rows, kept_columns = ((place < 0) | (place >= side) for place in (rows, columns))
    return (planes * (kept_rows[:, None, :, None] | kept_columns[:, None, None, :])).view(samples.shape)


class BatchTransform(nn.Module, ABC):
    """Base class of random transforms of whole batches, for the option ``augment`` of the data module.

    A derived class draws its random numbers from ``generator``, on the device of the samples.

    Example:
        >>> class Noise(BatchTransform):
        ...     def forward(self, samples, generator=None):
        ...         shape, device = samples.shape, samples.device
        ...         return samples.float() + 8 * torch.randn(shape, device=device, generator=generator)
        >>> Noise()(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 1, 4, 4])
    """

    @abstractmethod
    def forward(self, samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Transform a batch.

        Args:
            samples: ``[B, C, H, W]`` or ``[B, T, C, H, W]``; must not be changed in place.
            generator: random number generator on the device of ``samples``; None for torch's global generator.
        """


class RandomCrop(BatchTransform):
    """Pads each sample and cuts out a random window of the original size.

    Args:
        padding: pixels added at each side, at least 1.
        mode: content of the padding: ``zero``, or ``reflect`` for the sample mirrored at its edge.

    Raises:
        ConfigurationError: for other values, samples without height and width, or samples too small to be reflected.

    Example:
        >>> RandomCrop(padding=4)(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, padding: int, mode: Padding = "zero") -> None:
        super().__init__()
        check_range("padding", padding, 1)
        check_choice("mode", mode, ("zero", "reflect"))
        self.padding, self.mode = padding, mode

    def draw(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Draw the corners of the windows in the padded samples: ``top`` and ``left``, int64 ``[2, B]``."""
        return torch.randint(2 * self.padding + 1, (2, batch), device=device, generator=generator)

    def forward(self, samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Crop each sample of the padded batch at a random place; same shape as ``samples``."""
        height, width = _size(self, samples)
        if self.mode == "reflect":
            check_range(f"padding with mode 'reflect' of {height} x {width}", self.padding, 1, min(height, width) - 1)
        top, left = self.draw(len(samples), samples.device, generator)
        return crop(samples, top, left, self.padding, self.mode)


class RandomHorizontalFlip(BatchTransform):
    """Mirrors each sample from left to right with probability ``p``.

    Args:
        p: probability, 0 to 1.

    Raises:
        ConfigurationError: for another value, or samples without height and width.

    Example:
        >>> RandomHorizontalFlip(p=1.0)(torch.arange(3.0).view(1, 1, 1, 3)).flatten()
        tensor([2., 1., 0.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        check_range("p", p, 0, 1)
        self.p = p

    def draw(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Draw which samples are mirrored, bool ``[B]``."""
        return torch.rand(batch, device=device, generator=generator) < self.p

    def forward(self, samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mirror some of the samples."""
        _size(self, samples)
        return flip(samples, self.draw(len(samples), samples.device, generator))


class Cutout(BatchTransform):
    """Sets a square at a random place of each sample to zero; the square may extend beyond the sample.

    Args:
        side: side of the square in pixels, at least 1.

    Raises:
        ConfigurationError: for another value, or samples without height and width.

    Source: DeVries and Taylor, arXiv 1708.04552.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Cutout(side=1)(torch.ones(2, 1, 4, 4), generator).sum(dim=(1, 2, 3))
        tensor([15., 15.])
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        check_range("side", side, 1)
        self.side = side

    def draw(
        self, batch: int, size: tuple[int, int], device: torch.device, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the corners of the squares, ``top`` and ``left``, int64 ``[B]`` each, for samples of ``size`` (H, W)."""
        top, left = (torch.randint(high, (batch,), device=device, generator=generator) for high in size)
        return top - self.side // 2, left - self.side // 2

    def forward(self, samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Set a random square of each sample to zero."""
        top, left = self.draw(len(samples), _size(self, samples), samples.device, generator)
        return cut_out(samples, top, left, self.side)


def _size(transform: BatchTransform, samples: Tensor) -> tuple[int, int]:
    """Height and width of the samples; raises if they have none."""
    if samples.dim() < 4:
        raise ConfigurationError(
            f"augment: {type(transform).__name__} got samples of shape {tuple(samples.shape[1:])}, expected images "
            "[C, H, W] or frames [T, C, H, W]."
        )
    return samples.shape[-2], samples.shape[-1]
