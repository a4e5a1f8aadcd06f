"""Image data sets of scikit-learn and torchvision."""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from spikefit.data.images.in_memory import Images
from spikefit.data.integrity import require_idx, require_images
from spikefit.data.source import DataSource, MissingError, Part, fetch
from spikefit.data.split import stratified_split
from spikefit.errors import DataError, check_choice, check_range
from spikefit.locations import data_folder


class Digits(DataSource):
    """scikit-learn's digits: 1797 images of 8 x 8 pixels in 17 grey levels, bundled with the library.

    There is no official split; 20 % of each class are held out for the test.

    Args:
        split_seed: seed of the split.
        side: side of an image, 8 or 4 pixels; 4 averages squares of 2 x 2, for chips with few inputs.

    Raises:
        ConfigurationError: for another side, or a negative seed.

    Example:
        >>> digits = Digits()
        >>> digits.shape, len(digits.load("train", time_steps=4)), len(digits.load("test", time_steps=4))
        ((1, 8, 8), 1437, 360)
    """

    num_classes = 10

    def __init__(self, split_seed: int = 0, side: int = 8) -> None:
        check_range("split_seed", split_seed, 0)
        check_choice("side", side, (4, 8))
        self.split_seed, self.side = split_seed, side
        self.shape = (1, side, side)

    def prepare(self) -> None:
        """Do nothing, because the data are part of scikit-learn."""

    def load(self, part: Part, time_steps: int) -> Images:
        """Load 1437 training or 360 test images ``[1, side, side]``, float32 in [0, 1]."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        train, test = stratified_split(digits.target, 0.2, self.split_seed)
        chosen = train if part == "train" else test
        images = torch.from_numpy(digits.images[chosen]).float().unsqueeze(1) / 16
        images = F.avg_pool2d(images, 8 // self.side)
        return Images(images, torch.from_numpy(digits.target[chosen]).long())


class _Torchvision(DataSource):
    """A data set of torchvision, read completely into memory.

    Args:
        root: folder of data sets; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download missing files.
    """

    name: ClassVar[str]
    folder: ClassVar[str]

    def __init__(self, root: str | None = None, download: bool = True) -> None:
        self.root, self.download = root, download

    def _open(self, part: Part, download: bool) -> Images:
        """Read one set.

        Raises:
            MissingError: without ``download``, if a file is missing.
            DataError: without ``download``, if a file is damaged.
        """
        from torchvision import datasets

        root = data_folder(self.root)
        base, folder = getattr(datasets, self.name), root / self.folder
        try:
            data = base(root=str(root), train=part == "train", download=download)
            images, labels = torch.as_tensor(np.asarray(data.data)), torch.as_tensor(np.asarray(data.targets)).long()
            images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
            require_images(images, labels, self.shape, self.num_classes, f"{self.name}: the {part} part in {folder}")
        except Exception as error:  # torchvision and pickle raise anything for broken files
            if download:
                raise  # `fetch` reports why the download failed
            self._check(base, folder)
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.name}: {folder} is damaged ({str(error) or type(error).__name__}).") from error
        return Images(images.contiguous(), labels)

    @abstractmethod
    def _check(self, base: Any, folder: Path) -> None:
        """Find out which file torchvision's class ``base`` can't use.

        Raises:
            MissingError: if one is missing.
            DataError: if one is damaged; the message names it and what is wrong.
        """

    def _require_files(self, folder: Path, names: Iterable[str]) -> None:
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise MissingError(f"{self.name}: {folder / missing[0]} is missing.")

    def prepare(self) -> None:
        """Check the files of both sets, and download missing ones if that is allowed.

        Raises:
            DataError: if a set is damaged, or missing and can't be downloaded.
        """

        def both(download: bool) -> None:
            self._open("train", download)
            self._open("test", download)

        folder: Path = data_folder(self.root)
        fetch(self.name, folder, self.download, f"the folder {self.folder}, as torchvision leaves it", both)

    def load(self, part: Part, time_steps: int) -> Images:
        """Load all images of one set, uint8.

        Raises:
            DataError: if the set is missing or can't be read.
        """
        return self._open(part, download=False)


class _Idx(_Torchvision):
    """A data set in the four IDX files of MNIST."""

    def _check(self, base: Any, folder: Path) -> None:
        pairs = [
            [folder / f"{part}-{what}-ubyte" for what in ("images-idx3", "labels-idx1")] for part in ("train", "t10k")
        ]
        self._require_files(folder, [file.name for pair in pairs for file in pair])
        for images, labels in pairs:
            require_idx(images, labels, self.shape[-1], self.num_classes)


class _Cifar(_Torchvision):
    """A data set in pickled batches with known checksums."""

    def _check(self, base: Any, folder: Path) -> None:
        from torchvision.datasets import cifar

        checksums = {**dict([*base.train_list, *base.test_list]), base.meta["filename"]: base.meta["md5"]}
        self._require_files(folder, checksums)
        for name, checksum in checksums.items():
            if not cifar.check_integrity(str(folder / name), checksum):
                raise DataError(f"{folder / name} is damaged: expected a file with the MD5 {checksum}.")


class MNIST(_Idx):
    """MNIST: 60000 training and 10000 test images of 28 x 28. Arguments as in :class:`FashionMNIST`.

    Example:
        >>> MNIST().shape, MNIST().num_classes
        ((1, 28, 28), 10)
    """

    name, folder, num_classes, shape = "MNIST", "MNIST/raw", 10, (1, 28, 28)


class FashionMNIST(_Idx):
    """Fashion-MNIST: 60000 training and 10000 test images of 28 x 28 (arXiv 1708.07747).

    Args:
        root: folder that contains ``FashionMNIST/raw``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download missing files.

    Example:
        >>> FashionMNIST(download=False).shape, FashionMNIST().num_classes
        ((1, 28, 28), 10)
    """

    name, folder, num_classes, shape = "FashionMNIST", "FashionMNIST/raw", 10, (1, 28, 28)


class CIFAR10(_Cifar):
    """CIFAR-10: 50000 training and 10000 test images of 32 x 32. Arguments as in :class:`FashionMNIST`.

    Example:
        >>> CIFAR10().shape, CIFAR10().num_classes
        ((3, 32, 32), 10)
    """

    name, folder, num_classes, shape = "CIFAR10", "cifar-10-batches-py", 10, (3, 32, 32)


class CIFAR100(_Cifar):
    """CIFAR-100: 50000 training and 10000 test images of 32 x 32. Arguments as in :class:`FashionMNIST`.

    Example:
        >>> CIFAR100().shape, CIFAR100().num_classes
        ((3, 32, 32), 100)
    """

    name, folder, num_classes, shape = "CIFAR100", "cifar-100-python", 100, (3, 32, 32)
