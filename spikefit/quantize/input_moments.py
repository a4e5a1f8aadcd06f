"""Moments of a layer's inputs, for codebooks that are fitted to currents instead of to weights."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.errors import ConfigurationError
from spikefit.networks.blocks import Network

_ROWS = 20_000  # input vectors per batch; more add little information


class InputMoments:
    """First and second moments of the inputs of one layer, as sums that can be added over batches and processes.

    Attributes:
        count: number of input vectors, a float64 scalar.
        first: sum of the input vectors, float64 ``[n]``; an input vector of a convolution is a patch, in the order of
            its flattened weights.
        second: sum of their outer products, float64 ``[n, n]``.
    """

    def __init__(self, n: int) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.first = torch.zeros(n, dtype=torch.float64)
        self.second = torch.zeros(n, n, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Add input vectors ``[rows, n]``, or an evenly spaced subset if there are many."""
        vectors = vectors[:: max(1, len(vectors) // _ROWS)].detach().float()
        self.count += len(vectors)
        self.first += vectors.sum(dim=0).cpu()
        self.second += (vectors.t() @ vectors).cpu()

    def gram(self, centred: bool) -> Tensor:
        """Covariance of the inputs if ``centred``, else their second moment: ``[n, n]``."""
        mean = self.first / self.count
        second = self.second / self.count
        return second - torch.outer(mean, mean) if centred else second


@torch.no_grad()
def input_moments(network: Network, name: str, batches: Iterable[Tensor]) -> InputMoments:
    """Measure the moments of the inputs of layer ``name`` over ``batches`` ``[T, B, ...]``.

    The network stays in its current mode, training or evaluation.

    Raises:
        ConfigurationError: for a grouped convolution, whose outputs have different inputs.
    """
    layer = dict(network.named_synapses())[name]
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        raise ConfigurationError(
            f"metric: got 'currents' for layer {name} with {layer.groups} groups, expected 'weights'."
        )
    moments = InputMoments(layer.weight[0].numel())

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        moments.add(input_vectors(module, inputs[0]))

    handle = layer.register_forward_hook(keep)
    try:
        for x in batches:
            network(x)
    finally:
        handle.remove()
    return moments


def input_vectors(layer: nn.Module, x: Tensor) -> Tensor:
    """Input vectors of single outputs of ``layer``, ``[rows, n]``, from its input ``[N, ...]``."""
    if not isinstance(layer, nn.Conv2d):
        return x.flatten(0, -2)
    assert not isinstance(layer.padding, str)
    patches = F.unfold(x.contiguous(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2).flatten(0, 1)
