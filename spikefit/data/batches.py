"""Batches of samples that are held in one tensor, made and augmented on the device that trains."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from spikefit.data.augment import BatchTransform
from spikefit.seeding import derived_seed

Batch = tuple[Tensor, Tensor]


def identity(rows: Tensor) -> Tensor:
    """The rows as they are."""
    return rows


@dataclass(frozen=True)
class SampleTensors:
    """All samples of a data set, in two tensors.

    Attributes:
        rows: ``[N, ...]``, one row a sample, perhaps packed.
        labels: int64 ``[N]``.
        decode: makes samples ``[B, ...]`` of rows, on any device; the identity for samples that are not packed.
    """

    rows: Tensor
    labels: Tensor
    decode: Callable[[Tensor], Tensor] = identity

    def to(self, device: torch.device) -> "SampleTensors":
        """The same samples on ``device``; no copy where they are there."""
        return replace(self, rows=self.rows.to(device), labels=self.labels.to(device))


class TensorBatches:
    """Batches ``(samples, labels)``, each made by one gather on the device of the tensors.

    A trainer of Lightning takes it in place of a ``DataLoader``, leaves its order alone, and tells ``sampler`` the
    epoch.

    Args:
        samples: all samples, on the device where batches are wanted.
        indices: int64 ``[M]``, which rows belong to the part; None for all.
        sampler: order of an epoch, numbers below M.
        batch_size: samples a batch; the last one may be smaller.

    Attributes:
        batch_sampler: None, which Lightning asks for.
    """

    batch_sampler = None

    def __init__(self, samples: SampleTensors, indices: Tensor | None, sampler: Sampler[int], batch_size: int) -> None:
        self.samples, self.indices, self.sampler, self.batch_size = samples, indices, sampler, batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        order = torch.tensor(list(self.sampler))  # when the first batch is asked for: the epoch is known by then
        if self.indices is not None:
            order = self.indices[order]
        samples = self.samples
        for chosen in order.to(samples.rows.device).split(self.batch_size):
            yield samples.decode(samples.rows.index_select(0, chosen)), samples.labels.index_select(0, chosen)


class AugmentedBatches:
    """Batches that pass through transforms on a device.

    The random numbers are a function of seed, epoch, process and number of the batch: a resumed run sees the samples of
    the uninterrupted one, and the random numbers of the training are left alone.

    Args:
        batches: :class:`TensorBatches`, or a ``DataLoader``.
        sampler: that orders them; knows epoch and process.
        transforms: applied one after the other.
        seed: of the random numbers.
        device: where the transforms run.
    """

    batch_sampler = None

    def __init__(
        self,
        batches: Iterable[Batch],
        sampler: DistributedSampler[int],
        transforms: Sequence[BatchTransform],
        seed: int,
        device: torch.device,
    ) -> None:
        self.batches, self.sampler, self.transforms = batches, sampler, transforms
        self.seed, self.device = seed, device

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator(self.device)
        for number, (samples, labels) in enumerate(self.batches):
            samples = samples.to(self.device, non_blocking=True)
            generator.manual_seed(derived_seed(self.seed, "augment", self.sampler.epoch, self.sampler.rank, number))
            for transform in self.transforms:
                samples = transform(samples, generator)
            yield samples, labels
