"""Interfaces of data sets: properties that are known before loading, loading, and download."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.utils.data import Dataset

from spikefit.data.batches import SampleTensors
from spikefit.errors import DataError
from spikefit.input_kind import InputKind

Part = Literal["train", "valid", "test"]


class MissingError(DataError):
    """A data set is missing or incomplete, and may be downloaded."""


class DataSource(ABC):
    """Base class of data sets that are loaded on demand; creating one reads no file.

    Attributes:
        num_classes: number of classes.
        shape: ``(C, H, W)`` of one image or one frame of events, ``(N,)`` of one frame of audio spikes.
        event: whether samples are frames of event streams, not images.
        has_validation: whether the data set has an official validation set, ``valid``.
        input_kind: kind of the numbers in a frame, for event data sets; for images it follows from the encoding.
    """

    num_classes: int
    shape: tuple[int, ...]
    event: bool = False
    has_validation: bool = False
    input_kind: InputKind | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Download missing files, in one process.

        Raises:
            DataError: if the data are missing and can't be downloaded; the message names the folder and its expected
                content.
        """

    @abstractmethod
    def load(self, part: Part, time_steps: int) -> "LabelledDataset":
        """Load the official training, validation or test set, with labels.

        Args:
            part: ``train`` or ``test``; ``valid`` only where ``has_validation``.
            time_steps: frames per sample of event streams; ignored for images.
        """


class LabelledDataset(Dataset[tuple[Tensor, int]], ABC):
    """Base class of data sets whose labels are all known in advance, so that splits can be stratified.

    A sample is an image ``[C, H, W]``, uint8 from 0 to 255 or float32, or event frames ``[T, C, H, W]``, for audio
    ``[T, N]``: uint8 spikes, int16 counts or float32.

    Attributes:
        labels: int64 ``[N]``.
        groups: int64 ``[N]``; a split never separates samples of one group (cut from one recording, made by one
            person). None for independent samples.
    """

    labels: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self) -> SampleTensors | None:
        """All samples in one tensor, for making whole batches; None if samples are created when they are read."""
        return None

    def without_augmentation(self) -> "LabelledDataset":
        """The same samples without augmentation, for evaluation; the data set itself if it has none."""
        return self


def fetch(name: str, folder: Path, download: bool, expected: str, load: Callable[[bool], object]) -> None:
    """Make sure that a data set exists, and download it if that is allowed.

    Args:
        name: name of the data set, for the error message.
        folder: folder where it is expected.
        download: whether it may be downloaded.
        expected: expected content of ``folder``, for the error message.
        load: function that opens the data set; its argument is whether to download. Without it raises
            :class:`MissingError` for a data set that is missing.

    Raises:
        DataError: if the data set is missing; the message says how to provide it. Other errors of ``load``, such as
            that of a damaged file, get through.
    """
    try:
        load(False)
        return
    except MissingError as error:
        if not download:
            raise DataError(
                f"{name}: not found in {folder} (expected {expected}). Set download to true, set root or "
                "SPIKEFIT_DATA_DIR to the folder that contains it, or put it there."
            ) from error
    try:
        load(True)
    except Exception as error:  # third-party downloaders may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: not found in {folder}, and the download failed ({reason}). Put {expected} into that folder, or "
            "set root or SPIKEFIT_DATA_DIR to one that contains it."
        ) from error
