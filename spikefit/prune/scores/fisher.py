"""Fisher information of gates, which the scores of units (FSC) and of synapses share."""

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
    """A forward pass of one batch, with the inputs and outputs of the watched modules.

    Attributes:
        samples: number of samples.
        inputs, outputs: inputs and outputs of the modules, by name.
        logits: ``[B, classes]``.
        vectors: vectors to pull back from the logits (vector-Jacobian products), ``[V, B, classes]``.
    """

    samples: int
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    logits: Tensor
    vectors: Tensor

    def gradients(self) -> Iterator[dict[str, Tensor]]:
        """Yield the gradients at the outputs for each vector; each takes one backward pass."""
        names, last = list(self.outputs), len(self.vectors) - 1
        for position, vector in enumerate(self.vectors.to(self.logits.dtype)):
            found = torch.autograd.grad(self.logits, list(self.outputs.values()), vector, retain_graph=position < last)
            yield dict(zip(names, found, strict=True))


class FisherImportance(Importance):
    """Half the Fisher information of gates: ``1/(2N) * sum_n E_y[(d log p(y|x_n) / dg)**2]``.

    This is the second-order estimate of the increase of the loss when a gate closes. The ``empirical`` variant uses the
    data's labels instead of the mean over labels y. It vanishes when the network fits its training data, because the
    loss then has no gradient left; the network's own distribution over labels still shows how its output would change.

    Args:
        batches: number of training batches.
        fisher: ``exact``, with one backward pass per class; ``sketched``, an unbiased estimate of ``exact`` with
            ``draws`` backward passes (:func:`~spikefit.functional.fisher.sketched_pullbacks`); ``drawn``, the textbook
            estimate with labels drawn from the predictions, which has a larger variance; ``empirical``, with the data's
            labels and the training loss.
        draws: backward passes per batch for ``sketched`` and ``drawn``. With two, a batch costs about as much as a
            training step.
        seed: seed of the random signs or labels; the global random state is not used.

    Raises:
        ConfigurationError: for an unknown ``fisher``, or less than one batch or draw.
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
        """Run batches through ``network`` and record the inputs and outputs of ``modules``.

        The autograd graph begins at the output of the first module. No parameter gets a gradient, so that DDP's hooks
        are not triggered, and no parameter needs to be trainable.
        """
        generator = torch.Generator().manual_seed(self.seed)
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor, y: Tensor) -> Tensor:
            # If no trainable module precedes this one, the graph begins here.
            y = y if y.requires_grad else y.detach().requires_grad_()
            inputs[name], outputs[name] = x, y
            return y

        for x, labels in batches:
            with torch.enable_grad(), forward_hooks(network, modules, keep):
                logits = network.logits(network(x))
            vectors = self._vectors(logits.detach().float(), labels, loss, generator)
            yield Pass(len(labels), dict(inputs), dict(outputs), logits, vectors)

    def _vectors(self, logits: Tensor, labels: Tensor, loss: LossPerSample, generator: torch.Generator) -> Tensor:
        """Vectors to pull back from the logits, ``[V, B, classes]``."""
        if self.fisher == "exact":
            return exact_pullbacks(logits)
        if self.fisher == "sketched":
            return sketched_pullbacks(logits, self.draws, generator)
        if self.fisher == "drawn":
            return drawn_pullbacks(logits, self.draws, generator)
        with torch.enable_grad():
            logits.requires_grad_()
            return torch.autograd.grad(loss(logits, labels).sum(), logits)[0].unsqueeze(0)
