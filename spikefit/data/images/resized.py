"""Base class of data sets whose images have any size: they are decoded and resized once, and kept in memory."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spikefit.data.images.in_memory import Images
from spikefit.data.source import DataSource, Part
from spikefit.data.split import Chosen, HeldOut
from spikefit.errors import ConfigurationError, check_choice

Channels = Literal[1, 3]
SEVERAL_BYTES = ("I", "F")  # Pillow's modes of 32 bits a pixel, whose range no file states


class ResizedImages(DataSource):
    """Base class of data sets of images of any size, kept in memory as uint8 ``[N, channels, H, W]``.

    Every image is read once by each process: by the one that prepares the data, or when a set is loaded.

    Args:
        size: height and width to which every image is resized (bilinear, antialiased; the aspect ratio is not kept).
        channels: 1 for grey, 3 for colour; images of the other kind are converted. Transparency is ignored.
        split_seed: seed of the split, if there is no test set.
        test_fraction: share of every class that is held out, if there is no test set.

    Raises:
        ConfigurationError: for a value that is not allowed.
    """

    def __init__(
        self, size: Sequence[int], channels: Channels = 3, split_seed: int = 0, test_fraction: float = 0.2
    ) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ConfigurationError(f"size: got {list(size)}, expected height and width, both at least 1.")
        check_choice("channels", channels, (1, 3))
        self.size, self.channels = (int(size[0]), int(size[1])), channels
        self.shape = (channels, *self.size)
        self.held_out = HeldOut(split_seed, test_fraction)
        self._sets: dict[str, Images] = {}

    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """The sets that exist; without ``test``, the test set is held out from ``train``.

        Raises:
            DataError: if there is no training set.
        """

    @abstractmethod
    def read(self, part: Part) -> Images:
        """Read all images of a set that exists.

        Raises:
            DataError: for an image that can't be read; the message names it.
        """

    def prepare(self) -> None:
        """Read every image of every set, so that a damaged one is named before training.

        Raises:
            DataError: if a set is missing, or an image can't be read.
        """
        for part in self.parts():
            self._whole(part)

    def load(self, part: Part, time_steps: int) -> Images:
        """All images of one set, uint8.

        Raises:
            DataError: if the set is missing, or an image can't be read.
        """
        existing = self.parts()
        if part in existing and "test" in existing:
            return self._whole(part)
        if part == "valid":
            check_choice("part", part, existing)
            return self._whole(part)
        whole = self._whole("train")
        everything = Chosen(list(range(len(whole))), whole.labels.tolist())
        chosen = torch.tensor(self.held_out.part(everything, part).indices)
        return Images(whole.images[chosen], whole.labels[chosen])

    def _whole(self, part: Part) -> Images:
        if part not in self._sets:
            self._sets[part] = self.read(part)
        return self._sets[part]


def pixels(image: Any, size: tuple[int, int], channels: int) -> Tensor:
    """Resize an image and convert its colours.

    Args:
        image: image of Pillow, or what torchvision converts to one (a tensor ``[C, H, W]``, an array ``[H, W, C]``).
        size: height and width.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 ``[channels, H, W]``. Of 16 bits a channel the upper 8 are kept.

    Raises:
        ValueError: for an image of 32 bits a channel.

    Example:
        >>> pixels(torch.full((3, 4, 4), 255, dtype=torch.uint8), (2, 1), 1).tolist()
        [[[255], [255]]]
    """
    from PIL import Image
    from torchvision.transforms.v2 import functional

    if not isinstance(image, Image.Image):
        image = functional.to_pil_image(image)
    if image.mode in SEVERAL_BYTES:
        raise ValueError(f"it has pixels of 32 bits (Pillow's mode {image.mode}), expected 8 or 16 bits a channel")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":  # with a transparent colour, Pillow warns unless it is converted to RGBA first
        image = image.convert("RGBA")
    image = image.convert("L" if channels == 1 else "RGB")
    return functional.pil_to_tensor(functional.resize(image, list(size)))
