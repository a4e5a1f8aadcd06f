"""Fisher information as a score of synapses."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spikefit.functional.fisher import conv_weight_fisher, dense_weight_fisher
from spikefit.networks.blocks import Network
from spikefit.prune.groups import live_synapses
from spikefit.prune.scores.base import Batch, LossPerSample, SynapseScore
from spikefit.prune.scores.fisher import FisherImportance


class SynapseFisher(FisherImportance, SynapseScore):
    """Fisher information of a gate on each synapse, ``1/(2N) * sum_n (w * dL_n/dw)**2`` with ``L = -log p(y|x)``.

    ``w`` is the weight that the layer uses, after its quantizer, and ``dL_n/dw`` its exact gradient in one sample: the
    layer's input times the gradient of its output, summed over time and map before the square. Arguments are those of
    :class:`~spikefit.prune.scores.fisher.FisherImportance`.

    Example:
        >>> from torch.nn.functional import cross_entropy
        >>> from spikefit.networks import MLP
        >>> network = MLP((1, 8, 8), 10, hidden=[16]).eval()
        >>> batch = torch.ones(4, 2, 1, 8, 8), torch.tensor([3, 7])
        >>> score = SynapseFisher()
        >>> totals, _ = score.accumulate(network, [batch], lambda x, y: cross_entropy(x, y, reduction="none"))
        >>> {name: total.shape for name, total in totals.items()}
        {'fc1': torch.Size([16, 64]), 'readout': torch.Size([10, 16])}
    """

    def accumulate(
        self, network: Network, batches: Iterable[Batch], loss: LossPerSample
    ) -> tuple[dict[str, Tensor], int]:
        """Sums of the score over samples, and the number of samples."""
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
