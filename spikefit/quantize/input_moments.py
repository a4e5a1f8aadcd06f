"""Measure what reaches a layer's synapses, for codebooks that keep currents instead of weights."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefit.errors import ConfigurationError
from spikefit.networks.blocks import Network

_ROWS = 20_000  # of a batch; more of them say little more


class InputMoments:
    """First and second moments of the inputs of one layer, as sums that add up over batches and processes.

    Attributes:
        count: number of input vectors, a float64 scalar.
        first: float64 ``[n]``; a convolution's input vector is a patch, in the order of its flattened weights.
        second: float64 ``[n, n]``.
    """

    def __init__(self, n: int) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.first = torch.zeros(n, dtype=torch.float64)
        self.second = torch.zeros(n, n, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Add input vectors ``[rows, n]``, an evenly spaced choice of them if there are many."""
        vectors = vectors[:: max(1, len(vectors) // _ROWS)].detach().float()
        self.count += len(vectors)
        self.first += vectors.sum(dim=0).cpu()
        self.second += (vectors.t() @ vectors).cpu()

    def gram(self, centred: bool) -> Tensor:
        """Covariance of the inputs, or, not ``centred``, their mean product: ``[n, n]``."""
        mean = self.first / self.count
        second = self.second / self.count
        return second - torch.outer(mean, mean) if centred else second


@torch.no_grad()
def input_moments(network: Network, name: str, batches: Iterable[Tensor]) -> InputMoments:
    """Moments of the inputs of layer ``name`` while ``network`` sees ``batches`` ``[T, B, ...]``, in its mode.

    Raises:
        ConfigurationError: for a convolution in groups, whose outputs see different inputs.
    """
    layer = dict(network.named_synapses())[name]
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        raise ConfigurationError(
            f"metric: got 'currents' for layer {name}, expected 'weights': it has {layer.groups} groups."
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
    """What one output of ``layer`` reads at a time: ``[rows, n]`` for its input ``[N, ...]``."""
    if not isinstance(layer, nn.Conv2d):
        return x.flatten(0, -2)
    assert not isinstance(layer.padding, str)
    patches = F.unfold(x.contiguous(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2).flatten(0, 1)
