"""How many bytes a network's weights and constants take.

A layer whose weights are real numbers stores them as they are, 32 bits each. A quantised layer is packed, and of the
layouts that are exact the smallest counts:

* *direct*: the integer of every weight, at the quantizer's width, and the scales;
* *indexed*: for every scale a table of the integers in use, at the quantizer's width, and for every weight an index
  of ``ceil(log2(values))`` bits, at least 1, where ``values`` is the length of the longest table;
* *axon*: with a type for each input, a bit for every weight that says whether the synapse is there, the inputs' types,
  and for every scale a table of the integers in use but 0.

Scales take 32 bits. A convolution's kernels count once, not once a position; an absent weight (0) inside a layer is one
of the values; dead units are gone. Thresholds, biases and leaks take 32 bits a channel, or 32 bits in all where every
channel has the same.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikefit.hardware.program import Population, Program, Projection

REAL_BITS = 32


@dataclass(frozen=True)
class LayerSize:
    """Size of one projection, in bits.

    Attributes:
        name: the projection.
        weights: stored weights.
        index_bits: what they take altogether, tables and scales apart.
        table_bits: tables and scales.
    """

    name: str
    weights: int
    index_bits: int
    table_bits: int


@dataclass(frozen=True)
class ModelSize:
    """Size of a network.

    Attributes:
        layers: of each projection.
        constant_bits: thresholds, biases and leaks.
    """

    layers: tuple[LayerSize, ...]
    constant_bits: int

    @property
    def bytes(self) -> int:
        """Everything, in whole bytes."""
        bits = sum(layer.index_bits + layer.table_bits for layer in self.layers) + self.constant_bits
        return math.ceil(bits / 8)

    @property
    def bits_per_weight(self) -> float:
        """Bits of an average stored weight, without tables and scales."""
        return sum(layer.index_bits for layer in self.layers) / max(1, sum(layer.weights for layer in self.layers))


def model_size(exact: Program, stored: Program) -> ModelSize:
    """Size of a network.

    Args:
        exact: its ``exact`` program, which knows which layers are quantised, and how wide.
        stored: its ``target`` program, which has their integers and scales.
    """
    layers = []
    for real, integer in zip(exact.projections, stored.projections, strict=True):
        if real.bits is None:
            layers.append(LayerSize(real.name, real.weight.numel(), real.weight.numel() * REAL_BITS, 0))
        else:
            unit = stored.population(integer.target).unit
            assert unit is not None
            layers.append(_packed(integer, unit, real.bits))
    return ModelSize(tuple(layers), sum(_constant_bits(population) for population in exact.populations))


def _packed(projection: Projection, unit: Tensor, bits: int) -> LayerSize:
    """The smallest layout of integer weights ``[out, ...]`` with scales ``unit`` ``[out]``."""
    weight = projection.weight.flatten(1)
    count = weight.numel()
    scale_of_row = unit.unique(return_inverse=True)[1]
    scales = int(scale_of_row.max()) + 1
    lengths = _table_lengths(weight, scale_of_row)
    layouts = [(count * bits, 0), (count * index_bits(int(lengths.max())), int(lengths.sum()) * bits)]
    types = projection.axon_types
    if types is not None:
        values = int(_table_lengths(weight, scale_of_row, zero=False).sum())
        layouts.append((count + len(types) * index_bits(int(types.max()) + 1), values * bits))
    indices, tables = min(layouts, key=sum)
    return LayerSize(projection.name, count, indices, tables + scales * REAL_BITS)


def index_bits(values: int) -> int:
    """Width of an index into ``values`` values, at least 1."""
    return max(1, math.ceil(math.log2(max(1, values))))


def _table_lengths(weight: Tensor, scale_of_row: Tensor, zero: bool = True) -> Tensor:
    """Distinct values of the rows that share a scale, ``[scales]``; 0 counts as one if ``zero``."""
    values, position = weight.unique(return_inverse=True)
    pairs = (scale_of_row[:, None] * len(values) + position).unique()
    if not zero:
        pairs = pairs[values[pairs % len(values)] != 0]
    return torch.bincount(pairs // len(values), minlength=int(scale_of_row.max()) + 1)


def _constant_bits(population: Population) -> int:
    constants = (population.threshold, population.bias, population.leak)
    return sum(
        REAL_BITS * (1 if bool((constant == constant[0]).all()) else len(constant))
        for constant in constants
        if constant is not None
    )
