"""Event camera data sets of tonic."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.tonic_source import SplitTonicSource, TonicSource
from spikefit.data.split import Chosen
from spikefit.errors import ConfigurationError, DataError, check_range
from spikefit.locations import data_folder


class POKERDVS(TonicSource):
    """POKER-DVS: the four pips of playing cards, 48 training and 20 test recordings of 35 x 35.

    Serrano-Gotarredona and Linares-Barranco 2015, Frontiers in Neuroscience 9:481.

    Args:
        root: folder with ``pokerdvs/POKERDVS``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to unpack an archive in that folder; tonic knows no download address.
        pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.

    Example:
        >>> POKERDVS(download=False).shape, POKERDVS().num_classes
        ((2, 35, 35), 4)
    """

    name, expected, suffix = "POKERDVS", "POKERDVS/pips_train and POKERDVS/pips_test", ".npy"
    num_classes = 4
    sensor_size = (35, 35, 2)

    @property
    def folder(self) -> Path:
        """The folder that contains ``POKERDVS``."""
        return data_folder(self.root) / "pokerdvs"

    def _fetch(self, base: Any, dataset: Any) -> None:
        from tonic.download_utils import check_integrity, extract_archive

        archive = Path(dataset.location_on_system, dataset.filename)
        if check_integrity(str(archive), dataset.file_md5):
            extract_archive(str(archive), dataset.location_on_system)
        else:
            base._copy_and_extract_local_data(dataset)

    def _files(self, dataset: Any) -> Iterable[Path]:
        return sorted(Path(dataset.location_on_system, dataset.folder_name).rglob(f"*{self.suffix}"))

    def _chosen(self, dataset: Any) -> Chosen:
        # tonic lists class folders in the order of the file system; sorting by class makes the order reproducible.
        order = sorted(range(len(dataset)), key=lambda index: int(dataset.targets[index]))
        return Chosen(order, [int(dataset.targets[index]) for index in order])


class NMNIST(TonicSource):
    """N-MNIST: MNIST's digits recorded by a moving sensor of 34 x 34 (Orchard et al. 2015).

    A folder with only a part of the digits and recordings is accepted, unless it also contains tonic's archive.

    Args:
        root: folder with ``NMNIST/Train`` and ``NMNIST/Test``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.
        classes: digits to use, labelled 0, 1, ... in ascending order; None for all ten.

    Example:
        >>> data = NMNIST(classes=[6, 7, 8, 9], download=False)
        >>> data.shape, data.num_classes
        ((2, 34, 34), 4)
    """

    name, expected, suffix = "NMNIST", "NMNIST/Train/DIGIT/*.bin and NMNIST/Test/DIGIT/*.bin", ".bin"
    sensor_size = (34, 34, 2)

    def __init__(
        self,
        root: str | None = None,
        download: bool = True,
        pipeline: EventPipeline | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(root, download, pipeline)
        self.classes = list(range(10)) if classes is None else sorted(set(classes))
        if not self.classes:
            raise ConfigurationError("classes: got no digit, expected digits from 0 to 9.")
        for digit in self.classes:
            check_range("classes", digit, 0, 9)
        self.num_classes = len(self.classes)

    def _chosen(self, dataset: Any) -> Chosen:
        everything = super()._chosen(dataset)
        new = {digit: label for label, digit in enumerate(self.classes)}
        kept = everything.only(place for place, digit in enumerate(everything.labels) if digit in new)
        missing = sorted(set(self.classes) - set(kept.labels))
        if missing:
            raise DataError(
                f"NMNIST: {self.folder} has no recordings of {missing}; set classes to the existing digits."
            )
        return kept._replace(labels=[new[digit] for digit in kept.labels])


class DVSGesture(TonicSource):
    """DVS128 Gesture: 11 gestures of 29 people in several lighting conditions, 128 x 128.

    Amir et al. 2017, CVPR. 1077 training and 264 test recordings. tonic's version has one file per gesture, with times
    in whole milliseconds. The test set has other people than the training set. So has a validation set, because all
    recordings of a person stay together.

    Args:
        root: folder with ``DVSGesture``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.

    Example:
        >>> DVSGesture(download=False).shape, DVSGesture().num_classes
        ((2, 128, 128), 11)
    """

    name, suffix = "DVSGesture", ".npy"
    expected = "DVSGesture/ibmGestureTrain/userNN_LIGHT/GESTURE.npy and the same in DVSGesture/ibmGestureTest"
    num_classes = 11
    sensor_size = (128, 128, 2)

    def _chosen(self, dataset: Any) -> Chosen:
        chosen = super()._chosen(dataset)
        return chosen._replace(groups=[int(dataset.users[index]) for index in chosen.indices])


class CIFAR10DVS(SplitTonicSource):
    """CIFAR10-DVS: 10000 images of CIFAR-10 shown to an event camera of 128 x 128, 1000 per class.

    Li et al. 2017, Frontiers in Neuroscience 11:309. There is no official test set; 10 % are usually held out. Reading
    it needs the package ``aedat``.

    Args:
        root: folder with ``CIFAR10DVS/CLASS/*.aedat4``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.
        split_seed, test_fraction: see :class:`~spikefit.data.events.tonic_source.SplitTonicSource`.

    Example:
        >>> CIFAR10DVS(download=False).shape, CIFAR10DVS().num_classes
        ((2, 128, 128), 10)
    """

    name, expected, suffix = "CIFAR10DVS", "CIFAR10DVS/CLASS/*.aedat4", ".aedat4"
    needs = "aedat"
    num_classes = 10
    sensor_size = (128, 128, 2)


class NCALTECH101(SplitTonicSource):
    """N-Caltech101: 8709 images of 101 classes and different sizes, shown to a moving event camera.

    Orchard et al. 2015, Frontiers in Neuroscience 9:437. There is no official test set. All recordings start at the
    corner of a common area of 240 x 180 (the size that images were scaled to). The few events outside this area are
    sensor noise and are dropped.

    Args:
        root: folder with ``NCALTECH101/Caltech101/CLASS/*.bin``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.
        split_seed, test_fraction: see :class:`~spikefit.data.events.tonic_source.SplitTonicSource`.
        classes: names of the class folders to use, labelled 0, 1, ... in alphabetic order; None for all 101.

    Example:
        >>> data = NCALTECH101(classes=["ant", "barrel"], download=False)
        >>> data.shape, data.num_classes
        ((2, 180, 240), 2)
    """

    name, expected, suffix = "NCALTECH101", "NCALTECH101/Caltech101/CLASS/*.bin", ".bin"
    sensor_size = (240, 180, 2)
    crop = True

    def __init__(
        self,
        root: str | None = None,
        download: bool = True,
        pipeline: EventPipeline | None = None,
        split_seed: int = 0,
        test_fraction: float = 0.1,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, download, pipeline, split_seed, test_fraction)
        self.classes = None if classes is None else sorted(set(classes))
        if self.classes == []:
            raise ConfigurationError("classes: got no class, expected names of class folders.")
        self.num_classes = 101 if self.classes is None else len(self.classes)

    def _fetch(self, base: Any, dataset: Any) -> None:
        from tonic.download_utils import extract_archive

        base.download(dataset)
        # The archive contains another one, which tonic 1.7 does not unpack.
        location = Path(dataset.location_on_system)
        if not any(location.rglob(f"*{self.suffix}")):
            for inner in location.rglob(dataset.data_filename):
                extract_archive(str(inner), str(location))

    def _chosen(self, dataset: Any) -> Chosen:
        paths = [Path(path) for path in dataset.data]
        # The archive also contains contours of the objects, in files that end in .bin too.
        order = [index for index in range(len(paths)) if not paths[index].name.startswith("annotation")]
        order.sort(key=lambda index: paths[index].parts)
        names = [dataset.targets[index] for index in order]
        existing = sorted(set(names))
        wanted = existing if self.classes is None else self.classes
        missing = sorted(set(wanted) - set(existing))
        if missing or len(wanted) != self.num_classes:
            folder = self.folder / "NCALTECH101" / "Caltech101"
            lack = f"has no recordings of {missing}" if missing else f"has {len(existing)} classes, expected 101"
            raise DataError(f"NCALTECH101: {folder} {lack}; set classes to the names of existing folders.")
        new = {name: label for label, name in enumerate(wanted)}
        kept = [(index, new[name]) for index, name in zip(order, names, strict=True) if name in new]
        return Chosen([index for index, _ in kept], [label for _, label in kept])
