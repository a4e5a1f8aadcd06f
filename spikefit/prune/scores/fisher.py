"""Fisher information of gates: what the scores of units (FSC) and of synapses share."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikefit.errors import check_choice, check_range
from spikefit.functional.fisher import (
    drawn_pullbacks,
    exact_pullbacks,
    sketched_pullbacks,
)
from spikefit.networks.blocks import Network
from spikefit.prune.scores.base import Batch, Importance, LossPerSample
from spikefit.prune.scores.recording import forward_hooks

Fisher = Literal["sketched", "exact", "drawn", "empirical"]


@dataclass(frozen=True)
class Pass:
    """One batch's way through the network.

    Attributes:
        samples: number of samples.
        inputs, outputs: of the modules, by name.
        logits: ``[B, classes]``.
        vectors: what to pull back from the logits, ``[V, B, classes]``.
    """

    samples: int
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    logits: Tensor
    vectors: Tensor

    def gradients(self) -> Iterator[dict[str, Tensor]]:
        """For each vector, its gradients at the outputs; one backward pass each, which computes nothing else."""
        names, last = list(self.outputs), len(self.vectors) - 1
        for position, vector in enumerate(self.vectors.to(self.logits.dtype)):
            found = torch.autograd.grad(self.logits, list(self.outputs.values()), vector, retain_graph=position < last)
            yield dict(zip(names, found, strict=True))


class FisherImportance(Importance):
    """Half the Fisher information of gates: ``1/(2N) * sum_n E_y[(d log p(y|x_n) / dg)**2]``.

    That is the second-order estimate of the loss that it costs to close a gate. The ``empirical`` one takes the data's
    labels instead of the mean over labels y. It fades where the network fits its training data, because the loss then
    has no gradient left, while the network's own distribution over labels still says how its output would move.

    Args:
        batches: how many training batches to look at.
        fisher: ``exact``, with one backward pass a class; ``sketched``, an estimate of it without bias
            (:func:`~spikefit.functional.fisher.sketched_pullbacks`), whatever the number of classes; ``drawn``, with
            labels drawn from the predictions, the textbook's estimate, which varies more; ``empirical``, with the
            data's labels and the training loss.
        draws: backward passes a batch for ``sketched`` and ``drawn``. With two, a batch costs about a training step.
        seed: of the random signs or labels; the global random state stays as it is.

    Raises:
        ConfigurationError: for another ``fisher``, or no batch or no draw.
    """

    def __init__(self, batches: int = 8, fisher: Fisher = "sketched", draws: int = 2, seed: int = 0) -> None:
        check_range("batches", batches, 1)
        check_choice("fisher", fisher, ("sketched", "exact", "drawn", "empirical"))
        check_range("draws", draws, 1)
        super().__init__(batches)
        self.fisher, self.draws, self.seed = fisher, draws, seed

    def passes(
        self, network: Network, modules: Mapping[str, nn.Module], batches: Iterable[Batch], loss: LossPerSample
    ) -> Iterator[Pass]:
        """Send batches through ``network`` and watch ``modules``.

        The graph begins at the output of the first of them: no parameter gets a gradient, so that DDP's hooks stay
        silent, and none needs to be trainable.
        """
        generator = torch.Generator().manual_seed(self.seed)
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor, y: Tensor) -> Tensor:
            # Where nothing trainable lies before, the graph begins here.
            y = y if y.requires_grad else y.detach().requires_grad_()
            inputs[name], outputs[name] = x, y
            return y

        for x, labels in batches:
            with torch.enable_grad(), forward_hooks(network, modules, keep):
                logits = network.logits(network(x))
            vectors = self._vectors(logits.detach().float(), labels, loss, generator)
            yield Pass(len(labels), dict(inputs), dict(outputs), logits, vectors)

    def _vectors(self, logits: Tensor, labels: Tensor, loss: LossPerSample, generator: torch.Generator) -> Tensor:
        """What to pull back, ``[V, B, classes]``."""
        if self.fisher == "exact":
            return exact_pullbacks(logits)
        if self.fisher == "sketched":
            return sketched_pullbacks(logits, self.draws, generator)
        if self.fisher == "drawn":
            return drawn_pullbacks(logits, self.draws, generator)
        with torch.enable_grad():
            logits.requires_grad_()
            return torch.autograd.grad(loss(logits, labels).sum(), logits)[0].unsqueeze(0)
