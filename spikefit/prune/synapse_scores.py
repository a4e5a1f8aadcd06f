"""Scores of single synapses, for unstructured pruning."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spikefit.functional.fisher import conv_weight_fisher, dense_weight_fisher
from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses
from spikefit.prune.scores import Batch, FisherImportance, LossPerSample, SynapseScore


class SynapseMagnitude(SynapseScore):
    """Magnitude of the weight that the layer uses (Han et al. 2015, arXiv 1506.02626)."""

    def __init__(self) -> None:
        super().__init__(0)

    @torch.no_grad()
    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Magnitudes of live weights."""
        layers = network.named_synapses()
        return {name: layer.weight.abs() * live_synapses(network, name) for name, layer in layers}, 1


class SynapseRandom(SynapseScore):
    """A seeded random order: the baseline that every score must beat.

    Args:
        seed: of the order; it does not touch the global random state.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(0)
        self.seed = seed

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Uniform numbers in [0, 1) for live synapses."""
        generator = torch.Generator().manual_seed(self.seed)
        scores = {}
        for name, layer in network.named_synapses():
            live = live_synapses(network, name)
            scores[name] = torch.rand(layer.weight.shape, generator=generator).to(live.device) * live
        return scores, 1


class SynapseFisher(FisherImportance, SynapseScore):
    """Fisher information of a gate on each synapse, ``1/(2N) * sum_n (w * dL_n/dw)**2`` with ``L = -log p(y|x)``.

    ``w`` is the weight that the layer uses, behind its quantizer, and ``dL_n/dw`` its exact gradient in one sample: the
    layer's input times the gradient of its output, summed over time and map before the square. Arguments are those of
    :class:`~spikefit.prune.scores.FisherImportance`.
    """

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums over samples."""
        layers = dict(network.named_synapses())
        totals: dict[str, Tensor] = {}
        samples = 0
        for batch in self.passes(network, layers, batches, loss):
            for gradients in batch.gradients():
                for name, gradient in gradients.items():
                    found = _weight_fisher(layers[name], batch.inputs[name], gradient, batch.samples)
                    totals[name] = totals.get(name, 0) + found
            samples += batch.samples
        with torch.no_grad():
            gates = {name: layer.weight.square() * live_synapses(network, name) for name, layer in layers.items()}
        return {name: total * gates[name] for name, total in totals.items()}, samples


@torch.no_grad()
def _weight_fisher(layer: nn.Conv2d | nn.Linear, inputs: Tensor, gradient: Tensor, samples: int) -> Tensor:
    inputs, gradient = inputs.float(), gradient.float()
    if isinstance(layer, nn.Linear):
        return dense_weight_fisher(inputs, gradient, samples)
    assert isinstance(layer.padding, tuple)
    return conv_weight_fisher(
        inputs, gradient, samples, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups
    )
