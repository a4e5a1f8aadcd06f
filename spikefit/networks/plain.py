"""Feed-forward networks: MLP, ConvSNN and VGG."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from spikefit.errors import ConfigurationError, check_choice, check_range
from spikefit.networks.blocks import Block, IdentitySkip, Network, PoolKind, Readout
from spikefit.networks.norms import NormKind, make_norm
from spikefit.networks.sizes import pooled_sides
from spikefit.neurons import LIF, NeuronFactory

PlanEntry = int | Literal["P", "R"]
VGG_PLANS: dict[str, tuple[PlanEntry, ...]] = {
    "vgg9": (64, 64, "P", 128, 128, "P", 256, 256, 256, "P"),
    "vgg11": (64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P"),
    "vgg16": (64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P"),
}


def conv_block(
    inputs: int,
    outputs: int,
    neuron: NeuronFactory,
    kernel: int = 3,
    stride: int = 1,
    padding: int | None = None,
    pool: int = 1,
    pool_kind: PoolKind = "avg",
    norm: NormKind = "batch",
) -> Block:
    """Make a block of convolution, norm and neurons; the default ``padding`` keeps the size of the map."""
    for option, value in (("channels", outputs), ("kernel", kernel), ("stride", stride), ("pool", pool)):
        check_range(option, value, 1)
    padding = kernel // 2 if padding is None else padding
    synapses = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return Block(synapses, make_norm(norm, outputs), neuron(outputs), pool=pool, pool_kind=pool_kind)


def dense_block(inputs: int, outputs: int, neuron: NeuronFactory, norm: NormKind = "batch") -> Block:
    """Make a block of linear layer, norm and neurons."""
    check_range("hidden", outputs, 1)
    return Block(nn.Linear(inputs, outputs, bias=False), make_norm(norm, outputs), neuron(outputs))


def readout_block(
    inputs: int, num_classes: int, neuron: NeuronFactory, readout: Readout, norm: NormKind = "batch"
) -> Block:
    """Make the last block: one output per class, read as current (``membrane``) or as spike counts (``spikes``).

    Its neurons fire at most once per step, even if those of the other blocks may fire more often.

    Raises:
        ConfigurationError: for an unknown ``readout``.
    """
    check_choice("readout", readout, ("membrane", "spikes"))
    check_range("num_classes", num_classes, 1)
    if readout == "spikes":
        block = dense_block(inputs, num_classes, neuron, norm)
        assert block.neuron is not None
        block.neuron.max_spikes = 1
        return block
    return Block(nn.Linear(inputs, num_classes, bias=False))


def shrink(name: str, size: tuple[int, int], block: Block) -> tuple[int, int]:
    """Height and width of the output map of ``block``.

    Raises:
        ConfigurationError: if the output map is empty.
    """
    try:
        return pooled_sides(size, block)
    except ConfigurationError as error:
        raise ConfigurationError(f"block {name}: {error}") from None


class MLP(Network):
    """Multilayer perceptron: linear layers with neurons.

    Args:
        input_shape: ``(C, H, W)`` or ``(N,)`` of one frame.
        num_classes: outputs of the readout.
        hidden: neurons of each hidden layer.
        neuron: makes the neurons of a layer, given their number.
        readout: ``membrane`` or ``spikes``.
        norm: ``batch``, or ``gain`` for neurons without a bias.

    Example:
        >>> import torch
        >>> network = MLP((1, 16, 16), num_classes=10, hidden=(32,))
        >>> network(torch.zeros(4, 2, 1, 16, 16)).shape
        torch.Size([4, 2, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden: Sequence[int] = (128, 128),
        neuron: NeuronFactory = LIF,
        readout: Readout = "membrane",
        norm: NormKind = "batch",
    ) -> None:
        blocks: dict[str, Block] = {}
        width = 1
        for side in input_shape:
            width *= side
        for index, units in enumerate(hidden, start=1):
            blocks[f"fc{index}"] = dense_block(width, units, neuron, norm)
            width = units
        blocks["readout"] = readout_block(width, num_classes, neuron, readout, norm)
        super().__init__(blocks, input_shape)


class ConvSNN(Network):
    """Convolutional network: convolutions, each followed by pooling, then linear layers.

    Args:
        input_shape: ``(C, H, W)`` of one frame.
        num_classes: outputs of the readout.
        channels: channels of each convolution.
        hidden: neurons of each hidden linear layer.
        kernel: side of every kernel; padding keeps the size of the map.
        stride: stride of every convolution.
        pool: side of the pooling window after every convolution; 1 for no pooling.
        pool_kind: ``avg``, which folds into the next layer exactly, or ``max``, for chips that support it.
        neuron: makes the neurons of a layer, given their number.
        readout: ``membrane`` or ``spikes``.
        norm: ``batch``, or ``gain`` for neurons without a bias.

    Example:
        >>> import torch
        >>> network = ConvSNN((1, 16, 16), num_classes=10, channels=(8, 16), hidden=())
        >>> network(torch.zeros(4, 2, 1, 16, 16)).shape
        torch.Size([4, 2, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (32, 64),
        hidden: Sequence[int] = (128,),
        kernel: int = 3,
        stride: int = 1,
        pool: int = 2,
        pool_kind: PoolKind = "avg",
        neuron: NeuronFactory = LIF,
        readout: Readout = "membrane",
        norm: NormKind = "batch",
    ) -> None:
        inputs, size = _image_shape(input_shape)
        blocks: dict[str, Block] = {}
        for index, outputs in enumerate(channels, start=1):
            name = f"conv{index}"
            blocks[name] = conv_block(
                inputs, outputs, neuron, kernel, stride, pool=pool, pool_kind=pool_kind, norm=norm
            )
            size, inputs = shrink(name, size, blocks[name]), outputs
        width = inputs * size[0] * size[1]
        for index, units in enumerate(hidden, start=1):
            blocks[f"fc{index}"] = dense_block(width, units, neuron, norm)
            width = units
        blocks["readout"] = readout_block(width, num_classes, neuron, readout, norm)
        super().__init__(blocks, input_shape)


class VGG(Network):
    """VGG with average pooling (Simonyan and Zisserman 2015, arXiv 1409.1556) and a norm in every block.

    A plan is a list of layers. A number is a 3x3 convolution with that many channels. ``P`` pools the preceding layer
    by 2; two in a row pool by 4. ``R`` adds two convolutions with the same number of channels and a shortcut around
    them. As in :class:`~spikefit.networks.ResidualSNN`, the shortcut is added to the current before the norm.

    Args:
        input_shape: ``(C, H, W)`` of one frame.
        num_classes: outputs of the readout.
        plan: a list of layers, or the name of one: ``vgg9``, ``vgg11`` or ``vgg16``.
        width: factor on the number of channels.
        hidden: neurons of each hidden linear layer.
        pool_kind: ``avg`` or ``max``.
        neuron: makes the neurons of a layer, given their number.
        readout: ``membrane`` or ``spikes``.
        norm: ``batch``, or ``gain`` for neurons without a bias.

    Example:
        >>> import torch
        >>> network = VGG((1, 16, 16), num_classes=10, plan=(8, "P", 16, "R", "P"))
        >>> network(torch.zeros(4, 2, 1, 16, 16)).shape
        torch.Size([4, 2, 10])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        plan: Literal["vgg9", "vgg11", "vgg16"] | Sequence[PlanEntry] = "vgg11",
        width: float = 1.0,
        hidden: Sequence[int] = (),
        pool_kind: PoolKind = "avg",
        neuron: NeuronFactory = LIF,
        readout: Readout = "membrane",
        norm: NormKind = "batch",
    ) -> None:
        if not width > 0:
            raise ConfigurationError(f"width: got {width!r}, expected a value above 0.")
        inputs, size = _image_shape(input_shape)
        blocks: dict[str, Block] = {}
        for channels, pool, shortcut in _layers(plan):
            name, outputs = f"conv{len(blocks) + 1}", max(1, round(channels * width))
            block = conv_block(inputs, outputs, neuron, pool=pool, pool_kind=pool_kind, norm=norm)
            if shortcut:
                block.skip_from, block.skip = list(blocks)[-2], IdentitySkip()
            blocks[name] = block
            size, inputs = shrink(name, size, block), outputs
        features = inputs * size[0] * size[1]
        for index, units in enumerate(hidden, start=1):
            blocks[f"fc{index}"] = dense_block(features, units, neuron, norm)
            features = units
        blocks["readout"] = readout_block(features, num_classes, neuron, readout, norm)
        super().__init__(blocks, input_shape)


def _layers(plan: str | Sequence[PlanEntry]) -> list[tuple[int, int, bool]]:
    """Channels, pooling and whether a shortcut ends there, for every convolution of a plan.

    Raises:
        ConfigurationError: for an unknown name or entry, or a plan that does not begin with a convolution.
    """
    if isinstance(plan, str):
        check_choice("plan", plan, VGG_PLANS)
        plan = VGG_PLANS[plan]
    layers: list[tuple[int, int, bool]] = []
    for entry in plan:
        if isinstance(entry, int):
            check_range("plan", entry, 1)
            layers.append((entry, 1, False))
            continue
        check_choice("plan", entry, ("P", "R"))
        if not layers:
            raise ConfigurationError(f"plan: got {entry!r} as the first entry, expected a number of channels.")
        channels, pool, shortcut = layers[-1]
        if entry == "P":
            layers[-1] = (channels, 2 * pool, shortcut)
        else:
            layers += [(channels, 1, False), (channels, 1, True)]
    if not layers:
        raise ConfigurationError("plan: got an empty list, expected at least one number of channels.")
    return layers


def _image_shape(input_shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    if len(input_shape) != 3:
        raise ConfigurationError(f"input_shape: got {tuple(input_shape)}, expected (channels, height, width).")
    channels, height, width = input_shape
    return channels, (height, width)
