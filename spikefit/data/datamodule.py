"""The data module of image and event data sets: splits, data loaders and encoding in time."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, Sampler, SequentialSampler, Subset

from spikefit.data import encode
from spikefit.data.augment import BatchTransform
from spikefit.data.batches import AugmentedBatches, EpochBatches, EpochOrder, LoadedBatches, TensorBatches
from spikefit.data.device_cache import Choice, DeviceCache
from spikefit.data.images import Augmented
from spikefit.data.integrity import require_labels
from spikefit.data.source import DataSource, LabelledDataset, Part
from spikefit.data.split import stratified_split
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.input_kind import InputKind
from spikefit.seeding import derived_seed, reseed

Encoding = Literal["direct", "rate", "latency", "frames"]
IMAGE_ENCODINGS = {"direct": InputKind.CONSTANT, "rate": InputKind.SPIKES, "latency": InputKind.SPIKES}


class SpikeDataModule(pl.LightningDataModule):
    """Data module of an image or event data set: splits it and encodes samples as inputs of T time steps.

    The validation set is the official one if the data set has one. Otherwise it is split from the official training
    set, stratified and seeded; samples that belong together (cut from one recording, made by one person) stay together.
    The test set is the official one.
    Every batch is ``([T, B, C, H, W] float32, [B] int64)``, for audio ``[T, B, N]``. The order of training samples
    depends on seed and epoch only, so that a resumed run gets the same batches as an uninterrupted one.

    A data set that is held in one tensor (``LabelledDataset.tensors``: images in memory, cached frames of events) is
    copied once to the training device, without conversion, and batches are made there. A ``DataLoader`` is used for all
    other data sets, with transforms of single samples, for ``predict``, and for evaluation by several processes. The
    batches are the same either way.

    Args:
        dataset: the data set.
        encoding: ``direct``, ``rate`` or ``latency`` for images, ``frames`` for events.
        time_steps: T.
        batch_size: samples per batch and process.
        val_fraction: share of the training set used for validation, in [0, 1); 0 for no validation. If there is an
            official validation set, any other value uses all of it.
        augment: transforms of training samples only. First those of single samples, for example from
            ``torchvision.transforms.v2``, which run where samples are loaded; then those of batches, from
            :mod:`spikefit.data.augment`, which run on the device.
        num_workers: worker processes of a ``DataLoader``; 0 loads in the training process. If batches are made on the
            device, no workers are started.
        seed: seed of the split, the subset, the order, and the transforms of batches.
        train_samples: number of training samples to use, drawn in equal shares of every class with ``seed``,
            independent of the training's seed. None for all.
        device_cache: whether batches are made on the device. ``auto``: on a CPU, where nothing is copied, and on a
            CUDA device if the data set takes less than a quarter of its free memory; true: always, or an error; false:
            never.

    Attributes:
        num_classes, input_shape, time_steps, input_kind: known before any file is read.

    Raises:
        ConfigurationError: for values that are not allowed, or an encoding that does not match the data.

    Example:
        >>> from spikefit.data.images import Digits
        >>> data = SpikeDataModule(Digits(), encoding="rate", time_steps=4, batch_size=32)
        >>> data.setup("fit")
        >>> x, y = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        >>> x.shape, y.shape
        (torch.Size([4, 32, 1, 8, 8]), torch.Size([32]))
    """

    def __init__(
        self,
        dataset: DataSource,
        encoding: Encoding = "direct",
        time_steps: int = 4,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        augment: Sequence[nn.Module] = (),
        num_workers: int = 0,
        seed: int = 0,
        train_samples: int | None = None,
        device_cache: Choice = "auto",
    ) -> None:
        super().__init__()
        check_choice("encoding", encoding, (*IMAGE_ENCODINGS, "frames"))
        name = type(dataset).__name__
        allowed = ("frames",) if dataset.event else tuple(IMAGE_ENCODINGS)
        if encoding not in allowed:
            raise ConfigurationError(f"encoding: got {encoding!r}, expected one of {', '.join(allowed)} for {name}.")
        if dataset.event and dataset.input_kind is None:
            raise ConfigurationError(
                f"input_kind: {name} gives frames of events, but does not declare their kind; expected one of "
                f"{', '.join(InputKind)}."
            )
        check_range("time_steps", time_steps, 1)
        check_range("batch_size", batch_size, 1)
        check_range("num_workers", num_workers, 0)
        check_range("seed", seed, 0)
        if not 0 <= val_fraction < 1:
            raise ConfigurationError(f"val_fraction: got {val_fraction!r}, expected a value in [0, 1).")
        if train_samples is not None:
            check_range("train_samples", train_samples, 1)
        self.dataset, self.encoding, self.time_steps = dataset, encoding, time_steps
        self.batch_size, self.val_fraction, self.num_workers = batch_size, val_fraction, num_workers
        self.seed, self.train_samples = seed, train_samples
        self._cache = DeviceCache(device_cache, name)
        self._sample_transforms, self._batch_transforms = _sorted_transforms(augment, device_cache)
        self._parts: dict[str, LabelledDataset | Subset[Any]] = {}

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return self.dataset.num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one frame: ``(C, H, W)``, for audio ``(N,)``."""
        return tuple(self.dataset.shape)

    @property
    def input_kind(self) -> InputKind:
        """Kind of the network's inputs, declared by the encoding of images or by the source of event frames."""
        if self.encoding != "frames":
            return IMAGE_ENCODINGS[self.encoding]
        assert self.dataset.input_kind is not None
        return self.dataset.input_kind

    @property
    def validates(self) -> bool:
        """Whether there is a validation set."""
        return self.val_fraction > 0

    def prepare_data(self) -> None:
        """Download missing files, in one process."""
        self.dataset.prepare()

    def setup(self, stage: str) -> None:
        """Load the sets that ``stage`` (``fit``, ``validate``, ``test`` or ``predict``) needs, once."""
        if stage in ("fit", "validate") and "train" not in self._parts:
            self._load_train()
        if stage in ("test", "predict") and "test" not in self._parts:
            self._parts["test"] = self._load("test")

    def _load(self, part: Part) -> LabelledDataset:
        loaded = self.dataset.load(part, self.time_steps)
        require_labels(loaded.labels, self.num_classes, f"{type(self.dataset).__name__}: the {part} part")
        return loaded

    def _load_train(self) -> None:
        full = self._load("train")
        shown = Augmented(full, self._sample_transforms) if self._sample_transforms else full
        kept = np.arange(len(full))
        if self.val_fraction > 0:
            if self.dataset.has_validation:
                self._parts["val"] = self._load("valid")
            else:
                kept, held_out = self._split("val_fraction", full, kept, self.val_fraction, full.groups)
                self._parts["val"] = Subset(full.without_augmentation(), held_out.tolist())
        if self.train_samples is not None:
            check_range("train_samples", self.train_samples, 1, len(kept))
            if self.train_samples < len(kept):
                kept = self._split("train_samples", full, kept, self.train_samples)[1]
        self._parts["train"] = Subset(shown, kept.tolist()) if len(kept) < len(full) else shown

    def _split(
        self,
        option: str,
        full: LabelledDataset,
        indices: np.ndarray,
        held_out: float,
        groups: Tensor | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Split ``indices``, stratified, into kept and held-out ones; ``held_out`` is a share or a number."""
        together = None if groups is None else np.asarray(groups)[indices]
        try:
            kept, out = stratified_split(np.asarray(full.labels)[indices], held_out, self.seed, together)
        except ValueError as error:  # fewer samples than classes on one side
            raise ConfigurationError(
                f"{option}: {held_out} of {len(indices)} samples can't hold every class ({error})."
            ) from error
        return indices[kept], indices[out]

    def train_dataloader(self) -> EpochBatches:
        """Shuffled training batches; a resumed run continues with the batch after the last one."""
        trainer = self.trainer
        sampler = EpochOrder(
            self._parts["train"],
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            shuffle=not (trainer and trainer.overfit_batches),  # type: ignore[attr-defined]  # as Lightning requires
            seed=derived_seed(self.seed, "order") % 2**31,
        )
        if trainer is not None:
            sampler.set_epoch(trainer.current_epoch)
        batches: EpochBatches | None = self._tensor_batches("train", sampler)
        if batches is None:
            loader = self._loader("train", sampler=sampler, worker_init_fn=partial(_seed_worker, self.seed, sampler))
            batches = LoadedBatches(loader, sampler)
        if self._batch_transforms:
            batches = AugmentedBatches(batches, sampler, self._batch_transforms, self.seed, self._device)
        if trainer is not None:
            batches.position = partial(_trained_batches, trainer)
        return batches

    def val_dataloader(self) -> Iterable[Any]:
        """Validation batches in a fixed order; empty without a validation set."""
        return self._evaluation("val") if "val" in self._parts else []

    def test_dataloader(self) -> Iterable[Any]:
        """Test batches in a fixed order; in a test on several processes, every sample is in one of them once."""
        trainer, part = self.trainer, self._parts["test"]
        if trainer is None or trainer.world_size == 1 or not trainer.testing:
            return self._evaluation("test")
        if len(part) < trainer.world_size:
            raise ConfigurationError(
                f"trainer.devices: got {trainer.world_size} processes, expected at most {len(part)}, one for each "
                "sample of the test set."
            )
        # Lightning's own sampler would repeat samples until all processes have as many.
        share = UnrepeatedDistributedSampler(part, trainer.world_size, trainer.global_rank, shuffle=False)
        return self._tensor_batches("test", share) or self._loader("test", sampler=share)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test set as a ``DataLoader``, from which Lightning reports the indices of a batch's samples."""
        return self._loader("test")

    def _evaluation(self, part: str) -> Iterable[Any]:
        several = self.trainer is not None and self.trainer.world_size > 1  # Lightning distributes only a DataLoader
        batches = None if several else self._tensor_batches(part, SequentialSampler(self._parts[part]))
        return self._loader(part) if batches is None else batches

    def _loader(self, part: str, **options: Any) -> DataLoader[Any]:
        # A separate generator, because starting worker processes must not use the global random numbers.
        return DataLoader(
            self._parts[part],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _tensor_batches(self, part: str, sampler: Sampler[int]) -> TensorBatches | None:
        """Batches that are made on the device; None if the set must be read by a ``DataLoader``."""
        whole, indices = self._parts[part], None
        if isinstance(whole, Subset):
            indices = torch.tensor(whole.indices)
            whole = cast(LabelledDataset, whole.dataset)
        check = partial(self.input_kind.check, where=type(self.dataset).__name__) if self.encoding == "frames" else None
        tensors = self._cache.get(whole, self._device, check)
        if tensors is None:
            return None
        if self.num_workers and part == "train":
            rank_zero_info("num_workers: no workers are started, because batches are made from data in memory")
        return TensorBatches(tensors, indices, sampler, self.batch_size)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raise if frames in host memory contradict the kind that their source declares.

        Frames on another device were checked when they were moved there.
        """
        if self.encoding == "frames":
            frames = batch[0] if isinstance(batch, list | tuple) else batch
            if frames.device.type == "cpu":
                self.input_kind.check(frames, type(self.dataset).__name__)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Encode a batch ``(x, y)`` or ``x``, so that ``x`` is ``[T, B, C, H, W]``."""
        if isinstance(batch, list | tuple):
            x, *rest = batch
            return (self.encode(x), *rest)
        return self.encode(batch)

    def encode(self, x: Tensor) -> Tensor:
        """Encode images ``[B, C, H, W]`` or frames ``[B, T, ...]`` as ``[T, B, ...]``, float32.

        Rate coding is random in training. In evaluation every batch gets the same noise, so that results are
        reproducible.
        """
        if self.encoding == "frames":
            return x.transpose(0, 1).float()
        images = x / 255 if x.dtype == torch.uint8 else x.float()
        if self.encoding == "direct":
            return encode.direct(images, self.time_steps)
        if self.encoding == "latency":
            return encode.latency(images, self.time_steps)
        training = self.trainer is not None and self.trainer.training and torch.is_grad_enabled()
        fixed = None if training else torch.Generator(images.device).manual_seed(self.seed)
        return encode.rate(images, self.time_steps, fixed)


def _trained_batches(trainer: pl.Trainer) -> int:
    """Number of batches of the epoch that have been trained on; 0 once the epoch is over."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    return trainer.fit_loop.batch_idx + 1 if epochs.processed < epochs.ready else 0


def _seed_worker(seed: int, sampler: DistributedSampler[Any], worker: int) -> None:
    reseed(seed, "worker", sampler.epoch, sampler.rank, worker)


def _sorted_transforms(
    augment: Sequence[nn.Module], device_cache: Choice
) -> tuple[list[Callable[[Tensor], Tensor]], list[BatchTransform]]:
    """Separate transforms of single samples from transforms of batches, and check their order."""
    single: list[Callable[[Tensor], Tensor]] = []
    batched: list[BatchTransform] = []
    for transform in augment:
        name = type(transform).__name__
        if isinstance(transform, BatchTransform):
            batched.append(transform)
        elif batched:
            raise ConfigurationError(
                f"augment: got {name} after {type(batched[-1]).__name__}; expected transforms of single samples before "
                "those of batches (spikefit.data.augment)."
            )
        elif device_cache is True:
            raise ConfigurationError(
                f"device_cache: got True, but {name} of augment transforms single samples; expected 'auto' or False, "
                "or transforms of batches alone (spikefit.data.augment)."
            )
        else:
            single.append(transform)
    return single, batched
