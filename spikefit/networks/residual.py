"""Residual spiking network, whose shortcuts add spikes to the input current."""

from collections.abc import Sequence

from torch import nn

from spikefit.errors import ConfigurationError, check_range
from spikefit.networks.blocks import Block, IdentitySkip, Network, Readout
from spikefit.networks.norms import PositiveBatchNorm
from spikefit.networks.plain import _image_shape, conv_block, readout_block, shrink
from spikefit.neurons import LIF, NeuronFactory


class ResidualSNN(Network):
    """Residual network: a stem, then stages of residual blocks with two convolutions each.

    The shortcut is added to the current before the norm. On the chip, an identity shortcut then remains one synapse per
    neuron with a common weight, and the norm still folds into thresholds. With a shortcut after the norm it would not.

    Args:
        input_shape: ``(C, H, W)`` of one frame.
        num_classes: outputs of the readout.
        channels: channels of each stage; every stage but the first halves the map with stride 2.
        depth: residual blocks in each stage.
        stem_pool: side of the average pooling window after the stem; 1 for no pooling.
        neuron: makes the neurons of a layer, given their number.
        readout: ``membrane`` or ``spikes``.

    Example:
        >>> import torch
        >>> network = ResidualSNN((1, 16, 16), num_classes=10, channels=(8, 16))
        >>> network(torch.zeros(4, 2, 1, 16, 16)).shape
        torch.Size([4, 2, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (32, 64, 128),
        depth: int = 1,
        stem_pool: int = 1,
        neuron: NeuronFactory = LIF,
        readout: Readout = "membrane",
    ) -> None:
        inputs, size = _image_shape(input_shape)
        check_range("depth", depth, 1)
        check_range("stem_pool", stem_pool, 1)
        if not channels:
            raise ConfigurationError(f"channels: got {channels!r}, expected at least one stage.")
        blocks: dict[str, Block] = {"stem": conv_block(inputs, channels[0], neuron, pool=stem_pool)}
        size, inputs, source = shrink("stem", size, blocks["stem"]), channels[0], "stem"
        for stage, outputs in enumerate(channels, start=1):
            for number in range(1, depth + 1):
                stride = 2 if stage > 1 and number == 1 else 1
                first, second = f"stage{stage}_{number}a", f"stage{stage}_{number}b"
                blocks[first] = conv_block(inputs, outputs, neuron, stride=stride)
                size = shrink(first, size, blocks[first])
                same = stride == 1 and inputs == outputs
                blocks[second] = Block(
                    nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                    PositiveBatchNorm(outputs),
                    neuron(outputs),
                    skip_from=source,
                    skip=IdentitySkip() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                )
                inputs, source = outputs, second
        last = blocks[source]
        last.pool = min(size)
        sides = [length // last.pool for length in size]
        blocks["readout"] = readout_block(inputs * sides[0] * sides[1], num_classes, neuron, readout)
        super().__init__(blocks, input_shape)
