"""Tiny folders of images, and a data set in the format of SVHN."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image_folder(
    root: Path, classes: tuple[str, ...] = ("cat", "dog"), per_class: int = 10, seed: int = 0
) -> None:
    """Random images of several sizes and formats, ``root/CLASS/NUMBER.SUFFIX``."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = rng.integers(5, 40, 2)
            shape = (height, width, 3) if number % 2 else (height, width)
            image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
            image.save(root / name / f"{number:02}.{('png', 'jpg', 'bmp')[number % 3]}")


def write_svhn(root: Path, samples: int = 120) -> None:
    """SVHN's MATLAB files; the digit 0 has the label 10."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        images = rng.integers(0, 256, (32, 32, 3, samples), dtype=np.uint8)
        labels = (np.arange(samples) % 10 + 1).reshape(-1, 1)
        savemat(root / f"{part}_32x32.mat", {"X": images, "y": labels})
