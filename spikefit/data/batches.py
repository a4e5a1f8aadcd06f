"""Batches made and augmented on the training device, from samples that are held in one tensor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from spikefit.data.augment import BatchTransform
from spikefit.seeding import derived_seed

Batch = tuple[Tensor, Tensor]


def identity(rows: Tensor) -> Tensor:
    """Return the rows unchanged."""
    return rows


@dataclass(frozen=True)
class SampleTensors:
    """All samples of a data set, in two tensors.

    Attributes:
        rows: ``[N, ...]``, one row per sample, possibly packed.
        labels: int64 ``[N]``.
        decode: converts rows to samples ``[B, ...]``, on any device; the identity if the samples are not packed.
    """

    rows: Tensor
    labels: Tensor
    decode: Callable[[Tensor], Tensor] = identity

    def to(self, device: torch.device) -> "SampleTensors":
        """Move the samples to ``device``; no copy if they are already there."""
        return replace(self, rows=self.rows.to(device), labels=self.labels.to(device))


class EpochBatches(ABC):
    """Iterable over the batches of an epoch that can be continued in the middle of an epoch.

    Lightning's trainer accepts it in place of a ``DataLoader``. It does not replace the sampler, and calls its method
    ``set_epoch`` in every epoch. It stores :meth:`state_dict` in checkpoints and calls :meth:`load_state_dict` when an
    epoch is continued. Only the next iteration is a part of an epoch; all later ones are complete.

    Attributes:
        sampler: order of the samples.
        position: number of batches of the current epoch that have been trained on; called when a checkpoint is saved.
        batch_sampler: always None; Lightning reads this attribute.
    """

    batch_sampler = None
    sampler: Sampler[int]
    position: Callable[[], int] | None = None
    _start = 0

    @abstractmethod
    def batches_from(self, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches of a complete epoch."""

    def __iter__(self) -> Iterator[Batch]:
        start, self._start = self._start, 0
        return self.batches_from(start)

    def state_dict(self) -> dict[str, int]:
        """The number of batches that have been trained on."""
        return {"batches": 0 if self.position is None else self.position()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration start after the batches that have been trained on."""
        self._start = state["batches"]


class TensorBatches(EpochBatches):
    """Batches ``(samples, labels)``, each made by one gather on the device of the tensors.

    Args:
        samples: all samples, on the device where batches are needed.
        indices: int64 ``[M]``, rows that belong to the split; None for all.
        sampler: order of the samples in an epoch, numbers below M.
        batch_size: samples per batch; the last batch may be smaller.
    """

    def __init__(self, samples: SampleTensors, indices: Tensor | None, sampler: Sampler[int], batch_size: int) -> None:
        self.samples, self.indices, self.sampler, self.batch_size = samples, indices, sampler, batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]

    def batches_from(self, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on."""
        order = torch.tensor(list(self.sampler))  # computed with the first batch, when the epoch has been set
        if self.indices is not None:
            order = self.indices[order]
        samples = self.samples
        for chosen in order.to(samples.rows.device).split(self.batch_size)[start:]:
            yield samples.decode(samples.rows.index_select(0, chosen)), samples.labels.index_select(0, chosen)


class EpochOrder(DistributedSampler[int]):
    """Order of the samples in an epoch, whose next iteration may start at a later sample.

    Attributes:
        start: number of samples that the next iteration leaves out.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        return islice(super().__iter__(), start, None)


class LoadedBatches(EpochBatches):
    """Batches of a ``DataLoader``, which starts when the first batch is needed: its workers then know the epoch.

    Worker processes have random numbers of their own, which no checkpoint holds. They load the batches that have been
    trained on once more when an epoch is continued; without workers these batches are left out.

    Args:
        loader: loads batches in the order of ``sampler``.
        sampler: its sampler.
    """

    def __init__(self, loader: DataLoader[Any], sampler: EpochOrder) -> None:
        self.loader, self.sampler = loader, sampler

    def __len__(self) -> int:
        return len(self.loader)

    def batches_from(self, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on."""
        if self.loader.num_workers == 0:
            assert isinstance(self.sampler, EpochOrder)
            self.sampler.start, start = start * (self.loader.batch_size or 1), 0
        yield from islice(self.loader, start, None)


class AugmentedBatches(EpochBatches):
    """Batches that are transformed on a device.

    The random numbers depend on seed, epoch, process and number of the batch only. A resumed run therefore gets the
    same samples as an uninterrupted one, and the global random state is not used.

    Args:
        batches: the batches.
        sampler: sampler of the batches; provides epoch and process.
        transforms: applied in this order.
        seed: seed of the random numbers.
        device: device on which the transforms run.
    """

    def __init__(
        self,
        batches: EpochBatches,
        sampler: DistributedSampler[int],
        transforms: Sequence[BatchTransform],
        seed: int,
        device: torch.device,
    ) -> None:
        self.batches, self.sampler, self.transforms = batches, sampler, transforms
        self.seed, self.device = seed, device

    def __len__(self) -> int:
        return len(self.batches)

    def batches_from(self, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on."""
        generator, order = torch.Generator(self.device), self.sampler
        assert isinstance(order, DistributedSampler)
        for number, (samples, labels) in enumerate(self.batches.batches_from(start), start):
            samples = samples.to(self.device, non_blocking=True)
            generator.manual_seed(derived_seed(self.seed, "augment", order.epoch, order.rank, number))
            for transform in self.transforms:
                samples = transform(samples, generator)
            yield samples, labels
