"""An image data set of your own: arrays in an .npz file. Folders of image files need no code: ImageFolder."""

from pathlib import Path

import numpy as np
import torch

from spikefit.data.images import Images
from spikefit.data.source import DataSource, Part
from spikefit.errors import DataError


class ArrayImages(DataSource):
    """Images ``[N, H, W]`` and labels ``[N]`` of the parts ``train`` and ``test``."""

    num_classes, shape = 2, (1, 12, 12)  # known before the file is read

    def __init__(self, file: str = "shapes.npz") -> None:
        self.file = Path(file)

    def prepare(self) -> None:
        """Check that the file exists; runs in one process, before training."""
        if not self.file.is_file():
            raise DataError(f"ArrayImages: no file {self.file}; python make_data.py writes it.")

    def load(self, part: Part, time_steps: int) -> Images:
        """The images ``[N, 1, H, W]``, uint8; SpikeDataModule splits, encodes and moves them to the device."""
        arrays = np.load(self.file)
        return Images(torch.from_numpy(arrays[part]).unsqueeze(1), torch.from_numpy(arrays[f"{part}_labels"]))
