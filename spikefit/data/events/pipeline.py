"""Pipeline from event recordings to frames: transforms, augmentation, framing and cache."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from spikefit.data.batches import SampleTensors
from spikefit.data.events import cache as caching
from spikefit.data.events.event_types import Recordings, SensorSize, is_audio
from spikefit.data.events.framing import Framing, TimeBins, frame
from spikefit.data.events.transforms import Step, apply, choose, equip, tidy
from spikefit.data.source import LabelledDataset
from spikefit.errors import ConfigurationError, DataError, check_choice, check_range
from spikefit.input_kind import InputKind

Cache = Literal["none", "memory", "disk"]
Specification = dict[str, Any]
CHUNK, CHUNK_EVENTS = 64, 1 << 20
"""Maximum number of recordings, and of their events, that are processed at a time when a cache is filled."""


class EventPipeline:
    """Converts event recordings to frames: transforms, augmentation and framing, in this order, with a cache.

    Every transform is given as ``class_path`` and optionally ``init_args``: a class of ``tonic.transforms``, or your
    own class of callable objects that map events to events. The argument ``sensor_size`` is filled in, with the changes
    by previous transforms. Your own class can define two members. The attribute ``deterministic = True`` declares that
    equal events always give equal results, which allows caching after this transform. The method
    ``sensor_size_after(sensor_size)`` returns the changed size of the sensor.

    Args:
        transforms: deterministic transforms of all samples.
        augment: transforms of training samples, after ``transforms``; random ones are drawn anew each time a sample is
            read.
        evaluation: deterministic transforms of all other samples, after ``transforms``; for example a CenterCrop to the
            size of a RandomCrop in ``augment``.
        framing: how recordings are cut into frames, see :mod:`spikefit.data.events.framing`; None for
            :class:`TimeBins`.
        binary: whether all events of a pixel in a frame become one spike (as a chip receives it) instead of a count.
            Counts above 32767 are clipped to 32767.
        cache: ``memory`` caches while the process runs, ``disk`` also for later runs, ``none`` reads recordings every
            time. Frames are cached or, with random transforms, the events before the first random transform.
        cache_dir: folder of the cache files; None for ``$XDG_CACHE_HOME/spikefit`` or ``~/.cache/spikefit``. File names
            depend on the data, the transforms, the framing and the versions, so that runs with different settings use
            different files. The files may be deleted between runs. Your own transforms are identified by path and
            arguments only: delete the files when you change the code of a transform.
        cache_limit: maximum number of bytes of one set in memory, or of all files in the folder. A set that would
            exceed it is not cached, with a warning.

    Raises:
        ConfigurationError: for values that are not allowed; the message names the option.

    Example:
        >>> from spikefit.data.events.framing import EventBins
        >>> pipeline = EventPipeline(framing=EventBins(), binary=False)
        >>> pipeline.shape((34, 34, 2)), str(pipeline.input_kind)
        ((2, 34, 34), 'counts')
    """

    def __init__(
        self,
        transforms: Sequence[Specification] = (),
        augment: Sequence[Specification] = (),
        evaluation: Sequence[Specification] = (),
        framing: Framing | None = None,
        binary: bool = True,
        cache: Cache = "memory",
        cache_dir: str | None = None,
        cache_limit: int = 4 * 2**30,
    ) -> None:
        check_choice("cache", cache, ("none", "memory", "disk"))
        check_range("cache_limit", cache_limit, 0)
        self.framing = TimeBins() if framing is None else framing
        self.binary, self.cache, self.cache_dir, self.cache_limit = binary, cache, cache_dir, cache_limit
        self._common = choose("transforms", transforms)
        self._augment = choose("augment", augment)
        self._evaluation = choose("evaluation", evaluation)
        for choice in (*self._common, *self._evaluation):
            if choice.random and choice.tonic is not None:
                raise ConfigurationError(
                    f"{choice.option}: {choice.path} is random, expected a deterministic transform; use augment."
                )

    def shape(self, sensor_size: SensorSize) -> tuple[int, ...]:
        """Shape of one frame: ``(channels, H, W)``, for audio ``(channels,)``.

        Raises:
            ConfigurationError: if a transform does not suit the sensor, or if samples for training and evaluation
                differ in size.
        """
        training, other = (self._frame_size(self._chain(train, sensor_size), sensor_size) for train in (True, False))
        if training != other:
            width, height, _ = training
            raise ConfigurationError(
                f"augment: training frames would have the size {training}, other frames {other} (W, H, channels); "
                f"expected one size, for example by evaluation: CenterCrop to [{width}, {height}]."
            )
        return _shape(other)

    @property
    def input_kind(self) -> InputKind:
        """Kind of the numbers in a frame."""
        return self.framing.input_kind(self.binary)

    def dataset(self, recordings: Recordings, time_steps: int, train: bool) -> "FramedEvents":
        """Create a data set of samples: frames ``[T, C, H, W]``, for audio ``[T, N]``, and label.

        Args:
            recordings: recordings of one set.
            time_steps: T.
            train: whether samples are augmented.

        Raises:
            ConfigurationError: see :meth:`shape`.
            DataError: for events outside the sensor, or a cache that can't be written.
        """
        self.shape(recordings.sensor_size)
        return FramedEvents(self, recordings, time_steps, self._chain(train, recordings.sensor_size), train)

    def _chain(self, train: bool, sensor_size: SensorSize) -> list[Step]:
        return equip((*self._common, *(self._augment if train else self._evaluation)), sensor_size)

    def _frame_size(self, chain: Sequence[Step], sensor_size: SensorSize) -> SensorSize:
        width, height, polarities = chain[-1].after if chain else sensor_size
        return width, height, self.framing.channels(polarities)

    @property
    def folder(self) -> Path:
        """The folder of the cache files."""
        if self.cache_dir is not None:
            return Path(self.cache_dir)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikefit"


class FramedEvents(LabelledDataset):
    """Data set of framed events; all samples of a batch are framed, or read from the cache, together.

    Args:
        pipeline: the options.
        recordings: recordings of one set.
        time_steps: T.
        chain: all transforms, in order.
        train: whether the chain contains the augmentation.
        shared: another data set of the same recordings, whose cached events are used if they are the same.

    Attributes:
        key: key of the cache; equal if and only if the cached content is equal.
    """

    def __init__(
        self,
        pipeline: EventPipeline,
        recordings: Recordings,
        time_steps: int,
        chain: Sequence[Step],
        train: bool,
        shared: "FramedEvents | None" = None,
    ) -> None:
        self.labels = recordings.labels
        self.pipeline, self.recordings, self.time_steps, self.train = pipeline, recordings, time_steps, train
        random = [number for number, step in enumerate(chain) if step.choice.random]
        fixed = random[0] if random else len(chain)
        self._fixed, self._drawn = list(chain[:fixed]), list(chain[fixed:])
        self._keeps_frames = not random
        self._sensor = chain[-1].after if chain else recordings.sensor_size
        width, height, polarities = self._sensor
        self._shape = (time_steps, *_shape((width, height, pipeline.framing.channels(polarities))))
        self._dtype = pipeline.framing.dtype(pipeline.binary)
        self._packed = pipeline.binary and not pipeline.framing.real
        self.key = caching.key_of(self._description())
        self._table: caching.Table | None
        if shared is not None and not shared._keeps_frames and shared._same_events(self):
            self._table, self._keeps_frames = shared._table, False
            self.key = shared.key
            self._fixed, self._drawn = shared._fixed, [*self._fixed[len(shared._fixed) :], *self._drawn]
        else:
            self._table = self._cached()

    def __getstate__(self) -> dict[str, Any]:
        """State for data loader workers, which need no recordings if there is a cache."""
        return self.__dict__ | ({"recordings": None} if self._table is not None else {})

    def without_augmentation(self) -> LabelledDataset:
        """The same recordings as samples for evaluation, with a shared cache of events if possible."""
        if not self.train:
            return self
        chain = self.pipeline._chain(False, self.recordings.sensor_size)
        if [step.describe() for step in chain] == [step.describe() for step in (*self._fixed, *self._drawn)]:
            return self
        return FramedEvents(self.pipeline, self.recordings, self.time_steps, chain, train=False, shared=self)

    def tensors(self) -> SampleTensors | None:
        """The cached frames, with spikes as bits; None if frames are computed when they are read."""
        if self._table is None or not self._keeps_frames:
            return None
        with warnings.catch_warnings():  # memory-mapped rows are read-only, and nothing writes to them
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return SampleTensors(torch.from_numpy(self._table.rows), self.labels, self._decode)

    def _same_events(self, other: "FramedEvents") -> bool:
        """Whether the events that are cached here are a valid intermediate result of ``other``."""
        return [step.describe() for step in self._fixed] == [
            step.describe() for step in other._fixed[: len(self._fixed)]
        ]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Frames ``[T, C, H, W]``, for audio ``[T, N]``, and label; spikes are uint8, counts int16, voxels float32."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Samples of a batch, computed together; called by ``DataLoader``."""
        chosen = np.asarray(indices)
        if ((chosen < -len(self)) | (chosen >= len(self))).any():
            raise IndexError(f"got {indices}, expected samples of {len(self)}")
        chosen = chosen % len(self)
        if self._table is not None and self._keeps_frames:
            frames = self._unpack(self._table.rows[chosen])
        else:
            events = [apply(self._drawn, self._events(index)) for index in chosen.tolist()]
            frames = self._frame(events)
        labels = self.labels[torch.from_numpy(chosen)].tolist()
        return list(zip(torch.from_numpy(frames), labels, strict=True))

    def _events(self, index: int) -> np.ndarray:
        """Events after the deterministic transforms, before the first random one."""
        if self._table is not None:
            rows, offsets = self._table.rows, cast(np.ndarray, self._table.offsets)
            own = rows[offsets[index] : offsets[index + 1]]
            # A copy, because a transform may modify it. Copying bytes takes a tenth of the time of copying fields.
            return own.view(np.uint8).copy().view(own.dtype)
        events = self.recordings[index]
        if not (self._fixed or self._drawn):
            return events
        return apply(self._fixed, tidy(events, self.recordings.sensor_size))

    def _frame(self, events: Sequence[np.ndarray]) -> np.ndarray:
        """Frames ``[B, T, C, H, W]``, for audio ``[B, T, N]``."""
        options = self.pipeline
        frames = frame(events, options.framing, self._sensor, self.time_steps, options.binary)
        return frames.reshape(len(events), *self._shape)

    def _pack(self, frames: np.ndarray) -> np.ndarray:
        """Convert frames to rows of the cache, with spikes as bits."""
        rows = frames.reshape(len(frames), -1)
        return np.packbits(rows, axis=1) if self._packed else rows

    def _unpack(self, rows: np.ndarray) -> np.ndarray:
        """Convert rows of the cache to frames ``[B, T, C, H, W]``."""
        if self._packed:
            rows = np.unpackbits(rows, axis=1, count=int(np.prod(self._shape)))
        return rows.reshape(len(rows), *self._shape)

    def _decode(self, rows: Tensor) -> Tensor:
        """Convert rows of the cache to frames ``[B, T, C, H, W]`` on the device of the rows."""
        if rows.device.type == "cpu":
            return torch.from_numpy(self._unpack(rows.numpy()))
        if self._packed:
            rows = unpack_bits(rows, int(np.prod(self._shape)))
        return rows.reshape(len(rows), *self._shape)

    def _description(self) -> dict[str, Any]:
        """All settings that determine the cached content."""
        content: Mapping[str, Any] = {"content": "events"}
        if self._keeps_frames:
            content = self.pipeline.framing.describe() | {"steps": self.time_steps, "binary": self._packed}
        return {
            "recordings": self.recordings.identity,
            "labels": hashlib.sha256(self.labels.numpy().tobytes()).hexdigest(),  # the recordings and their order
            "sensor_size": self.recordings.sensor_size,
            "tonic": version("tonic"),
            "transforms": [step.describe() for step in self._fixed],
            **content,
        }

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """The content to cache, some recordings at a time."""
        for events in self._groups():
            if self._keeps_frames:
                yield self._pack(self._frame(events)), None
            else:
                yield np.concatenate(events), np.array([len(own) for own in events])

    def _groups(self) -> Iterator[list[np.ndarray]]:
        group: list[np.ndarray] = []
        for index in range(len(self)):
            events = self._events(index)
            group.append(events if self._keeps_frames else tidy(events, self.recordings.sensor_size))
            if len(group) == CHUNK or sum(map(len, group)) >= CHUNK_EVENTS:
                yield group
                group = []
        if group:
            yield group

    def _layout(self) -> tuple[tuple[int, ...] | None, np.dtype[Any]]:
        """Shape (None if rows differ in length) and type of the cached content."""
        if not self._keeps_frames:
            return None, tidy(np.empty(0), self.recordings.sensor_size).dtype
        numbers = int(np.prod(self._shape))
        return (len(self), -(-numbers // 8) if self._packed else numbers), self._dtype

    def _cached(self) -> caching.Table | None:
        """Fill the cache, or read it from disk; None without a cache."""
        options = self.pipeline
        self._table = None  # while the cache is filled, events come from the recordings
        if options.cache == "none" or len(self) == 0:
            return None
        try:
            if options.cache == "memory":
                table = caching.InMemory.fill(self._chunks(), *self._layout(), options.cache_limit)
                rank_zero_info(f"Cache of {self.recordings.identity} in memory: {table.rows.nbytes:,} bytes")
                return table
            return self._from_disk()
        except caching.OverLimitError as error:
            advice = (
                f"Raise cache_limit or empty {options.folder}." if options.cache == "disk" else "Raise cache_limit."
            )
            rank_zero_warn(
                f"cache_limit: {self.recordings.identity} is not cached, because it would take {error}. Samples are "
                f"read and transformed every time. {advice}"
            )
            return None

    def _from_disk(self) -> caching.Table:
        path = self.pipeline.folder / f"{self.key}{caching.SUFFIX}"
        try:
            return caching.OnDisk(path, self.key)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise DataError(f"cache_dir: {path} can't be read ({error}).") from error
        except caching.DamagedError as error:
            rank_zero_warn(f"cache_dir: {path} is damaged ({error}) and is written again.")
        caching.write(path.parent, self.key, self._chunks(), *self._layout(), self.pipeline.cache_limit)
        rank_zero_info(f"Cache of {self.recordings.identity}: {path}, {path.stat().st_size:,} bytes")
        return caching.OnDisk(path, self.key)


def unpack_bits(rows: Tensor, count: int) -> Tensor:
    """Unpack bits as ``np.unpackbits`` does, on any device.

    Args:
        rows: uint8 ``[B, K]``, eight bits per byte, the first one in the highest bit.
        count: number of bits to return per row.
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=rows.device)
    return ((rows.unsqueeze(-1) >> shifts) & 1).flatten(1)[:, :count]


def _shape(size: SensorSize) -> tuple[int, ...]:
    """Shape of a frame with the given width, height and number of channels."""
    width, height, channels = size
    return (width,) if is_audio(size) else (channels, height, width)
