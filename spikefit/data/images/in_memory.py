"""Images that are held in memory, and samples that are transformed when they are read."""

from collections.abc import Callable, Sequence

from torch import Tensor

from spikefit.data.batches import SampleTensors
from spikefit.data.source import LabelledDataset


class Images(LabelledDataset):
    """Labelled images in memory.

    Args:
        images: uint8 or float32 ``[N, C, H, W]``.
        labels: int64 ``[N]``.

    Example:
        >>> import torch
        >>> images = Images(torch.zeros(5, 1, 8, 8), torch.arange(5))
        >>> len(images), images[2][0].shape, images[2][1]
        (5, torch.Size([1, 8, 8]), 2)
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image ``[C, H, W]`` and label of one sample."""
        return self.images[index], int(self.labels[index])

    def tensors(self) -> SampleTensors | None:
        """All images and labels; None for a derived class that overrides ``__getitem__``."""
        own = type(self).__getitem__ is Images.__getitem__
        return SampleTensors(self.images, self.labels) if own else None


class Augmented(LabelledDataset):
    """A data set whose samples are transformed each time they are read.

    Args:
        source: the samples.
        transforms: applied in this order; from ``torchvision.transforms.v2``, or any function of an image.
    """

    def __init__(self, source: LabelledDataset, transforms: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.source, self.transforms, self.labels = source, transforms, source.labels

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Transformed sample and label."""
        image, label = self.source[index]
        for transform in self.transforms:
            image = transform(image)
        return image, label
