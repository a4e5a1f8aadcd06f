"""What a data set must tell before it is loaded, and how it is loaded."""

import os
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


class DataSource(ABC):
    """A data set that has not been loaded yet: creating one touches no file.

    Attributes:
        num_classes: number of classes.
        shape: ``(C, H, W)`` of one image or one frame of events, ``(N,)`` of one frame of audio spikes.
        event: whether samples are event streams (frames) rather than images.
        has_validation: whether the data set has an official validation part, ``valid``.
        input_kind: what a frame holds; declared by every source of events, while images get theirs from their coding.
    """

    num_classes: int
    shape: tuple[int, ...]
    event: bool = False
    has_validation: bool = False
    input_kind: InputKind | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Download what is missing, in one process.

        Raises:
            DataError: when the data are not there and can't be had, naming the folder and what is expected in it.
        """

    @abstractmethod
    def load(self, part: Part, time_steps: int) -> "LabelledDataset":
        """The official training, validation or test part, with labels.

        Args:
            part: ``train`` or ``test``; ``valid`` only where ``has_validation``.
            time_steps: frames a sample, for event streams; ignored by images.
        """


class LabelledDataset(Dataset[tuple[Tensor, int]], ABC):
    """Samples with all labels known up front, so that splits can be stratified.

    A sample is an image ``[C, H, W]``, uint8 from 0 to 255 or float32, or event frames ``[T, C, H, W]``, for audio
    ``[T, N]``: uint8 spikes, int16 counts or float32.

    Attributes:
        labels: int64 ``[N]``.
        groups: int64 ``[N]``; samples of one group (cut from one recording, made by one person) are never separated by
            a split. None where every sample stands for itself.
    """

    labels: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self) -> SampleTensors | None:
        """All samples in one tensor, from which whole batches are taken; None where each is made when it is read."""
        return None

    def without_augmentation(self) -> "LabelledDataset":
        """The same samples as they are evaluated; these ones, unless they are augmented."""
        return self


def data_folder(root: str | None) -> Path:
    """The folder that holds data sets: ``root``, else what SPIKEFIT_DATA_DIR says, else ``data``."""
    return Path(root or os.environ.get("SPIKEFIT_DATA_DIR") or "data")


def fetch(name: str, folder: Path, download: bool, expected: str, load: Callable[[bool], object]) -> None:
    """Make sure that a data set is there.

    Args:
        name: of the data set, for the message.
        folder: where it is looked for.
        download: whether it may be downloaded.
        expected: what should be in ``folder``.
        load: opens the data set; its argument says whether to download.

    Raises:
        DataError: with one message that a user can act on.
    """
    try:
        load(False)
        return
    except (RuntimeError, OSError) as error:
        if not download:
            raise DataError(
                f"{name}: not found in {folder} (expected {expected}). Set download to true, set root or "
                "SPIKEFIT_DATA_DIR to the folder that has it, or put it there."
            ) from error
    try:
        load(True)
    except Exception as error:  # whatever a network and a third party's downloader can raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: not found in {folder}, and the download failed ({reason}). Put {expected} into that folder, or "
            "set root or SPIKEFIT_DATA_DIR to one that has it."
        ) from error
