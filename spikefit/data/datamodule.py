"""The data module: splits, loaders and coding, the same for images and events."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from spikefit.data import encode
from spikefit.data.source import DataSource, LabelledDataset
from spikefit.data.static import Augmented, stratified_split
from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.inputs import InputKind
from spikefit.seeding import derived_seed, reseed

Encoding = Literal["direct", "rate", "latency", "frames"]
IMAGE_ENCODINGS = {"direct": InputKind.CONSTANT, "rate": InputKind.SPIKES, "latency": InputKind.SPIKES}


class SpikeDataModule(pl.LightningDataModule):
    """A data set, split and coded in time.

    The validation part is the official one where the data set has one, else cut from the official training part,
    stratified and seeded; samples that belong together (cut from one recording, made by one person) stay on one side.
    The test part is the official one.
    Every batch arrives as ``([T, B, C, H, W] float32, [B] int64)``, audio as ``[T, B, N]``. The order of training
    samples is a function of seed and epoch alone, so that a resumed run sees the batches of the uninterrupted one.

    Args:
        dataset: which data.
        encoding: ``direct``, ``rate`` or ``latency`` for images, ``frames`` for events.
        time_steps: T.
        batch_size: samples a batch and process.
        val_fraction: share of the training part that validates, in [0, 1); 0 for no validation. Any other value means
            all of an official validation part.
        augment: transforms of single training images, from ``torchvision.transforms.v2``; never applied elsewhere.
        num_workers: processes that load; 0 loads in the training process, which is faster for data in memory.
        seed: of the split, the subset and the order.
        train_samples: train on this many samples only, drawn from the training part in equal shares of every class;
            ``seed`` says which, whatever the seed of the training. None for all.

    Attributes:
        num_classes, input_shape, time_steps, input_kind: known before any file is touched.

    Raises:
        ConfigurationError: for values that are not allowed, or an encoding that does not suit the data.
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
    ) -> None:
        super().__init__()
        check_choice("encoding", encoding, (*IMAGE_ENCODINGS, "frames"))
        name = type(dataset).__name__
        allowed = ("frames",) if dataset.event else tuple(IMAGE_ENCODINGS)
        if encoding not in allowed:
            raise ConfigurationError(f"encoding: got {encoding!r}, expected one of {', '.join(allowed)} for {name}.")
        if dataset.event and dataset.input_kind is None:
            raise ConfigurationError(
                f"input_kind: {name} gives frames of events and does not declare what they hold; expected one of "
                f"{', '.join(InputKind)}."
            )
        check_range("time_steps", time_steps, 1)
        check_range("batch_size", batch_size, 1)
        check_range("num_workers", num_workers, 0)
        if not 0 <= val_fraction < 1:
            raise ConfigurationError(f"val_fraction: got {val_fraction!r}, expected a value in [0, 1).")
        if train_samples is not None:
            check_range("train_samples", train_samples, 1)
        self.dataset, self.encoding, self.time_steps = dataset, encoding, time_steps
        self.batch_size, self.val_fraction, self.num_workers = batch_size, val_fraction, num_workers
        self.augment, self.seed, self.train_samples = tuple(augment), seed, train_samples
        self._parts: dict[str, Dataset[Any]] = {}

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.dataset.num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of one frame; audio: ``(N,)``."""
        return tuple(self.dataset.shape)

    @property
    def input_kind(self) -> InputKind:
        """What the network reads in a step: declared by the coding of images, or by the source of event frames."""
        if self.encoding != "frames":
            return IMAGE_ENCODINGS[self.encoding]
        assert self.dataset.input_kind is not None
        return self.dataset.input_kind

    @property
    def validates(self) -> bool:
        """Whether there is a validation part."""
        return self.val_fraction > 0

    def prepare_data(self) -> None:
        """Download what is missing, in one process."""
        self.dataset.prepare()

    def setup(self, stage: str) -> None:
        """Load the parts that ``stage`` (``fit``, ``validate``, ``test`` or ``predict``) needs, once."""
        if stage in ("fit", "validate") and "train" not in self._parts:
            self._load_train()
        if stage in ("test", "predict") and "test" not in self._parts:
            self._parts["test"] = self.dataset.load("test", self.time_steps)

    def _load_train(self) -> None:
        full: LabelledDataset = self.dataset.load("train", self.time_steps)
        shown = Augmented(full, self.augment) if self.augment else full
        kept = np.arange(len(full))
        if self.val_fraction > 0:
            if self.dataset.has_validation:
                self._parts["val"] = self.dataset.load("valid", self.time_steps)
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
        """``indices`` to keep and to hold out, stratified: a share of them, or a number if ``held_out`` is an int."""
        together = None if groups is None else np.asarray(groups)[indices]
        try:
            kept, out = stratified_split(np.asarray(full.labels)[indices], held_out, self.seed, together)
        except ValueError as error:  # fewer samples than classes on one side
            raise ConfigurationError(
                f"{option}: {held_out} of {len(indices)} samples can't hold every class ({error})."
            ) from error
        return indices[kept], indices[out]

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; the epoch is known from the start, also when training is resumed."""
        trainer = self.trainer
        sampler: DistributedSampler[Any] = DistributedSampler(
            self._parts["train"],
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            shuffle=True,
            seed=derived_seed(self.seed, "order") % 2**31,
        )
        if trainer is not None:
            sampler.set_epoch(trainer.current_epoch)
        return self._loader("train", sampler=sampler, worker_init_fn=partial(_seed_worker, self.seed, sampler))

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation batches in a fixed order; none without a validation part."""
        return self._loader("val") if "val" in self._parts else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches in a fixed order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test part."""
        return self._loader("test")

    def _loader(self, part: str, **options: Any) -> DataLoader[Any]:
        # Its own generator: starting worker processes must not draw from the training's random numbers.
        return DataLoader(
            self._parts[part],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Refuse frames that contradict what their source declares, while they are still in the host's memory."""
        if self.encoding == "frames":
            frames = batch[0] if isinstance(batch, list | tuple) else batch
            self.input_kind.check(frames, type(self.dataset).__name__)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """``(x, y)`` with ``x`` ``[T, B, C, H, W]``; a batch without labels stays one."""
        if isinstance(batch, list | tuple):
            x, *rest = batch
            return (self.encode(x), *rest)
        return self.encode(batch)

    def encode(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` or frames ``[B, T, ...]`` as ``[T, B, ...]``, float32.

        Rate coding is random in training; in evaluation every batch gets the same noise, so that figures repeat.
        """
        if self.encoding == "frames":
            return x.transpose(0, 1).float()
        images = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if self.encoding == "direct":
            return encode.direct(images, self.time_steps)
        if self.encoding == "latency":
            return encode.latency(images, self.time_steps)
        training = self.trainer is not None and self.trainer.training and torch.is_grad_enabled()
        fixed = None if training else torch.Generator(images.device).manual_seed(self.seed)
        return encode.rate(images, self.time_steps, fixed)


def _seed_worker(seed: int, sampler: DistributedSampler[Any], worker: int) -> None:
    reseed(seed, "worker", sampler.epoch, sampler.rank, worker)
