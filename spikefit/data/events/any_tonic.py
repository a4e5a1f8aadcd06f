"""Event data sets of any class with tonic's interface, by class path."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from spikefit.data.events.event_types import SensorSize
from spikefit.data.events.pipeline import EventPipeline
from spikefit.data.events.source import check_sensor_size
from spikefit.data.events.tonic_source import TonicSource
from spikefit.data.source import Part
from spikefit.data.split import Chosen, HeldOut
from spikefit.errors import ConfigurationError, DataError, check_choice, check_range


class TonicDataset(TonicSource):
    """Any other data set of tonic, by class path: ``class_path: tonic.datasets.ASLDVS``.

    The class is called as ``Class(save_to, **init_args)`` and returns ``(events, label)`` by index, as those of tonic
    do. Labels are numbers from 0, or names, which are numbered in alphabetic order. They are read from the attribute
    ``targets`` if the class has it, else from every recording. Without ``download``, classes derived from
    ``tonic.Dataset`` write nothing.

    Args:
        class_path: path of the class.
        num_classes: number of classes.
        sensor_size: width, height, polarities; audio: channels, 1, 1. With one polarity, the polarity of events is
            ignored.
        init_args: arguments of the class except for the folder, for example ``{stabilize: true}``.
        part_argument: argument of the class that selects the set: ``train`` (true or false) or ``split`` (``train`` or
            ``test``). None for a class without an official test set; then a seeded share of every class is held out.
        root: folder of data sets; None for SPIKEFIT_DATA_DIR, else ``data``.
        download: whether to download missing files.
        pipeline: converts recordings to frames; None for spikes in frames of equal duration.
        split_seed: seed of the split, if there is no official test set.
        test_fraction: share of every class that is held out, if there is no official test set.

    Raises:
        ConfigurationError: for a value that is not allowed. A class that does not exist is reported when data are
            prepared, because creating a data source imports no library.

    Example:
        >>> data = TonicDataset("tonic.datasets.ASLDVS", num_classes=24, sensor_size=(240, 180, 2))
        >>> data.shape
        (2, 180, 240)
    """

    keeps_open = True  # unknown, so files are opened again in every process

    def __init__(
        self,
        class_path: str,
        num_classes: int,
        sensor_size: SensorSize,
        init_args: dict[str, Any] | None = None,
        part_argument: Literal["train", "split"] | None = "train",
        root: str | None = None,
        download: bool = True,
        pipeline: EventPipeline | None = None,
        split_seed: int = 0,
        test_fraction: float = 0.1,
    ) -> None:
        super().__init__(root, download, pipeline)
        check_range("num_classes", num_classes, 1)
        check_choice("part_argument", part_argument, ("train", "split", None))
        self.class_path, self.init_args, self.part_argument = class_path, dict(init_args or {}), part_argument
        self.module, _, self.name = class_path.rpartition(".")
        if not self.module or not self.name:
            raise ConfigurationError(f"class_path: got {class_path!r}, expected one such as tonic.datasets.ASLDVS.")
        if part_argument in self.init_args:
            raise ConfigurationError(f"init_args: got {part_argument!r}, which part_argument sets for every part.")
        self.num_classes, self.sensor_size = num_classes, check_sensor_size(sensor_size)
        self.expected = f"what {class_path} reads"
        self.held_out = HeldOut(split_seed, test_fraction)
        self.parts = ("train",) if part_argument is None else ("train", "test")

    def _base(self) -> Any:
        try:
            return getattr(import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"class_path: got {self.class_path!r}, which can't be imported ({error}); expected one such as "
                "tonic.datasets.ASLDVS."
            ) from error

    def _arguments(self, part: Part) -> Mapping[str, Any]:
        if self.part_argument is None:
            return self.init_args
        return self.init_args | {self.part_argument: part == "train" if self.part_argument == "train" else part}

    def _is_complete(self, base: Any, dataset: Any) -> bool:
        return bool(base._check_exists(dataset))

    def _files(self, dataset: Any) -> Iterable[Path]:
        paths = self._paths(dataset)
        if paths is not None:
            return sorted(paths)
        folder = Path(getattr(dataset, "location_on_system", self.folder))
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def _chosen(self, dataset: Any) -> Chosen:
        paths, order = self._paths(dataset), list(range(len(dataset)))
        if paths is not None:
            order.sort(key=lambda index: paths[index].parts)
        targets = getattr(dataset, "targets", ())
        if len(targets) != len(dataset):
            targets = [dataset[index][1] for index in range(len(dataset))]
        names = sorted({target for target in targets if isinstance(target, str)})
        new: Mapping[Any, int] = {name: label for label, name in enumerate(names)}
        try:
            labels = [new[targets[index]] if names else int(targets[index]) for index in order]
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{self.name}: a label is neither a number nor a name ({error}).") from error
        unexpected = sorted(set(labels) - set(range(self.num_classes)))
        if unexpected:
            raise DataError(
                f"{self.name}: has labels {unexpected}, expected 0 to {self.num_classes - 1}; set num_classes to the "
                "actual number of classes."
            )
        return Chosen(order, labels)

    def _part(self, chosen: Chosen, part: Part) -> Chosen:
        return chosen if self.part_argument else self.held_out.part(chosen, part)

    @staticmethod
    def _paths(dataset: Any) -> list[Path] | None:
        """The file of each recording, in tonic's order; None if the class has no such list."""
        data = getattr(dataset, "data", None)
        if not isinstance(data, list) or len(data) != len(dataset) or not all(isinstance(path, str) for path in data):
            return None
        paths = [Path(path) for path in data]
        return paths if all(path.is_file() for path in paths) else None
