"""The exact program fires as the trained network does: every neuron, every step."""

from functools import partial

import pytest
import torch

from spikefit.deploy.lower import lower
from spikefit.deploy.parity import compare
from spikefit.deploy.simulate import Simulator
from spikefit.networks import MLP, VGG, ConvSNN, ResidualSNN
from spikefit.neurons import IF, LIF, LinearLeakIF, ParametricLIF
from spikefit.prune import unit_groups
from spikefit.prune.groups import set_alive
from spikefit.quantize import Codebook, Ternary, Uniform
from spikefit.quantize.base import attach

NETWORKS = {
    "mlp": MLP,
    "conv": ConvSNN,
    "stride": partial(ConvSNN, pool=1, stride=2, kernel=5),
    "pool3": partial(ConvSNN, channels=(6,), pool=3),
    "max": partial(ConvSNN, pool_kind="max"),
    "vgg": partial(VGG, plan="vgg9", width=0.125),
    "residual": partial(ResidualSNN, channels=(8, 16), stem_pool=2),
    "deep_residual": partial(ResidualSNN, channels=(8,), depth=2),
}
NEURONS = {
    "if": IF,
    "lif": partial(LIF, tau=2.0),
    "parametric": ParametricLIF,
    "linear": partial(LinearLeakIF, leak_per_step=0.07),
}


def build(wake, network, neuron, reset="subtract", readout="membrane", quantizer=Codebook, static=False, prune=True):
    torch.manual_seed(0)
    net = NETWORKS[network]((2, 12, 12), 5, neuron=partial(NEURONS[neuron], reset=reset), readout=readout)
    if quantizer is not None:
        for _, layer in net.named_synapses():
            attach(layer, quantizer(layer.weight.detach()))
    x = torch.rand(1, 6, 2, 12, 12).expand(5, -1, -1, -1, -1) if static else (torch.rand(5, 6, 2, 12, 12) < 0.4).float()
    if prune:
        for group in unit_groups(net):
            alive = torch.rand(group.units) > 0.25
            alive[:2] = True
            set_alive(net, group, alive)
    return wake(net, x), x


@pytest.mark.parametrize("static", [False, True], ids=["spikes", "direct"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_exact_program_equals_the_network(wake, network, neuron, reset, static):
    net, x = build(wake, network, neuron, reset, static=static)
    program = lower(net, len(x), graded_input=static)
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
    program = lower(net, len(x), graded_input=False)
    assert compare(net, program, x).mismatches == 0
    expected = net.double().logits(net(x.double()))
    torch.testing.assert_close(Simulator(program)(x).logits, expected, rtol=1e-9, atol=1e-9)


def test_a_wrong_threshold_is_found(wake):
    """The comparison can fail: one channel's threshold is moved."""
    net, x = build(wake, "conv", "if", prune=False)
    program = lower(net, len(x), graded_input=False)
    program.population("conv2").threshold[0] *= 1.5
    result = compare(net, program, x)
    assert result.by_population["conv1"] == 0
    assert result.by_population["conv2"] > 0
    assert result.agreement < 1


def test_a_tie_is_counted_as_a_tie(wake):
    """A membrane within the tolerance of its threshold is told apart from a real mismatch."""
    net = MLP((1,), 2, hidden=(1,), neuron=IF)
    block = net.block("fc1")
    block.norm = None
    block.synapses.weight.data.fill_(0.5)
    x = torch.ones(2, 1, 1)
    program = lower(net, 2, graded_input=False)
    program.population("fc1").threshold.fill_(1 + 1e-12)
    result = compare(net, program, x)
    assert (result.mismatches, result.ties) == (0, 1)
