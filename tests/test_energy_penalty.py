"""The price on energy: its counts are those of the simulated program, its gradients those of the formula."""

from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.spiking_networks import NETWORKS, build

from spikefit.functional.fan_out import conv_fan_out, count_synops
from spikefit.functional.synops import conv_synops, live_synapses
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.energy import estimate
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.losses.energy_use import EnergyMeter, single_spike_synops
from spikefit.networks import MLP, ConvSNN
from spikefit.networks.blocks import Block, Network
from spikefit.networks.synops import SynopCounter
from spikefit.neurons import IF, CubaLIF
from spikefit.program.emulation import Emulator
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator
from spikefit.prune.synapse_mask import attach_mask
from spikefit.quantize import AxonCodebook, Codebook, RescaledUniform, Ternary, Uniform

QUANTIZERS = {
    "float": None,
    "codebook": Codebook,
    "zero": partial(Codebook, levels=3, bits=2),
    "free": partial(Codebook, zero="free", scope="channel"),
    "ternary": Ternary,
    "lsq": Uniform,
    "rescaled": RescaledUniform,
    "axon": AxonCodebook,
}


def counted(network, x, kind):
    """Operations of each layer per sample."""
    _, counts = network(x, SynopCounter(kind))
    return counts / x.shape[1]


def simulated(network, x, kind, precision="exact", target=None):
    program = lower(network, DeploymentContext(target, len(x), kind), precision)
    return Simulator(program)(x).activity


def by_block(network, counts):
    """Sums of a block's layer and its shortcut."""
    each = iter(counts.tolist())
    return [next(each) + (0 if block.skip is None else next(each)) for _, block in network.named_blocks()]


def masked(network):
    generator = torch.Generator().manual_seed(3)
    for _, layer in network.named_synapses():
        mask = attach_mask(layer)
        mask.live.copy_(torch.rand(mask.live.shape, generator=generator) > 0.3)


@pytest.mark.parametrize("name", NETWORKS)
def test_synops_are_those_of_the_simulated_program(wake, name):
    """With strides, pooling, shortcuts, dead units, pruned synapses and codebook values of zero."""
    network, x = build(wake, name, "lif", quantizer=partial(Codebook, levels=3, bits=2))
    masked(network)
    found = simulated(network, x, InputKind.SPIKES)
    assert all(layer.synops > 0 for layer in found)
    assert any((layer.weight == 0).float().mean() > 0.4 for _, layer in network.named_synapses())
    expected = [layer.synops for layer in found]
    assert by_block(network, counted(network, x, InputKind.SPIKES)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_synops_of_every_quantizer(wake, quantizer):
    network, x = build(wake, "stride", "if", quantizer=QUANTIZERS[quantizer], readout="spikes")
    expected = [layer.synops for layer in simulated(network, x, InputKind.SPIKES)]
    assert by_block(network, counted(network, x, InputKind.SPIKES)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", [InputKind.CONSTANT, InputKind.GRADED])
def test_real_inputs_are_multiplied(wake, kind):
    network, x = build(wake, "stride", "lif", static=kind is InputKind.CONSTANT)
    x = x * (x > 0.3) if kind is InputKind.GRADED else (x[:1] * (x[:1] > 0.3)).expand(x.shape)
    found = simulated(network, x, kind)
    counts = counted(network, x, kind)
    assert counts[0].item() == pytest.approx(found[0].macs, rel=1e-9)
    assert counts[1:].tolist() == pytest.approx([layer.synops for layer in found[1:]], rel=1e-9)


def test_counts_and_several_spikes_a_step(wake):
    torch.manual_seed(0)
    network = MLP((1, 6, 6), 4, (12, 9), neuron=partial(CubaLIF, max_spikes=3))
    x = torch.randint(0, 4, (5, 6, 1, 6, 6)).float()
    wake(network, x)
    expected = [layer.synops for layer in simulated(network, x, InputKind.COUNTS)]
    assert counted(network, x, InputKind.COUNTS).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["stride", "pool3", "residual"])
@pytest.mark.parametrize("quantizer", ["float", "zero"])
def test_synops_of_the_chips_integers(wake, name, quantizer):
    """Float weights that the chip rounds to zero are no synapses; pooled spikes arrive as sums."""
    network, x = build(wake, name, "lif", reset="zero", quantizer=QUANTIZERS[quantizer])
    chip = HardwareTarget.load("loihi")
    network.emulation = Emulator(context(len(x), target=chip))
    expected = [layer.synops for layer in simulated(network, x, InputKind.SPIKES, "target", chip)]
    assert by_block(network, counted(network, x, InputKind.SPIKES)) == pytest.approx(expected, rel=1e-9)


def test_counts_beyond_those_that_a_chip_accepts_are_lost(wake):
    """Xylo accepts 15 spikes of an input in a step."""
    chip = HardwareTarget.load("xylo_audio2")
    network = MLP((4,), 3, (8,), neuron=CubaLIF)
    x = torch.randint(0, 40, (5, 6, 4)).float()
    wake(network, x)
    network.emulation = Emulator(DeploymentContext(chip, len(x), InputKind.COUNTS))
    expected = [layer.synops for layer in simulated(network, x, InputKind.COUNTS, "target", chip)]
    assert expected[0] == x.clamp(max=15).sum() / 6 * 8
    assert counted(network, x, InputKind.COUNTS).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 2), ((2, 1), (0, 3), (1, 2))])
def test_convolutions_of_every_geometry(groups, stride, padding, dilation):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 8, (3, 2), stride, padding, dilation, groups)
    weight = layer.weight * (torch.rand_like(layer.weight) > 0.4)
    spikes = (torch.rand(3, 2, 4, 11, 9) < 0.3).float()
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": groups}
    expected = count_synops(spikes, conv_fan_out(weight, (4, 11, 9), **options)).sum()
    assert conv_synops(spikes.sum((0, 1)), live_synapses(weight), layer).item() == expected


def test_spikes_get_their_fan_out_as_gradient():
    torch.manual_seed(0)
    weight = torch.randn(6, 3, 3, 3) * (torch.rand(6, 3, 3, 3) > 0.5)
    sent = torch.rand(3, 7, 8, requires_grad=True)
    layer = torch.nn.Conv2d(3, 6, 3, stride=2, padding=1)
    conv_synops(sent, live_synapses(weight), layer).backward()
    fan_out = conv_fan_out(weight, (3, 7, 8), stride=layer.stride, padding=layer.padding)
    torch.testing.assert_close(sent.grad, fan_out.float())


def test_weights_get_the_gradient_of_the_written_surrogate():
    torch.manual_seed(0)
    weight = torch.randn(5, 4, dtype=torch.float64)
    weight[0, :2] = 0
    weight.requires_grad_()
    sent = torch.rand(4, dtype=torch.float64)
    (live_synapses(weight) * sent).sum().backward()
    scale = weight[weight != 0].abs().mean().item()
    soft = weight.detach().clone().requires_grad_()
    ((1 - (-soft.abs() / scale).exp()) * sent).sum().backward()
    torch.testing.assert_close(weight.grad, soft.grad)


@pytest.mark.parametrize("pool_kind", ["avg", "max"])
def test_a_pass_passes_the_gradient_to_every_spike(pool_kind):
    """Against spikes times fan-out, written with the network's own layers."""
    torch.manual_seed(0)
    network = ConvSNN((2, 9, 9), 3, (4, 5), (6,), pool_kind=pool_kind, neuron=IF).double()
    x = (torch.rand(3, 4, 2, 9, 9) < 0.5).double()
    _, counts = network(x, SynopCounter(InputKind.SPIKES))
    counts.sum().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    synops, signal, before = 0.0, x, None
    for _, block in network.named_blocks():
        layer, window = block.synapses, 1 if before is None or pool_kind == "max" else before.pool**2
        if block.is_conv:
            fan = conv_fan_out(layer.weight, signal.shape[2:], padding=layer.padding)
        else:
            fan = (layer.weight != 0).sum(0).view(signal.shape[2:])
        synops = synops + (signal * fan).sum() * window
        signal, before = block(signal), block
    assert counts.sum().item() == pytest.approx(synops.item(), rel=1e-9)
    synops.backward()
    assert {"blocks.conv1.synapses.weight", "blocks.conv1.norm.bias"} < found.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, network.get_parameter(name).grad, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", [InputKind.SPIKES, InputKind.CONSTANT])
@pytest.mark.parametrize("chip", ["loihi", "generic", "truenorth", "spinnaker2"])
def test_the_energy_is_that_of_the_report(wake, chip, kind):
    """The sum of the terms that a simulated program's estimate knows, without those that the log names."""
    target = HardwareTarget.load(chip)
    network, x = build(wake, "residual", "lif", static=kind is InputKind.CONSTANT)
    known = DeploymentContext(target, len(x), kind)
    activity = Simulator(lower(network, known, "exact"))(x).activity
    terms = estimate(target, activity, None, len(x)).terms
    _, counts = network(x, SynopCounter(kind))
    found = EnergyMeter(network, known).use(counts, x.shape[1], len(x))
    assert found.synops.item() == pytest.approx(sum(layer.synops for layer in activity), rel=1e-9)
    expected = sum(terms.get(name) or 0.0 for name in ("synops", "updates", "encoder", "static"))
    assert found.energy.item() == pytest.approx(expected, rel=1e-9, abs=0)


def test_fewer_time_steps_are_extrapolated(wake):
    network, x = build(wake, "stride", "lif", static=True)
    known = context(10, graded=True, target="loihi")
    _, counts = network(x, SynopCounter(InputKind.CONSTANT))
    half = EnergyMeter(network, known).use(counts, x.shape[1], 5)
    assert half.synops.item() == pytest.approx(2 * counts[1:].sum().item() / x.shape[1])


def test_the_reference_is_one_spike_of_every_neuron():
    """The synapses of a network without zeros: those of its program."""
    for name in NETWORKS:
        network = NETWORKS[name]((2, 12, 12), 5).eval()
        program = lower(network, context(3))
        expected = 0
        for projection in program.projections:
            fan = program.fan_out(projection).sum().item()
            expected += fan / projection.pool**2 if projection.pool_kind == "max" else fan
        assert single_spike_synops(network, graded=False) == expected, name
        first = program.fan_out(program.projections[0]).sum().item()
        assert single_spike_synops(network, graded=True) == expected - first


def test_gradient_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    network = Network(
        {
            "a": Block(torch.nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron=IF(4), pool=2),
            "b": Block(torch.nn.Linear(64, 3, bias=False)),
        },
        (1, 8, 8),
    )
    for _, layer in network.named_synapses():
        torch.nn.utils.parametrize.register_parametrization(layer, "weight", Codebook(layer.weight.detach(), 3))
    x = (torch.rand(4, 2, 1, 8, 8) < 0.5).float()
    gradients = []
    for network.gradient_checkpointing in (False, True):
        network.zero_grad()
        _, counts = network(x, SynopCounter(InputKind.SPIKES, frozenset(["a", "b"])))
        counts.sum().backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    assert all((gradient != 0).any() for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])
