"""Audio data sets of tonic, recorded with silicon or simulated cochleas.

A frame has no height: networks read ``[T, B, N]``, with one input per channel of the cochlea.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spikefit.data.events.tonic_source import TonicSource
from spikefit.data.integrity import require_labels
from spikefit.data.source import Part
from spikefit.data.split import Chosen
from spikefit.errors import DataError


class _Heidelberg(TonicSource):
    """A data set with one HDF5 file per set."""

    suffix = ".h5"
    sensor_size = (700, 1, 1)

    def _is_complete(self, base: Any, dataset: Any) -> bool:
        # tonic accepts the archive and any .h5 file, even that of another set.
        return Path(dataset.location_on_system, dataset.data_filename).is_file()

    def _files(self, dataset: Any) -> Iterable[Path]:
        return [Path(dataset.location_on_system, dataset.data_filename)]

    def _require_intact(self, dataset: Any) -> None:
        super()._require_intact(dataset)
        self._chosen(dataset)

    def _chosen(self, dataset: Any) -> Chosen:
        import h5py

        path = next(iter(self._files(dataset)))
        try:
            with h5py.File(path, "r") as file:
                labels = file["labels"][:]
                lengths = {name: len(file[name]) for name in ("spikes/times", "spikes/units")}
        except (OSError, KeyError, AttributeError) as error:
            raise DataError(f"{path} is damaged: can't be read ({error}).") from error
        for name, length in lengths.items():
            if length != len(labels):
                raise DataError(f"{path} is damaged: {len(labels)} labels, but {length} entries in {name}.")
        require_labels(labels, self.num_classes, str(path))
        labels = labels.tolist()
        return Chosen(list(range(len(labels))), labels)


class SHD(_Heidelberg):
    """Spiking Heidelberg Digits: spoken digits, ten in German and ten in English, in 700 channels.

    Cramer et al. 2020, IEEE TNNLS. 8156 training and 2264 test samples; two of the twelve speakers are only in the test
    set.

    Args:
        root: folder with ``SHD/shd_train.h5`` and ``SHD/shd_test.h5``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.

    Example:
        >>> SHD(download=False).shape, SHD().num_classes
        ((700,), 20)
    """

    name, expected = "SHD", "SHD/shd_train.h5 and SHD/shd_test.h5"
    num_classes = 20


class SSC(_Heidelberg):
    """Spiking Speech Commands: 35 spoken words in 700 channels, with an official validation set.

    Cramer et al. 2020, IEEE TNNLS. 75466 training, 9981 validation and 20382 test samples.

    Args:
        root: folder with ``SSC/ssc_train.h5``, ``SSC/ssc_valid.h5`` and ``SSC/ssc_test.h5``; None for
            SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.

    Example:
        >>> SSC(download=False).shape, SSC().num_classes, SSC().has_validation
        ((700,), 35, True)
    """

    name, expected = "SSC", "SSC/ssc_train.h5, SSC/ssc_valid.h5 and SSC/ssc_test.h5"
    num_classes = 35
    has_validation = True
    parts = ("train", "valid", "test")

    def _arguments(self, part: Part) -> Mapping[str, Any]:
        return {"split": part}


class NTIDIGITS18(TonicSource):
    """N-TIDIGITS18: the spoken digits of TIDIGITS, recorded with a silicon cochlea of 64 channels.

    Anumula et al. 2018, Frontiers in Neuroscience 12:23. Only the single digits, in 11 classes: ``o`` is 0, ``z``
    (zero) is 10.

    Args:
        root: folder with ``NTIDIGITS18/n-tidigits.hdf5``; None for SPIKEFIT_DATA_DIR, else ``data``.
        download, pipeline: see :class:`~spikefit.data.events.tonic_source.TonicSource`.

    Example:
        >>> NTIDIGITS18(download=False).shape, NTIDIGITS18().num_classes
        ((64,), 11)
    """

    name, expected, suffix = "NTIDIGITS18", "NTIDIGITS18/n-tidigits.hdf5", ".hdf5"
    num_classes = 11
    sensor_size = (64, 1, 1)
    keeps_open = True

    def _arguments(self, part: Part) -> Mapping[str, Any]:
        return {"train": part == "train", "single_digits": True}

    def _is_complete(self, base: Any, dataset: Any) -> bool:
        return Path(dataset.location_on_system, dataset.filename).is_file()

    def _files(self, dataset: Any) -> Iterable[Path]:
        return [Path(dataset.file_path)]

    def _chosen(self, dataset: Any) -> Chosen:
        labels = [dataset.class_map[dataset.labels[index]] for index in dataset.single_indices]
        return Chosen(list(range(len(labels))), labels)
