"""Image data sets of any class with torchvision's interface, by class path."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from spikefit.data.images.in_memory import Images
from spikefit.data.images.resized import Channels, ResizedImages, pixels
from spikefit.data.integrity import require_labels
from spikefit.data.source import MissingError, Part, fetch
from spikefit.errors import ConfigurationError, DataError, check_range
from spikefit.locations import data_folder

PARTS: tuple[Part, ...] = ("train", "valid", "test")


class TorchvisionDataset(ResizedImages):
    """Any other data set of torchvision for classification, by class path: ``class_path: torchvision.datasets.SVHN``.

    The class is called as ``Class(root=..., download=..., **init_args)`` (without ``root`` or ``download`` if it has no
    such argument) and returns ``(image, label)`` by index, with labels from 0, as those of torchvision do.

    Args:
        class_path: path of the class.
        num_classes: number of classes.
        size: height and width to which every image is resized (bilinear, antialiased; the aspect ratio is not kept).
        channels: 1 for grey, 3 for colour; images of the other kind are converted.
        init_args: arguments of the class except for the folder and ``download``, for example ``{split: letters}``.
        part_argument: argument of the class that selects the set, such as ``train`` or ``split``. None for a class
            without an official test set; then a seeded share of every class is held out.
        part_values: value of ``part_argument`` for each set, for example ``{train: trainval, test: test}``. With
            ``valid``, this is the validation set. None for ``{train: true, test: false}`` if ``part_argument`` is
            ``train``, else for ``{train: train, test: test}``.
        root: folder of data sets; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download missing files.
        split_seed: seed of the split, if there is no official test set.
        test_fraction: share of every class that is held out, if there is no official test set.

    Raises:
        ConfigurationError: for a value that is not allowed. A class that does not exist is reported when data are
            prepared, because creating a data source imports no library.

    Example:
        >>> data = TorchvisionDataset("torchvision.datasets.SVHN", 10, size=(32, 32), part_argument="split")
        >>> data.shape, data.parts()
        ((3, 32, 32), ('train', 'test'))
    """

    def __init__(
        self,
        class_path: str,
        num_classes: int,
        size: tuple[int, int] = (32, 32),
        channels: Channels = 3,
        init_args: dict[str, Any] | None = None,
        part_argument: str | None = "train",
        part_values: dict[str, Any] | None = None,
        root: str | None = None,
        download: bool = True,
        split_seed: int = 0,
        test_fraction: float = 0.2,
    ) -> None:
        super().__init__(size, channels, split_seed, test_fraction)
        check_range("num_classes", num_classes, 1)
        self.module, _, self.name = class_path.rpartition(".")
        if not self.module or not self.name:
            raise ConfigurationError(f"class_path: got {class_path!r}, expected one such as torchvision.datasets.SVHN.")
        self.class_path, self.num_classes, self.init_args = class_path, num_classes, dict(init_args or {})
        self.root, self.download, self.part_argument = root, download, part_argument
        for option in (part_argument, "root", "download"):
            if option in self.init_args:
                raise ConfigurationError(f"init_args: got {option!r}, which another option of TorchvisionDataset sets.")
        self.part_values = _part_values(part_argument, part_values)
        self.has_validation = "valid" in self.part_values

    def parts(self) -> tuple[Part, ...]:
        """The official sets of the class, as far as ``part_values`` names them."""
        return tuple(part for part in PARTS if part in self.part_values)

    def prepare(self) -> None:
        """Download missing files if that is allowed, and read every image.

        Raises:
            ConfigurationError: for a class that can't be imported, or that refuses its arguments.
            DataError: if the data are missing, or an image or label can't be used.
        """
        folder: Path = data_folder(self.root)

        def every(download: bool) -> None:
            for part in self.parts():
                self._open(part, download)

        fetch(self.name, folder, self.download, f"what {self.class_path} reads", every)
        super().prepare()

    def read(self, part: Part) -> Images:
        """Convert all images of an official set.

        Raises:
            DataError: if the set is missing, or an image or label can't be used; the message names its index.
        """
        dataset = self._open(part, download=False)
        images, labels = torch.empty(len(dataset), *self.shape, dtype=torch.uint8), []
        for index in range(len(dataset)):
            try:
                image, label = dataset[index]
                images[index] = pixels(image, self.size, self.channels)
                labels.append(int(label))
            except Exception as error:  # a class of its own for every data set, and decoders of all kinds
                reason = str(error) or type(error).__name__
                raise DataError(f"{self.name}: sample {index} of the set {part} can't be used: {reason}.") from error
        found = torch.tensor(labels)
        require_labels(found, self.num_classes, f"{self.name}: the set {part}")
        return Images(images, found)

    def _open(self, part: Part, download: bool) -> Any:
        """An object of the class.

        Raises:
            MissingError: without ``download``, if its files are missing or damaged.
            ConfigurationError: if the class can't be imported, or refuses its arguments.
        """
        base = self._base()
        arguments = self.init_args | _accepted(base, root=str(data_folder(self.root)), download=download)
        if self.part_argument is not None:
            arguments[self.part_argument] = self.part_values[part]
        try:
            return base(**arguments)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"init_args: {self.class_path} refuses its arguments {_listed(arguments)}: {error}"
            ) from error
        except (RuntimeError, OSError) as error:
            if download:
                raise  # `fetch` reports why the download failed
            raise MissingError(f"{self.name}: {error}") from error

    def _base(self) -> Any:
        try:
            return getattr(import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"class_path: got {self.class_path!r}, which can't be imported ({error}); expected one such as "
                "torchvision.datasets.SVHN."
            ) from error


def _part_values(argument: str | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    if argument is None:
        if given:
            raise ConfigurationError(f"part_values: got {dict(given)}, expected null without part_argument.")
        return {"train": None}
    if given is None:
        return {"train": True, "test": False} if argument == "train" else {"train": "train", "test": "test"}
    if not set(given) <= set(PARTS) or "train" not in given:
        raise ConfigurationError(
            f"part_values: got {dict(given)}, expected train, and test and valid if there are any."
        )
    return dict(given)


def _accepted(base: Any, **arguments: Any) -> dict[str, Any]:
    """Those of ``arguments`` that the class has."""
    parameters = inspect.signature(base).parameters.values()
    names = {parameter.name for parameter in parameters}
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return {name: value for name, value in arguments.items() if passes_on or name in names}


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
