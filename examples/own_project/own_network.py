"""A network of your own: a list of blocks (synapses, norm, neurons, pooling), here with a residual input."""

from own_neuron import FloorIF
from torch import nn

from spikefit.networks import Block, IdentitySkip, Network, PositiveBatchNorm
from spikefit.neurons import NeuronFactory


class SmallResidual(Network):
    """A convolution, a residual convolution, and a readout without neurons; the data give the first two arguments."""

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, channels: int = 8, neuron: NeuronFactory = FloorIF
    ) -> None:
        inputs, height, width = input_shape
        first = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
        second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        blocks = {
            "stem": Block(first, PositiveBatchNorm(channels), neuron(channels)),
            # The output of "stem" is added to the current of this block, before its norm.
            "residual": Block(
                second, PositiveBatchNorm(channels), neuron(channels), pool=2, skip_from="stem", skip=IdentitySkip()
            ),
            "readout": Block(nn.Linear(channels * (height // 2) * (width // 2), num_classes, bias=False)),
        }
        super().__init__(blocks, input_shape)
