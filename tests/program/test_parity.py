"""The exact program fires as the trained network does: every neuron, every step."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.spiking_networks import NETWORKS, NEURONS, build
from torch import nn

from spikefit.networks import MLP, Block, Network
from spikefit.neurons import IF, CubaLIF
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook, Ternary, Uniform


@pytest.mark.parametrize("static", [False, True], ids=["spikes", "direct"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_exact_program_equals_the_network(wake, network, neuron, reset, static):
    net, x = build(wake, network, neuron, reset, static=static)
    program = lower(net, context(len(x), static))
    result = compare(net, program, x)
    assert result.mismatches == 0
    assert result.compared > 1000
    simulation = Simulator(program)(x, record=True)
    fired = {name: float(spikes.mean()) for name, spikes in simulation.spikes.items() if spikes.any()}
    spiking = [population.name for population in program.populations if population.spiking]
    assert list(fired) == spiking, "a silent layer proves nothing"
    torch.testing.assert_close(simulation.logits, net.double()(x.double()).mean(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "quantizer", [None, Codebook, partial(Codebook, scope="channel", zero="free"), Uniform, Ternary]
)
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
def test_every_quantizer_and_readout(wake, quantizer, readout):
    net, x = build(wake, "residual", "lif", "zero", readout, quantizer)
    program = lower(net, context(len(x)))
    assert compare(net, program, x).mismatches == 0
    expected = net.double().logits(net(x.double()))
    torch.testing.assert_close(Simulator(program)(x).logits, expected, rtol=1e-9, atol=1e-9)


def test_a_wrong_threshold_is_found(wake):
    """The comparison can fail: one channel's threshold is moved."""
    net, x = build(wake, "conv", "if", prune=False)
    program = lower(net, context(len(x)))
    program.population("conv2").threshold[0] *= 1.5
    result = compare(net, program, x)
    assert result.by_population["conv1"] == 0
    assert result.by_population["conv2"] > 0
    assert result.agreement < 1


def test_a_tie_is_counted_as_a_tie(wake):
    """A membrane within the tolerance of its threshold is distinguished from a real mismatch."""
    net = MLP((1,), 2, hidden=(1,), neuron=IF)
    block = net.block("fc1")
    block.norm = None
    block.synapses.weight.data.fill_(0.5)
    x = torch.ones(2, 1, 1)
    program = lower(net, context(2))
    program.population("fc1").threshold.fill_(1 + 1e-12)
    result = compare(net, program, x)
    assert (result.mismatches, result.ties) == (0, 1)


def test_a_bias_of_synapses_is_filtered_as_the_network_filters_it():
    """It passes the synaptic current, where the bias of a norm does not."""
    torch.manual_seed(0)
    blocks = {
        "hidden": Block(nn.Linear(9, 12), neuron=CubaLIF(12, synaptic_decay=0.6, decay=0.8)),
        "out": Block(nn.Linear(12, 3, bias=False)),
    }
    net = Network(blocks, (9,)).eval()
    x = (torch.rand(8, 50, 9) < 0.5).float()
    result = compare(net, lower(net, context(8)), x)
    assert (result.compared, result.mismatches, result.ties) == (4800, 0, 0)


def test_what_follows_a_tie_in_its_sample_is_one():
    """Rounding decided the first spike, and so what the membrane holds from then on."""
    net = MLP((1,), 2, hidden=(1,), neuron=IF)
    block = net.block("fc1")
    block.norm = None
    block.synapses.weight.data.fill_(0.5)
    x = torch.ones(6, 2, 1)
    x[:, 1] = 0
    program = lower(net, context(6))
    program.population("fc1").threshold.fill_(1 + 1e-12)
    loose, strict = compare(net, program, x), compare(net, program, x, tolerance=None)
    assert (loose.mismatches, strict.ties) == (0, 0)
    assert loose.ties == strict.mismatches > 1
