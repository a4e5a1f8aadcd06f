"""Base classes of importance scores; the lowest scores are pruned first."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor

from spikefit.errors import check_range
from spikefit.networks.blocks import Network

Batch = tuple[Tensor, Tensor]
LossPerSample = Callable[[Tensor, Tensor], Tensor]


class Importance(ABC):
    """Base class of importance scores of units and of synapses.

    A score is either a sum over samples (``accumulate``), which may be added over processes before it is divided by the
    number of samples, or a function of the weights alone, which needs no batches.

    Args:
        batches: number of training batches; 0 for scores that depend on the weights alone.
    """

    def __init__(self, batches: int = 0) -> None:
        check_range("batches", batches, 0)
        self.batches = batches

    @abstractmethod
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score over samples, by name, and the number of samples.

        Args:
            network: read only, in evaluation mode.
            batches: inputs ``[T, B, ...]`` and labels ``[B]``.
            loss: loss of each sample ``[B]`` from logits ``[B, classes]`` and labels.
        """


class Score(Importance):
    """Base class of scores of units: ``{group: [units]}``, groups as in :func:`~spikefit.prune.groups.unit_groups`."""


class SynapseScore(Importance):
    """Base class of scores of synapses: ``{layer: [weight's shape]}``, layers as in ``network.named_synapses()``.

    Synapses that are not in use (:func:`~spikefit.prune.groups.live_synapses`) score 0.
    """
