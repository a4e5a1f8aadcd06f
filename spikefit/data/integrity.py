"""Checks of image files and of loaded data sets, with errors that name the file and what is wrong."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from spikefit.errors import DataError


def require_idx(images: Path, labels: Path, side: int, num_classes: int) -> None:
    """Check a pair of IDX files, the format of MNIST: headers, sizes, and the range of labels.

    Args:
        images: file of N images of ``side`` x ``side`` bytes.
        labels: file of N labels, a byte each.
        side: height and width.
        num_classes: number of classes.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    count, height, width = _header(images, 2051, 3)
    if (height, width) != (side, side):
        raise DataError(f"{images} is damaged: images of {height} x {width}, expected {side} x {side}.")
    _require_size(images, 16 + count * side * side, f"{count} images of {side} x {side}")
    (labelled,) = _header(labels, 2049, 1)
    _require_size(labels, 8 + labelled, f"{labelled} labels")
    if labelled != count:
        raise DataError(f"{labels} is damaged: {labelled} labels, but {images.name} has {count} images.")
    require_labels(np.fromfile(labels, np.uint8, offset=8), num_classes, str(labels))


def _header(path: Path, magic: int, dimensions: int) -> Sequence[int]:
    """The sizes in the header of an IDX file."""
    if path.is_dir():
        raise DataError(f"{path} is damaged: it is a folder, expected a file.")
    try:
        with path.open("rb") as file:
            header = file.read(4 * (1 + dimensions))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    if len(header) < 4 * (1 + dimensions):
        raise DataError(f"{path} is damaged: {len(header)} bytes, which is less than its header.")
    found, *sizes = struct.unpack(f">{1 + dimensions}I", header)
    if found != magic:
        raise DataError(f"{path} is damaged: its magic number is {found}, expected {magic}.")
    return sizes


def _require_size(path: Path, expected: int, content: str) -> None:
    size = path.stat().st_size
    if size != expected:
        raise DataError(f"{path} is damaged: {size} bytes, expected {expected} for {content}.")


def require_labels(labels: np.ndarray | Tensor, num_classes: int, where: str) -> None:
    """Raise unless all labels are from 0 to ``num_classes - 1``.

    Raises:
        DataError: naming ``where``, the first label outside and its sample.
    """
    values = np.asarray(labels)
    outside = np.flatnonzero((values < 0) | (values >= num_classes))
    if len(outside):
        first = int(outside[0])
        raise DataError(
            f"{where} is damaged: the label of sample {first} is {values[first]}, expected 0 to {num_classes - 1} "
            f"({len(outside)} of {len(values)} labels are outside)."
        )


def require_images(images: Tensor, labels: Tensor, shape: tuple[int, ...], num_classes: int, where: str) -> None:
    """Raise unless there is one label in range for each image, and images have the declared shape.

    Raises:
        DataError: naming ``where`` and what is wrong.
    """
    if len(images) != len(labels):
        raise DataError(f"{where} is damaged: {len(labels)} labels for {len(images)} images.")
    if tuple(images.shape[1:]) != tuple(shape):
        raise DataError(f"{where} is damaged: images of {tuple(images.shape[1:])}, expected {tuple(shape)}.")
    require_labels(labels, num_classes, where)
