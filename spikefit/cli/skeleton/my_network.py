"""A network of your own: a list of blocks, each with synapses, a norm and neurons."""

from torch import nn

from spikefit.networks import Block, Network, PositiveBatchNorm
from spikefit.neurons import LIF


class MyNetwork(Network):
    """Two layers of neurons that reset to zero, and a readout without neurons.

    Args:
        input_shape: shape of a frame, ``(C, H, W)`` or ``(N,)``; given by the data.
        num_classes: number of classes; given by the data.
        hidden: neurons of the hidden layer.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, hidden: int = 64) -> None:
        channels, height, width = input_shape
        blocks = {
            "conv": Block(
                nn.Conv2d(channels, 16, 3, padding=1, bias=False), PositiveBatchNorm(16), LIF(16, reset="zero"), pool=2
            ),
            "hidden": Block(
                nn.Linear(16 * (height // 2) * (width // 2), hidden, bias=False),
                PositiveBatchNorm(hidden),
                LIF(hidden, reset="zero"),
            ),
            "readout": Block(nn.Linear(hidden, num_classes, bias=False)),
        }
        super().__init__(blocks, input_shape)
