"""Batches made and augmented on the training device, from samples that are held in one tensor."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

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


class TensorBatches:
    """Iterable over batches ``(samples, labels)``, each made by one gather on the device of the tensors.

    Lightning's trainer accepts it in place of a ``DataLoader``. It does not replace the sampler, and calls its method
    ``set_epoch`` in every epoch.

    Args:
        samples: all samples, on the device where batches are needed.
        indices: int64 ``[M]``, rows that belong to the split; None for all.
        sampler: order of the samples in an epoch, numbers below M.
        batch_size: samples per batch; the last batch may be smaller.

    Attributes:
        batch_sampler: always None; Lightning reads this attribute.
    """

    batch_sampler = None

    def __init__(self, samples: SampleTensors, indices: Tensor | None, sampler: Sampler[int], batch_size: int) -> None:
        self.samples, self.indices, self.sampler, self.batch_size = samples, indices, sampler, batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        order = torch.tensor(list(self.sampler))  # computed with the first batch, when the epoch has been set
        if self.indices is not None:
            order = self.indices[order]
        samples = self.samples
        for chosen in order.to(samples.rows.device).split(self.batch_size):
            yield samples.decode(samples.rows.index_select(0, chosen)), samples.labels.index_select(0, chosen)


class AugmentedBatches:
    """Iterable over batches that are transformed on a device.

    The random numbers depend on seed, epoch, process and number of the batch only. A resumed run therefore gets the
    same samples as an uninterrupted one, and the global random state is not used.

    Args:
        batches: :class:`TensorBatches`, or a ``DataLoader``.
        sampler: sampler of the batches; provides epoch and process.
        transforms: applied in this order.
        seed: seed of the random numbers.
        device: device on which the transforms run.
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
