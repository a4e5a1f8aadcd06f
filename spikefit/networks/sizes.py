"""Sizes of the blocks of a network, computed from the options of their layers, and their contradictions."""

import math

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from spikefit.errors import ConfigurationError
from spikefit.functional.convolution import output_size
from spikefit.networks.blocks import Block, IdentitySkip, Network

Shape = tuple[int, ...]


def require_sizes(network: Network, input_shape: Shape, num_classes: int) -> None:
    """Check that the blocks of ``network`` fit together, that it reads the data, and that it has an output per class.

    Left alone are synapses and shortcuts of other kinds than :class:`Block` names, the order of the blocks in a network
    with a ``forward`` of its own, and the outputs of one with ``logits`` of its own.

    Args:
        network: the network.
        input_shape: ``(C, H, W)`` or ``(N,)`` of one frame of the data.
        num_classes: number of classes.

    Raises:
        ConfigurationError: names the class of the network, the block, and its expected and received size.

    Example:
        >>> network = Network({"readout": Block(nn.Linear(60, 10))}, (1, 8, 8))
        >>> require_sizes(network, (1, 8, 8), 10)
        Traceback (most recent call last):
        spikefit.errors.ConfigurationError: network Network, block readout: its Linear expects 60 inputs, but receives \
64 values, the input of shape (1, 8, 8).
    """
    if not isinstance(network, Network):
        raise ConfigurationError(
            f"network: got {type(network).__name__}, expected a factory that returns a spikefit.networks.Network."
        )
    if type(network).forward is not Network.forward:
        return
    owner = f"network {type(network).__name__}"
    if network.input_shape != tuple(input_shape):
        raise ConfigurationError(
            f"{owner}: has input_shape {network.input_shape}, but the data have frames of shape {tuple(input_shape)}."
        )
    shapes = output_shapes(network)
    last = list(shapes)[-1]
    shape = shapes[last]
    if shape is None or type(network).logits is not Network.logits or shape == (num_classes,):
        return
    found = f"has {shape[0]} outputs" if len(shape) == 1 else f"has an output of shape {shape}"
    raise ConfigurationError(
        f"{owner}, readout {last}: {found}, but num_classes: {num_classes}. Expected one output per class."
    )


def output_shapes(network: Network) -> dict[str, Shape | None]:
    """Shape of the output of each block, after its pooling: ``(C, H, W)`` or ``(N,)``; see :func:`block_shapes`."""
    return {name: pooled for name, (_, pooled) in block_shapes(network).items()}


def block_shapes(network: Network) -> dict[str, tuple[Shape | None, Shape | None]]:
    """Shape of the neurons of each block, and of its output after pooling: ``(C, H, W)`` or ``(N,)``.

    Both are None after synapses that are neither ``Conv2d`` nor ``Linear``.

    Raises:
        ConfigurationError: if a block can't read its input, or its parts have different sizes; names the block.
    """
    shapes: dict[str, tuple[Shape | None, Shape | None]] = {}
    received: Shape | None = network.input_shape
    source = "the input"
    for name, block in network.named_blocks():
        try:
            shape = _received_by(block.synapses, received, source, "its")
            _require_units(block)
            if block.skip is not None and shape is not None:
                origin = f"the output of block {block.skip_from}"
                _require_skip(block.skip, shapes[str(block.skip_from)][1], origin, shape)
            if shape is not None and len(shape) == 3:
                assert received is not None
                pooled: Shape | None = (shape[0], *pooled_sides((received[1], received[2]), block))
            else:
                pooled = shape
        except ConfigurationError as error:
            raise ConfigurationError(f"network {type(network).__name__}, block {name}: {error}") from None
        shapes[name] = shape, pooled
        received, source = pooled, f"the output of block {name}"
    return shapes


def pooled_sides(size: tuple[int, int], block: Block) -> tuple[int, int]:
    """Height and width of the output map of a convolutional block, after its pooling.

    A readout without neurons does not pool.

    Args:
        size: height and width of the map that it reads.
        block: the block.

    Raises:
        ConfigurationError: if nothing is left of the map.
    """
    conv = block.synapses
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(conv.padding, tuple)
    pool = 1 if block.neuron is None else block.pool
    height, width = output_size(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    if min(height, width) < pool:
        raise ConfigurationError(
            f"nothing is left of a map of {size[0]}x{size[1]} after kernel {conv.kernel_size[0]}, stride "
            f"{conv.stride[0]} and pool {pool}; use fewer poolings or strides, or larger inputs."
        )
    return height // pool, width // pool


def _received_by(layer: nn.Module, received: Shape | None, source: str, owner: str) -> Shape | None:
    """Shape of the output of ``layer`` for an input of the shape ``received``; None for an unknown one."""
    if isinstance(layer, LazyModuleMixin) or not isinstance(layer, nn.Conv2d | nn.Linear):
        return None
    kind = type(layer).__name__
    if isinstance(layer, nn.Linear):
        if received is not None and math.prod(received) != layer.in_features:
            raise ConfigurationError(
                f"{owner} {kind} expects {layer.in_features} inputs, but receives {math.prod(received)} values, "
                f"{source} of shape {received}."
            )
        return (layer.out_features,)
    if not isinstance(layer.padding, tuple):
        raise ConfigurationError(f"got padding {layer.padding!r}, expected numbers, such as padding=1.")
    if received is None:
        return None
    if len(received) != 3 or received[0] != layer.in_channels:
        raise ConfigurationError(
            f"{owner} {kind} expects a map of {layer.in_channels} channels, but receives {source} of shape {received}."
        )
    sides = output_size(received[1:], layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return (layer.out_channels, *sides)


def _require_units(block: Block) -> None:
    """Check that norm and neurons have as many units as the synapses."""
    if isinstance(block.synapses, LazyModuleMixin) or not isinstance(block.synapses, nn.Conv2d | nn.Linear):
        return
    wanted = f"expected {block.units}, as many as its {type(block.synapses).__name__} has outputs."
    if block.norm is not None and block.norm.num_features != block.units:
        raise ConfigurationError(
            f"the norm {type(block.norm).__name__} has {block.norm.num_features} channels, {wanted}"
        )
    if block.neuron is not None and len(block.neuron.alive) != block.units:
        raise ConfigurationError(
            f"the neuron {type(block.neuron).__name__} has {len(block.neuron.alive)} units, {wanted}"
        )


def _require_skip(skip: nn.Module, received: Shape | None, source: str, wanted: Shape) -> None:
    """Check that the shortcut ``skip`` gives the shape ``wanted`` of the current that it is added to."""
    given = received if isinstance(skip, IdentitySkip) else _received_by(skip, received, source, "its skip")
    if isinstance(skip, IdentitySkip) and given is not None and len(given) != 3:
        raise ConfigurationError(
            f"its skip {type(skip).__name__} expects a map of shape (C, H, W), but receives {source} of shape {given}."
        )
    if given is not None and given != wanted:
        raise ConfigurationError(
            f"its skip {type(skip).__name__} gives the shape {given}, expected {wanted}, the shape of its synapses' "
            "output."
        )
