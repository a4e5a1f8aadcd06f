"""A network that emulates a chip fires as its program does on that chip, and still learns."""

from functools import partial

import pytest
import torch
from woken_networks import NETWORKS, build

from spikefit.deploy.emulate import ChipEmulation
from spikefit.deploy.lower import lower
from spikefit.deploy.parity import compare
from spikefit.deploy.simulate import Simulator
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP
from spikefit.neurons import CubaLIF
from spikefit.quantize import Codebook, Uniform
from spikefit.quantize.base import attach


def emulated(net, target, static):
    net.emulation = ChipEmulation(HardwareTarget.load(target), static)
    return net


def agrees(net, x, target, static):
    """Every spike and every logit of the network in float32 equals those of the lowered program."""
    program = lower(net, len(x), graded_input=static, precision="target", target=HardwareTarget.load(target))
    result = compare(net, program, x, tolerance=0.0)
    assert result.mismatches + result.ties == 0
    with torch.no_grad():
        logits = net.logits(net(x))
    assert torch.equal(logits.double(), Simulator(program)(x).logits)
    return result


@pytest.mark.parametrize("static", [False, True], ids=["spikes", "direct"])
@pytest.mark.parametrize(
    ("target", "neuron", "reset"),
    [
        ("loihi", "lif", "zero"),
        ("loihi", "parametric", "subtract"),
        ("truenorth", "linear", "subtract"),
        ("truenorth", "if", "zero"),
        ("speck2f", "if", "subtract"),
    ],
)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_fires_as_the_program(wake, network, target, neuron, reset, static):
    net, x = build(wake, network, neuron, reset, static=static)
    before = compare(net, lower(net, len(x), graded_input=static), x)
    assert agrees(emulated(net, target, static), x, target, static).compared > 1000
    assert compare(net, lower(net, len(x), graded_input=static), x) == before, "the exact program is the network's own"


@pytest.mark.parametrize("static", [False, True], ids=["spikes", "direct"])
@pytest.mark.parametrize("norm", ["batch", "gain"])
@pytest.mark.parametrize("max_spikes", [1, 31])
def test_current_based_neurons_on_xylo(wake, max_spikes, norm, static):
    """Shifts instead of decays, synaptic currents, several spikes a step, inputs of up to 15 spikes."""
    torch.manual_seed(0)
    neuron = partial(CubaLIF, synaptic_decay=0.7, decay=0.9, max_spikes=max_spikes)
    net = MLP((2, 3, 3), 5, (12, 10), neuron=neuron, readout="spikes", norm=norm)
    for _, layer in net.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), bits=8))
    x = torch.rand(1, 6, 2, 3, 3).expand(9, -1, -1, -1, -1) if static else (torch.rand(9, 6, 2, 3, 3) < 0.4).float()
    net = wake(net, x)
    with torch.no_grad():
        net.block("fc1").neuron.alive[3] = False
    exact = compare(net, lower(net, len(x), graded_input=static), x)
    assert exact.mismatches == 0
    assert agrees(emulated(net, "xylo_audio3", static), x, "xylo_audio3", static).compared > 1000
    net.train()
    torch.nn.functional.cross_entropy(net.logits(net(x)), torch.arange(6) % 5).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("quantizer", [None, Codebook, partial(Codebook, scope="channel", zero="free"), Uniform])
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
def test_every_quantizer_and_readout(wake, quantizer, readout):
    net, x = build(wake, "residual", "lif", "zero", readout, quantizer)
    agrees(emulated(net, "loihi", False), x, "loihi", False)


def test_without_emulation_the_program_differs(wake):
    """The comparison can fail: the network's own numbers are not the chip's."""
    net, x = build(wake, "conv", "lif", "zero", quantizer=partial(Codebook, bits=8))
    program = lower(net, len(x), graded_input=False, precision="target", target=coarse())
    assert compare(net, program, x, tolerance=0.0).agreement < 1


def coarse():
    """Loihi with thresholds and decays of few bits, so that rounding shows."""
    content = HardwareTarget.load("loihi").to_dict()
    content["neuron"]["threshold_step"]["value"] = 2**14
    content["neuron"]["decay_bits"]["value"] = 2
    return HardwareTarget.from_dict(content, name="coarse")


def test_agreement_survives_training_steps(wake):
    """Thresholds, shifts, leaks, weights and codebooks all learn, and the program follows."""
    net, x = build(wake, "residual", "parametric", "subtract")
    target = coarse()
    net.emulation = ChipEmulation(target, False)
    net.train()
    y = torch.arange(x.shape[1]) % 5
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net.logits(net(x)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    still = {name for name, p in net.named_parameters() if torch.equal(before[name], p)}
    assert not still, "these did not learn"
    assert min(losses[4:]) < losses[0]
    program = lower(net.eval(), len(x), graded_input=False, precision="target", target=target)
    result = compare(net, program, x, tolerance=0.0)
    assert result.mismatches + result.ties == 0


def test_gradients_are_those_of_the_network_where_rounding_is_fine(wake):
    """With integers so fine that they hardly round, every gradient equals that of the float network."""
    content = HardwareTarget.load("loihi").to_dict()
    for name, value in {"threshold_max": 2**40, "bias_min": -(2**40), "bias_max": 2**40, "state_min": -(2**50)}.items():
        content["neuron"][name]["value"] = value
    content["neuron"]["state_max"]["value"] = 2**50
    content["neuron"]["threshold_step"]["value"], content["neuron"]["threshold_offset"]["value"] = 1, 0
    del content["neuron"]["bias_mantissa_max"]
    content["neuron"]["decay_bits"]["value"] = 16
    content["weights"]["exponent_max"]["value"] = 20
    fine = HardwareTarget.from_dict(content, name="fine")
    net, x = build(wake, "conv", "parametric", "subtract", prune=False)
    net = net.double()
    y = torch.arange(x.shape[1]) % 5
    found = []
    for emulation in (None, ChipEmulation(fine, False)):
        net.emulation = emulation
        net.zero_grad()
        torch.nn.functional.cross_entropy(net.logits(net(x.double())), y).backward()
        found.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=2e-2, atol=2e-3 * float(gradient.abs().max()), msg=name
        )


def test_state_dict_restores_the_chip():
    target = HardwareTarget.load("truenorth")
    emulation = ChipEmulation.from_state_dict(ChipEmulation(target, True).state_dict())
    assert (emulation.target, emulation.graded_input) == (target, True)
