"""What all scores of importance share: low scores are pruned first."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor

from spikefit.errors import check_range
from spikefit.networks.blocks import Network

Batch = tuple[Tensor, Tensor]
LossPerSample = Callable[[Tensor, Tensor], Tensor]


class Importance(ABC):
    """What scores of units and of synapses have in common.

    A score is a sum over samples (``accumulate``) that may be added up over processes before it is divided by the
    number of samples, or a function of the weights alone, which needs no batches.

    Args:
        batches: how many training batches to look at; 0 for scores of the weights alone.
    """

    def __init__(self, batches: int = 0) -> None:
        check_range("batches", batches, 0)
        self.batches = batches

    @abstractmethod
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score, by name, and the number of samples that they add up.

        Args:
            network: read only, in evaluation mode.
            batches: inputs ``[T, B, ...]`` and labels ``[B]``.
            loss: loss of each sample ``[B]`` from logits ``[B, classes]`` and labels.
        """


class Score(Importance):
    """Importance of every unit, ``{group: [units]}`` with the groups of :func:`~spikefit.prune.groups.unit_groups`."""


class SynapseScore(Importance):
    """Importance of every synapse, ``{layer: [the weight's shape]}`` with the layers of ``network.named_synapses()``.

    Synapses that are not in use (:func:`~spikefit.prune.groups.live_synapses`) score 0.
    """
