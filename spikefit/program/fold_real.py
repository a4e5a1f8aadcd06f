"""The first half of the fold: norms, pooling and gains as constants of the neurons, in real numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikefit.errors import ConfigurationError
from spikefit.functional.neuron_models import NeuronModel, constants_in_units, require_exact
from spikefit.networks.blocks import Block, Network
from spikefit.networks.emulated import FoldedBlock, FoldedInput, FoldedSynapses
from spikefit.networks.norms import PositiveBatchNorm, folded_norms
from spikefit.neurons import synaptic_decay_of
from spikefit.program.unit_vectors import Units
from spikefit.prune.groups import source_alive
from spikefit.quantize.base import exact_weight, latent_weight


@dataclass(frozen=True)
class RealLayer:
    """The weights and the neuron model of one block, in real numbers.

    Attributes:
        block: the block of the network.
        synapses, skip: its weights, and those of its shortcut.
        columns, skip_columns: bool masks of the living inputs of the layer and of the shortcut, broadcastable to their
            weights; None if all inputs live.
        model: the neuron model; None for a readout.
    """

    block: Block
    synapses: FoldedSynapses
    skip: FoldedSynapses | None
    columns: Tensor | None
    skip_columns: Tensor | None
    model: NeuronModel | None

    @property
    def synaptic(self) -> bool:
        """Whether the neurons have synaptic currents."""
        return self.model is not None and self.model.synaptic

    @property
    def places(self) -> int:
        """Number of positions in the pooling window that is summed before the weights."""
        return self.synapses.places

    @property
    def graded(self) -> bool:
        """Whether the block reads real-valued inputs."""
        return self.synapses.arrives is not None and self.synapses.arrives.kind.graded


@dataclass(frozen=True)
class RealNetwork:
    """All blocks in real numbers; each constant of the units is one vector ``[N]``, float64.

    Attributes:
        units: which block each unit belongs to.
        layers: weights and neuron model of each block.
        inputs: the kind and the range of the network's inputs.
        alive: bool mask of the living units.
        gain: of the norm; 1 without a norm.
        bias: added to the membrane at every step.
        synaptic_bias: added to the synaptic current at every step; unused for neurons without synaptic currents.
        threshold, leak: of the neurons; 0 for a readout without neurons.
    """

    units: Units
    layers: tuple[RealLayer, ...]
    inputs: FoldedInput
    alive: Tensor
    gain: Tensor
    bias: Tensor
    synaptic_bias: Tensor
    threshold: Tensor
    leak: Tensor

    def blocks(self) -> list[FoldedBlock]:
        """The folded constants of each block, in units of the network."""
        counts = self.units.counts
        vectors = (self.gain, self.bias, self.synaptic_bias, self.threshold, self.leak)
        ones, blocks = self.units.constants([1.0] * len(counts)).split(counts), []
        for layer, one, *parts in zip(self.layers, ones, *(vector.split(counts) for vector in vectors), strict=True):
            gain, bias, synaptic_bias, threshold, leak = parts
            neuron, model = layer.block.neuron, layer.model
            blocks.append(
                FoldedBlock(
                    layer.synapses,
                    layer.skip,
                    bias,
                    synaptic_bias if layer.synaptic else None,
                    unit=one,
                    slope=gain,
                    threshold=None if model is None else threshold,
                    leak=None if model is None else leak,
                    synaptic_leak=one * synaptic_decay_of(neuron) if neuron is not None and layer.synaptic else None,
                    arithmetic=self.inputs.arithmetic,
                    constants=own_constants(layer, gain),
                )
            )
        return blocks


def real_network(network: Network, inputs: FoldedInput) -> RealNetwork:
    """Fold ``network`` in real numbers.

    Raises:
        ConfigurationError: for a norm in a readout without neurons, or neurons that no exact program can represent.
    """
    layers, previous = [], None
    for name, block in network.named_blocks():
        layers.append(_layer(network, name, block, previous, inputs))
        previous = name
    blocks = [layer.block for layer in layers]
    units = Units(tuple(block.units for block in blocks), latent_weight(blocks[0].synapses).device)
    neurons = [block.neuron for block in blocks]
    gain, bias = _norms(units, [block.norm for block in blocks])
    own = [_own_bias(block) for block in blocks]
    at_synapses = units.joined(own)
    if any(isinstance(part, Tensor) for part in own):
        # A synaptic current filters the bias of the synapses, but not that of the norm.
        bias = units.chosen([layer.synaptic for layer in layers], bias, bias + at_synapses)
    leak = units.joined([0.0 if neuron is None else neuron.leak_amount() for neuron in neurons])
    by_membrane = [layer.model is not None and layer.model.leak_unit == "membrane" for layer in layers]
    threshold = units.joined([0.0 if neuron is None else neuron.threshold for neuron in neurons])
    alive = units.constants([True] * len(blocks), torch.bool).split(units.counts)
    return RealNetwork(
        units,
        tuple(layers),
        inputs,
        torch.cat([own if neuron is None else neuron.alive for own, neuron in zip(alive, neurons, strict=True)]),
        gain,
        bias,
        at_synapses,
        gain.reciprocal() * threshold,
        units.chosen(by_membrane, leak / gain, leak) if any(by_membrane) else leak,
    )


def own_constants(layer: RealLayer, gain: Tensor) -> dict[str, Tensor]:
    """The neurons' constants of ``layer`` besides threshold and leak, in units of the norm's ``gain``."""
    if layer.model is None or layer.block.neuron is None:
        return {}
    return constants_in_units(layer.model, layer.block.neuron.own_constants(), gain)


def _layer(network: Network, name: str, block: Block, previous: str | None, inputs: FoldedInput) -> RealLayer:
    if block.norm is not None and block.neuron is None:
        raise ConfigurationError(f"block {name}: a readout without neurons can't be lowered with a norm.")
    source, neuron = str(block.skip_from), block.neuron
    return RealLayer(
        block,
        _synapses(network, block.synapses, previous, inputs),
        None if block.skip is None else _synapses(network, block.skip, source, inputs),
        None if previous is None else _columns(network, previous, block.synapses),
        _columns(network, source, block.skip) if isinstance(block.skip, nn.Conv2d) else None,
        None if neuron is None else require_exact(neuron.entry, neuron.own_dynamics),
    )


def _columns(network: Network, source: str, layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Which weights of ``layer`` read living units of block ``source``: bool mask, broadcastable to the weight."""
    inputs, weight, groups = source_alive(network, source, layer), latent_weight(layer), getattr(layer, "groups", 1)
    shape = [1] * (weight.dim() - 2)
    if groups == 1:
        return inputs.view(1, -1, *shape)
    rows = inputs.view(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
    return rows.view(*rows.shape, *shape)


def _synapses(network: Network, layer: nn.Module, source: str | None, inputs: FoldedInput) -> FoldedSynapses:
    """Weights of ``layer``; for an exact program in float64, times ``1 / k**2`` of the average pooling before them."""
    before = None if source is None else network.block(source)
    averaged = before is not None and before.pool > 1 and before.pool_kind == "avg"
    places = before.pool**2 if averaged and before is not None else 1
    spikes = 1 if before is None or before.neuron is None else before.neuron.max_spikes
    exact = not inputs.arithmetic.integer
    weight = exact_weight(layer) * (1 / places) if exact else layer.weight
    assert isinstance(weight, Tensor)
    if weight.dim() == 0:  # an identity shortcut has one weight for all channels
        assert before is not None
        weight = weight.expand(before.units)
    zero, one = Units((1,), weight.device).numbers([0.0, 1.0])
    return FoldedSynapses(weight, 2**53, None, zero, one, inputs if source is None else None, spikes, places)


def _norms(units: Units, norms: Sequence[PositiveBatchNorm | None]) -> tuple[Tensor, Tensor]:
    """Gain and bias of each unit, as :meth:`PositiveBatchNorm.folded` returns them; 1 and 0 without a norm."""
    present = [norm for norm in norms if norm is not None]
    if not present:
        return units.constants([1.0] * len(norms)), units.constants([0.0] * len(norms))
    folded = folded_norms(present)
    if len(present) == len(norms):
        return folded
    counts = [count for count, norm in zip(units.counts, norms, strict=True) if norm is not None]
    gains, biases = (iter(vector.split(counts)) for vector in folded)
    return (
        units.joined([1.0 if norm is None else next(gains) for norm in norms]),
        units.joined([0.0 if norm is None else next(biases) for norm in norms]),
    )


def _own_bias(block: Block) -> Tensor | float:
    """The sum of the biases of the synapses of ``block`` and of its shortcut, ``[units]``."""
    own = [getattr(layer, "bias", None) for layer in (block.synapses, block.skip)]
    return sum((bias.double() for bias in own if bias is not None), 0.0)
