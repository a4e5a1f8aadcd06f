"""Groups of units that are pruned together, and the masks of living units and synapses."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from spikefit.errors import ConfigurationError
from spikefit.networks.blocks import Block, IdentitySkip, Network
from spikefit.prune.synapse_mask import mask_of
from spikefit.quantize.base import latent_weight


@dataclass(frozen=True)
class UnitGroup:
    """Blocks whose units are pruned together: identity shortcuts and depthwise convolutions tie their channels.

    Unit ``k`` of all members counts as one unit. A depthwise convolution is one whose groups have one input channel
    and one output channel each.

    Attributes:
        name: the members' names, joined by ``+``.
        blocks: the names of the members, in network order.
        units: number of units of each member.
        kind: ``channel`` for convolutions, ``neuron`` for linear layers.

    Example:
        >>> from spikefit.networks import MLP
        >>> unit_groups(MLP((1, 8, 8), 10, hidden=[16]))
        [UnitGroup(name='fc1', blocks=('fc1',), units=16, kind='neuron')]
    """

    name: str
    blocks: tuple[str, ...]
    units: int
    kind: str


def unit_groups(network: Network) -> list[UnitGroup]:
    """The groups of prunable units, in network order. The readout is never pruned."""
    *hidden, _ = network.named_blocks()
    position = {name: place for place, (name, _) in enumerate(hidden)}
    between = [(str(source), target) for _, layer, source, target in _between_blocks(network) if _ties(layer)]
    ties = [tie for tie in between if set(tie) <= set(position)]
    rows, columns = (np.array([position[tie[end]] for tie in ties], dtype=np.int32) for end in (0, 1))
    # Not an array: its 64-bit indices make scipy below 1.12 return no components, without an error.
    matrix = coo_matrix((np.ones(len(ties)), (rows, columns)), shape=(len(hidden), len(hidden)))
    labels = connected_components(matrix, directed=False)[1]
    members = [[name for name in position if labels[position[name]] == label] for label in dict.fromkeys(labels)]
    groups = []
    for names in members:
        first = network.block(names[0])
        kind = "channel" if first.is_conv else "neuron"
        groups.append(UnitGroup("+".join(names), tuple(names), first.units, kind))
    return groups


def _between_blocks(network: Network) -> Iterator[tuple[str, nn.Module, str | None, str]]:
    """Name, layer, source block (None for the input) and target block of all synapses, shortcuts included."""
    previous = None
    for name, block in network.named_blocks():
        yield name, block.synapses, previous, name
        if block.skip is not None:
            yield f"{name}.skip", block.skip, block.skip_from, name
        previous = name


def _ties(layer: nn.Module) -> bool:
    """Whether output ``k`` of ``layer`` reads input ``k`` alone."""
    depthwise = isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels
    return depthwise or isinstance(layer, IdentitySkip)


def require_whole_groups(network: Network, groups: list[UnitGroup]) -> None:
    """Check that channels of ``groups`` can be pruned without making the groups of a convolution unequal.

    Raises:
        ConfigurationError: for a grouped convolution that reads or has channels in ``groups``, and does not tie them.
    """
    group_of = {name: group.name for group in groups for name in group.blocks}
    for name, layer, source, target in _between_blocks(network):
        if not isinstance(layer, nn.Conv2d) or layer.groups == 1:
            continue
        ends = [group_of.get(end) for end in (source, target) if end is not None]
        if any(ends) and not (_ties(layer) and len(ends) == 2 and ends[0] == ends[1]):
            raise ConfigurationError(
                f"units: got 'channel', but {name} is a convolution from {layer.in_channels} to {layer.out_channels} "
                f"channels in {layer.groups} groups, which pruning would make unequal; expected units: [neuron], or a "
                "network whose convolutions have no groups or are depthwise (one channel in, one channel out in each "
                "group) and read another layer, not the input."
            )


def living_groups(name: str, layer: nn.Conv2d, outputs: Tensor | None, inputs: Tensor | None) -> Tensor:
    """Which groups of the convolution ``layer`` live, bool ``[groups]``, on the CPU.

    Args:
        name: of the layer, for the error.
        layer: the convolution.
        outputs, inputs: which of its output and input channels live; None for all.

    Raises:
        ConfigurationError: for a group with living and dead channels, whose removal would make the groups unequal.
    """
    ends = ((outputs, layer.out_channels), (inputs, layer.in_channels))
    masks = [(torch.ones(size, dtype=torch.bool) if mask is None else mask.cpu()) for mask, size in ends]
    channels = torch.cat([mask.view(layer.groups, -1) for mask in masks], dim=1)
    if not torch.equal(channels.all(dim=1), channels.any(dim=1)):
        raise ConfigurationError(
            f"{name} is a grouped convolution with dead units in a living group; it can't be made smaller."
        )
    return channels.all(dim=1)


def alive_units(network: Network, group: UnitGroup) -> Tensor:
    """The alive mask of ``group``, bool ``[units]``: the first member's buffer. Use :func:`set_alive` to change it."""
    neuron = network.block(group.blocks[0]).neuron
    assert neuron is not None
    return neuron.alive


def set_alive(network: Network, group: UnitGroup, alive: Tensor) -> None:
    """Copy ``alive``, bool ``[units]``, into every member of ``group``."""
    for name in group.blocks:
        neuron = network.block(name).neuron
        assert neuron is not None
        neuron.alive.copy_(alive)


def input_alive(network: Network, name: str) -> Tensor | None:
    """Which inputs of block ``name``'s synapses come from living units; None for the first block, which reads data.

    The mask is bool, ``[in_channels]`` for a convolution or ``[in_features]`` for a linear layer.
    """
    names = [block_name for block_name, _ in network.named_blocks()]
    position = names.index(name)
    if position == 0:
        return None
    return source_alive(network, names[position - 1], network.block(name).synapses)


def live_synapses(network: Network, name: str) -> Tensor:
    """Which weights of the layer ``name`` (as in :meth:`Network.named_synapses`) are in use: bool, the weight's shape.

    A weight is in use if it connects living units and is not pruned itself.
    """
    block_name, _, part = name.partition(".")
    block = network.block(block_name)
    layer = block.skip if part else block.synapses
    inputs = source_alive(network, str(block.skip_from), layer) if part else input_alive(network, block_name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    live = torch.ones_like(latent_weight(layer), dtype=torch.bool)
    shape = [1] * (live.dim() - 2)
    if block.neuron is not None:
        live &= block.neuron.alive.view(-1, 1, *shape)
    if inputs is not None:
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            per_output = len(inputs) // layer.groups
            rows = inputs.view(layer.groups, per_output).repeat_interleave(layer.out_channels // layer.groups, dim=0)
            live &= rows.view(*rows.shape, *shape)
        else:
            live &= inputs.view(1, -1, *shape)
    mask = mask_of(layer)
    return live if mask is None else live & mask.live


def source_alive(network: Network, source: str, layer: nn.Module | None) -> Tensor:
    """The alive mask of block ``source``, per input of ``layer``: a flattened channel becomes H * W features."""
    block: Block = network.block(source)
    assert block.neuron is not None
    alive = block.neuron.alive
    if isinstance(layer, nn.Linear):
        alive = alive.repeat_interleave(layer.in_features // len(alive))
    return alive
