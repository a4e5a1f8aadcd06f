"""Image data sets from folders of your own images."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from spikefit.data.images.in_memory import Images
from spikefit.data.images.resized import Channels, ResizedImages, pixels
from spikefit.data.source import Part
from spikefit.errors import ConfigurationError, DataError

PART_FOLDERS: tuple[Part, ...] = ("train", "valid", "test")
OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")
THREADS = 8
"""Largest number of threads that decode images; Pillow decodes outside of Python's lock."""


class ImageFolder(ResizedImages):
    """A data set of your own images: a folder per class, a file per image, in any format that torchvision lists.

    The folders are those of ``torchvision.datasets.ImageFolder``, below the name of a set::

        ROOT/train/CLASS/anything.png
        ROOT/valid/CLASS/anything.jpg     optional; otherwise SpikeDataModule holds out its val_fraction
        ROOT/test/CLASS/anything.png      optional; otherwise a seeded share of every class of train is held out

    or, with a single set, ``ROOT/CLASS/anything.png``. Every set must have the same classes. Images may lie in folders
    below that of their class. Hidden files and folders are ignored.

    Args:
        root: the folder.
        size: height and width to which every image is resized (bilinear, antialiased; the aspect ratio is not kept).
        channels: 1 for grey, 3 for colour; images of the other kind are converted. Transparency is ignored.
        classes: names of the class folders, in the order of their labels 0, 1, ...; other folders are ignored. None for
            all folders of the training set, in alphabetic order; they are listed when the number of classes is asked.
        split_seed: seed of the split, if there is no test set.
        test_fraction: share of every class that is held out, if there is no test set.

    Raises:
        ConfigurationError: for a value that is not allowed.

    Example:
        >>> data = ImageFolder("photos", size=(32, 48), classes=["cat", "dog"])
        >>> data.shape, data.num_classes
        ((3, 32, 48), 2)
    """

    def __init__(
        self,
        root: str,
        size: tuple[int, int] = (32, 32),
        channels: Channels = 3,
        classes: Sequence[str] | None = None,
        split_seed: int = 0,
        test_fraction: float = 0.2,
    ) -> None:
        super().__init__(size, channels, split_seed, test_fraction)
        if classes is not None and (not classes or len(set(classes)) < len(classes)):
            raise ConfigurationError(f"classes: got {list(classes)}, expected the names of class folders, each once.")
        self.root, self._given = Path(root), None if classes is None else list(classes)
        self._listed: list[str] | None = None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels.

        Raises:
            DataError: if they have to be listed and the folder is missing.
        """
        if self._given is not None:
            return self._given
        if self._listed is None:
            self._listed = self._folders(self._folder("train"))
        return self._listed

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of classes."""
        return len(self.classes)

    @property
    def has_validation(self) -> bool:  # type: ignore[override]
        """Whether there is a folder ``valid``."""
        return "valid" in self.parts()

    def parts(self) -> tuple[Part, ...]:
        """The sets that have a folder.

        Raises:
            DataError: if there are sets, but no training set.
        """
        found = tuple(part for part in PART_FOLDERS if (self.root / part).is_dir())
        if found and "train" not in found:
            raise DataError(f"ImageFolder: {self.root} has the set {', '.join(found)}, but no set train.")
        return found or ("train",)

    def read(self, part: Part) -> Images:
        """Decode all images of a set.

        Raises:
            DataError: for a class that is missing, empty or not in the training set, a file that is not an image, and
                an image that can't be read.
        """
        from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension, make_dataset

        folder = self._folder(part)
        self._require_classes(part, folder)
        labels = {name: label for label, name in enumerate(self.classes)}
        above = len(folder.parts)
        files = make_dataset(
            folder, labels, is_valid_file=lambda path: _shown(Path(path).parts[above:]), allow_empty=True
        )
        files.sort(key=lambda file: file[1])  # stable: within a class, by name
        for file, _ in files:
            if not has_file_allowed_extension(file, IMG_EXTENSIONS):
                raise DataError(f"ImageFolder: {file} is not an image, expected one of {', '.join(IMG_EXTENSIONS)}.")
        found = {label for _, label in files}
        empty = [name for name, label in labels.items() if label not in found]
        if empty:
            raise DataError(f"ImageFolder: {folder / empty[0]} has no image (expected {', '.join(IMG_EXTENSIONS)}).")
        images = torch.empty(len(files), *self.shape, dtype=torch.uint8)
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            for index, image in enumerate(pool.map(self._decode, [file for file, _ in files])):
                images[index] = image
        return Images(images, torch.tensor([label for _, label in files]))

    def _folder(self, part: Part) -> Path:
        """The folder whose folders are the classes of ``part``."""
        return self.root / part if (self.root / "train").is_dir() else self.root

    def _folders(self, folder: Path) -> list[str]:
        """Names of the class folders in ``folder``, sorted."""
        try:
            names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _shown((entry.name,)))
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise DataError(f"ImageFolder: {folder} can't be read: {error.strerror or error}.") from error
        if not names:
            raise DataError(
                f"ImageFolder: {folder} is missing or has no folders (expected a folder for each class: "
                "ROOT/train/CLASS/*.png, and ROOT/test/CLASS/*.png if there is a test set)."
            )
        return names

    def _require_classes(self, part: Part, folder: Path) -> None:
        found = self._folders(folder)
        missing = [name for name in self.classes if name not in found]
        more = [] if self._given is not None else [name for name in found if name not in self.classes]
        if missing or more:
            raise DataError(
                f"ImageFolder: {folder} has the classes {', '.join(found)}, expected {', '.join(self.classes)}"
                + (", those of train." if self._given is None else ", as given by classes.")
            )

    def _decode(self, path: str) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                return pixels(image, self.size, self.channels)
        except UnidentifiedImageError as error:
            raise DataError(f"{path} is damaged: it is not an image that Pillow can read.") from error
        except OSError as error:
            if error.errno is not None:
                raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
            raise DataError(f"{path} is damaged: {error}.") from error
        except Exception as error:  # decoders raise anything for broken files
            raise DataError(f"{path} is damaged: {str(error) or type(error).__name__}.") from error


def _shown(names: Sequence[str]) -> bool:
    """Whether a file is not hidden, does not lie in a hidden folder, and does not belong to the operating system."""
    return not any(name.startswith(".") for name in names) and names[-1].lower() not in OF_THE_SYSTEM
