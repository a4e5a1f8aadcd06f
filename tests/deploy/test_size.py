"""Sizes of models, counted by hand."""

from functools import partial

import pytest
import torch

from spikefit.deploy.lower import lower
from spikefit.deploy.size import index_bits, model_size
from spikefit.hardware.program import Population, Program, Projection
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import ConvSNN
from spikefit.neurons import LIF
from spikefit.quantize import Codebook, Ternary, Uniform
from spikefit.quantize.base import attach


def layer(weight, bits, scales=None, **options):
    """A network of one dense layer behind an input: its exact and its target program."""
    weight = torch.tensor(weight)
    outputs, inputs = weight.shape
    unit = torch.ones(outputs) if scales is None else torch.tensor(scales)
    source = Population("input", (inputs,), "input")
    target = Population("out", (outputs,), "readout", bias=torch.zeros(outputs), unit=unit)
    stored = Projection("out", "input", "out", "dense", weight, bits=8, **options)
    real = Projection("out", "input", "out", "dense", weight * unit[:, None].double(), bits=bits)
    return Program((source, target), (real,), 4), Program((source, target), (stored,), 4, "target")


BIAS = 32  # all zero: stored once


def test_real_weights_take_32_bits():
    size = model_size(*layer([[1, 2, 3], [4, 5, 6]], bits=None))
    assert size.bits_per_weight == 32
    assert size.bytes == (6 * 32 + BIAS) // 8


def test_a_codebook_takes_indices_a_table_and_a_scale():
    """40 weights of 3 values on a grid of 8 bits: 40 indices of 2 bits, 3 entries of 8, a scale of 32."""
    size = model_size(*layer([[-100, 7, 100, 7]] * 10, bits=8))
    assert (size.layers[0].index_bits, size.layers[0].table_bits) == (80, 24 + 32)
    assert size.bytes == (80 + 24 + 32 + BIAS) // 8
    assert size.bits_per_weight == 2


def test_a_uniform_grid_needs_no_table():
    """Two bits: the four integers are their own indices; the same with three of them in use."""
    for values in ([-2, -1, 0, 1], [-1, 0, 1, 1]):
        size = model_size(*layer([values] * 3, bits=2))
        assert (size.layers[0].index_bits, size.layers[0].table_bits) == (24, 32)


def test_every_output_may_have_a_codebook_of_its_own():
    """Rows of 64 weights and 2 values each, 6 values in all: one bit a weight, 3 tables of 2 entries, 3 scales."""
    rows = [[-8 - row, 7 + row] * 32 for row in range(3)]
    size = model_size(*layer(rows, bits=8, scales=[0.5, 0.25, 0.125]))
    assert (size.layers[0].index_bits, size.layers[0].table_bits) == (3 * 64, 6 * 8 + 3 * 32)
    assert size.bits_per_weight == 1


def test_outputs_that_share_a_scale_share_a_table():
    """Two cores of two outputs with the values +-1 and +-3: with one table for all of them it were 2 bits a weight."""
    rows = [[-1, 1] * 32, [1, -1] * 32, [-3, 3] * 32, [3, 3] * 32]
    size = model_size(*layer(rows, bits=4, scales=[0.5, 0.5, 0.25, 0.25]))
    assert (size.layers[0].index_bits, size.layers[0].table_bits) == (4 * 64, 4 * 4 + 2 * 32)


def test_types_of_inputs_leave_one_bit_a_synapse():
    """64 inputs of 2 types, 2 outputs with one value a type: a bit a synapse, a bit an input, 4 entries, 2 scales."""
    rows = [[5, 7] * 31 + [0, 0], [3, 0] + [3, 9] * 31]
    types = torch.tensor([0, 1] * 32)
    size = model_size(*layer(rows, bits=8, scales=[0.5, 0.25], axon_types=types))
    assert (size.layers[0].index_bits, size.layers[0].table_bits) == (128 + 64, 4 * 8 + 2 * 32)
    assert size.bits_per_weight == 1.5


def test_a_single_value_takes_a_bit():
    assert [index_bits(values) for values in (1, 2, 3, 4, 5, 16, 17)] == [1, 1, 2, 2, 3, 4, 5]


def programs(network):
    exact = lower(network, 4, graded_input=True)
    return exact, lower(network, 4, graded_input=True, precision="target", target=HardwareTarget.load("loihi"))


def network(wake, quantizer):
    torch.manual_seed(0)
    net = ConvSNN((1, 8, 8), 4, (4, 6), (8,), neuron=partial(LIF, decay=0.5, reset="zero"))
    for _, synapses in net.named_synapses() if quantizer else ():
        attach(synapses, quantizer(synapses.weight.detach()))
    return wake(net, torch.rand(4, 8, 1, 8, 8))


# 4 x 1 x 9, 6 x 4 x 9, 8 x (6 x 2 x 2), 4 x 8; kernels count once, not at each of 64 and 16 positions.
WEIGHTS = 36 + 216 + 192 + 32
# Threshold and bias of 4 + 6 + 8 units, one leak a layer; the readout's bias, which is zero, once.
CONSTANTS = 32 * (2 * 18 + 3 + 1)


@pytest.mark.parametrize(
    ("quantizer", "bits", "table"),
    [
        (None, 32, 0),
        (partial(Codebook, levels=4, bits=8), 2, 4 * 8 + 32),
        (partial(Codebook, levels=2, bits=4), 1, 2 * 4 + 32),
        (partial(Uniform, bits=2), 2, 32),
        (Ternary, 2, 32),
    ],
)
def test_networks_as_they_are_lowered(wake, quantizer, bits, table):
    size = model_size(*programs(network(wake, quantizer)))
    assert sum(layer.weights for layer in size.layers) == WEIGHTS
    assert size.bits_per_weight == bits
    assert size.constant_bits == CONSTANTS
    assert size.bytes == -(-(WEIGHTS * bits + 4 * table + CONSTANTS) // 8)


def test_dead_units_take_nothing(wake):
    """Channels 1 and 3 of the first convolution: with them go 2 x 9 kernels of their own and 6 x 2 x 9 behind."""
    net = network(wake, partial(Codebook, levels=4, bits=8))
    net.block("conv1").neuron.alive[[1, 3]] = False
    size = model_size(*programs(net))
    assert sum(layer.weights for layer in size.layers) == WEIGHTS - 18 - 108
    assert size.constant_bits == CONSTANTS - 2 * 2 * 32
