"""Lowering of layers under TrueNorth's rule: projections carry the types of their inputs."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context

from spikefit.hardware.placement import place
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import ConvSNN
from spikefit.neurons import LinearLeakIF
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.quantize import AxonCodebook
from spikefit.quantize.base import attach, quantizer_of

TRUENORTH = HardwareTarget.load("truenorth")


@pytest.fixture
def pruned(wake):
    """A network of spikes in and out whose second convolution has lost two channels and its dense layer a neuron."""
    torch.manual_seed(1)
    neuron = partial(LinearLeakIF, reset="zero")
    net = ConvSNN((2, 8, 8), 4, channels=(4, 6), hidden=(8,), neuron=neuron, readout="spikes")
    for _, layer in net.named_synapses():
        attach(layer, AxonCodebook(layer.weight.detach()))
    x = (torch.rand(4, 8, 2, 8, 8) < 0.4).float()
    net = wake(net, x)
    net.block("conv2").neuron.alive[[1, 4]] = False
    net.block("fc1").neuron.alive[3] = False
    return net, x


def test_exact_programs_fire_as_the_network_does(pruned):
    net, x = pruned
    program = lower(net, context(len(x)))
    parity = compare(net, program, x)
    assert (parity.mismatches, parity.ties) == (0, 0)
    assert parity.compared > 1000
    assert net(x).sum() > 0


def test_projections_carry_the_types_of_the_inputs_that_are_left(pruned):
    """Two of six channels gone: 4 x 2 x 2 of 24 features are left in front of the dense layer."""
    net, x = pruned
    conv1, conv2, fc1, readout = lower(net, context(len(x))).projections
    types = [quantizer_of(layer).input_types() for _, layer in net.named_synapses()]
    channels = torch.tensor([True, False, True, True, False, True])
    assert torch.equal(conv1.axon_types, types[0])
    assert torch.equal(conv2.axon_types, types[1])
    assert torch.equal(fc1.axon_types, types[2][channels.repeat_interleave(4)])
    assert torch.equal(readout.axon_types, types[3][torch.arange(8) != 3])


def test_integers_of_the_chip_are_the_real_weights_and_keep_the_rule(pruned):
    """Placement checks that every output has one value per type, after the gain and the scale of each output."""
    net, x = pruned
    exact = lower(net, context(len(x)))
    program = lower(net, context(len(x), target=TRUENORTH), "target")
    for real, integer in zip(exact.projections, program.projections, strict=True):
        unit = program.population(integer.target).unit.view(-1, *[1] * (integer.weight.dim() - 1))
        torch.testing.assert_close(integer.weight * unit, real.weight, rtol=1e-6, atol=0)
        assert torch.equal(integer.axon_types, real.axon_types)
    placement = place(TRUENORTH, program)
    assert placement.unplaced == ()
    last = [core for core in placement.cores if core.populations == ("readout",)]
    assert [round(core.utilisation["axons"] * 256) for core in last] == [7]


def test_the_groups_of_a_convolution_share_their_types(wake):
    net = ConvSNN((4, 8, 8), 3, channels=(6,), hidden=(), neuron=LinearLeakIF, readout="spikes")
    block = net.block("conv1")
    block.synapses = torch.nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False)
    quantizer = AxonCodebook(block.synapses.weight.detach(), types=2)
    attach(block.synapses, quantizer)
    x = (torch.rand(3, 4, 4, 8, 8) < 0.4).float()
    program = lower(wake(net, x), context(3))
    assert program.projections[0].axon_types.tolist() == quantizer.input_types().tolist() * 2
    assert program.projections[1].axon_types is None
    assert "conv1" not in place(TRUENORTH, program).unplaced


def test_a_layer_between_float_and_codebook_carries_no_types(pruned):
    net, x = pruned
    for _, layer in net.named_synapses():
        quantizer_of(layer).strength = 0.5
    assert all(p.axon_types is None for p in lower(net, context(len(x))).projections)
