"""Lowering to a chip's integers: units, ranges, and refused networks."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.joules import joules

from spikefit.deploy.deployment import Deployment, require_structure
from spikefit.errors import ConfigurationError, TargetError
from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP, ConvSNN, ResidualSNN
from spikefit.networks.blocks import IdentitySkip
from spikefit.neurons import IF, LIF, LinearLeakIF
from spikefit.program.bundle import differences
from spikefit.program.emulation import Emulator
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.program.simulate import Simulator
from spikefit.prune import compact, unit_groups
from spikefit.prune.groups import set_alive
from spikefit.quantize import AxonCodebook, Codebook, RescaledUniform, Ternary, Uniform
from spikefit.quantize.base import attach, latent_weight


def network(wake, cls=ConvSNN, neuron=LIF, quantizer=Codebook, **options):
    torch.manual_seed(1)
    net = cls((1, 8, 8), 4, neuron=partial(neuron, reset="zero"), **options)
    for _, layer in net.named_synapses() if quantizer else ():
        attach(layer, quantizer(layer.weight.detach()))
    x = (torch.rand(4, 8, 1, 8, 8) < 0.4).float()
    return wake(net, x), x


@pytest.mark.parametrize("chip", ["loihi", "truenorth", "speck2f"])
@pytest.mark.parametrize("quantizer", [Codebook, None])
def test_integers_times_unit_are_the_real_constants(wake, chip, quantizer):
    """Half a unit (or half a register step) is all that rounding may cost; codebook weights lose nothing."""
    target = HardwareTarget.load(chip)
    neuron = LIF if chip == "loihi" else LinearLeakIF
    readout = "membrane" if chip == "loihi" else "spikes"
    net, x = network(wake, neuron=neuron, quantizer=quantizer, channels=(4, 6), hidden=(8,), readout=readout)
    exact = lower(net, context(len(x)))
    program = lower(net, context(len(x), target=target), "target")
    assert program.target == chip
    for real, integer in zip(exact.projections, program.projections, strict=True):
        unit = program.population(integer.target).unit.view(-1, *[1] * (integer.weight.dim() - 1))
        error = (integer.weight * unit - real.weight).abs()
        allowed = 1e-6 * real.weight.abs().max() if quantizer else 0.51 * (unit * 2**integer.exponent).max()
        assert float(error.max()) <= float(allowed)
        assert int(integer.weight.abs().max()) <= target.largest_weight(integer.bits) * 2**integer.exponent
    step = target.round_threshold(torch.tensor([1000.0]))
    step = int(target.round_threshold(step + 64.0) - step) if chip == "loihi" else 1
    for real, integer in zip(exact.populations[1:], program.populations[1:], strict=True):
        if integer.threshold is not None:
            error = (integer.threshold * integer.unit - real.threshold).abs()
            assert (error <= (0.5 * step + 1) * integer.unit).all()


def test_a_codebook_keeps_its_number_of_values_and_its_width(wake):
    net, x = network(wake, quantizer=partial(Codebook, levels=3, bits=4))
    program = lower(net, context(len(x), target="loihi"), "target")
    for projection in program.projections:
        assert len(projection.weight.unique()) <= 3
        assert projection.bits == 4
        assert (projection.weight % 2**projection.exponent == 0).all()


def test_a_shortcut_shares_the_unit_of_its_block(wake):
    net, x = network(wake, ResidualSNN, channels=(4, 6), neuron=IF, readout="spikes")
    target = HardwareTarget.load("speck2f")
    program = lower(net, context(len(x), target=target), "target")
    exact = lower(net, context(len(x)))
    for name in ("stage1_1b.skip", "stage2_1b.skip"):
        integer = next(p for p in program.projections if p.name == name)
        real = next(p for p in exact.projections if p.name == name)
        unit = program.population(integer.target).unit
        assert ((integer.weight * unit.view(-1, 1, 1, 1) - real.weight).abs() <= 0.5 * unit.max()).all()


def test_decay_is_rounded_to_the_register(wake):
    net, x = network(wake, MLP, neuron=partial(LIF, decay=0.3), hidden=(5,))
    program = lower(net, context(len(x), target="loihi"), "target")
    assert program.population("fc1").leak.tolist() == [round(0.7 * 4096)] * 5


def test_target_precision_needs_a_target(wake):
    net, _ = network(wake, MLP)
    with pytest.raises(ConfigurationError, match="hardware: no chip is named"):
        lower(net, context(4), "target")
    with pytest.raises(ConfigurationError, match="precision"):
        lower(net, context(4), "float8")


def test_lowering_does_not_change_the_network(wake):
    net, _ = network(wake)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    lower(net, context(4, target="loihi"), "target")
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_the_refusal_lists_everything_that_the_chip_lacks(wake):
    net, _ = network(wake, pool_kind="max")
    with pytest.raises(TargetError) as caught:
        require_structure(net, context(4, target="truenorth"))
    for words in ("truenorth", "neuron model", "use IF or LinearLeakIF", "pooling", "average", "readout", "spiking"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("neuron", "norm", "refused"),
    [
        (LinearLeakIF, "batch", True),
        (LinearLeakIF, "gain", False),
        (partial(LinearLeakIF, leak_per_step=0.0), "batch", False),
        (IF, "batch", False),
    ],
)
def test_biases_that_training_adds_are_refused_before_it(neuron, norm, refused):
    """The biases of an untrained batch norm are 0: the network only stops fitting once it is trained."""
    neuron = partial(neuron, reset="zero")
    net = ConvSNN((1, 8, 8), 10, (4,), (8,), neuron=neuron, readout="spikes", norm=norm).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    require_structure(net, context(4, target="truenorth"))
    with nullcontext() if not refused else pytest.raises(TargetError, match="bias and leak in one register") as caught:
        require_structure(net, context(4, target="truenorth"), training=True)
    if refused:
        assert "conv1" in str(caught.value)
        assert "norm gain" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_small_network_fits_loihi_and_its_report_adds_up(wake):
    net, x = network(wake, channels=(4, 6), hidden=(8,))
    target = HardwareTarget.load("loihi")
    deployment = Deployment(net, context(len(x), target=target), parity_samples=3)
    labels = torch.zeros(8, dtype=torch.int64)
    with torch.no_grad():
        logits = net.logits(net(x))
    deployment.update(x[:, :5], labels[:5], logits[:5])
    deployment.update(x[:, 5:], labels[5:], logits[5:])
    report = deployment.report()
    assert report.samples == 8
    assert report.fits is True
    assert check(target, deployment.program) == []
    assert report.synops_per_inference == pytest.approx(sum(layer.synops for layer in report.layers))
    assert report.synapses == sum(layer.synapses for layer in report.layers)
    synop = 23.6e-12 * report.synops_per_inference
    update = 81e-12 * report.neurons * 4
    assert report.energy.terms_j["synops"] == joules(synop)
    assert report.energy.terms_j["updates"] == joules(update)
    hops = report.energy.terms_j["hops"]
    assert hops == joules(deployment.placement.hops_per_spike * report.spikes_per_inference * 3e-12)
    assert hops > 0
    assert report.energy_per_inference_j == joules(synop + update + hops)
    assert "static" in report.energy.unknown
    assert "hops" not in report.energy.unknown
    assert report.parity.compared == 3 * 4 * (4 * 64 + 6 * 16 + 8)
    assert report.parity.mismatches == 0


@pytest.mark.parametrize("chip", ["loihi", "truenorth", "generic"])
def test_what_is_dead_has_no_say_in_common_units(wake, chip):
    """The program of a network with dead units is that of the smaller network without them."""
    reset = partial(IF, reset="zero")
    net = ResidualSNN((2, 8, 8), 5, (8, 10), neuron=reset, readout="spikes")
    for _, layer in net.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), bits=4, scope="channel"))
    wake(net, (torch.rand(4, 6, 2, 8, 8) < 0.5).float())
    with torch.no_grad():
        for index, group in enumerate(unit_groups(net)):
            alive = torch.ones(group.units, dtype=torch.bool)
            alive[[index % 3, 4]] = False
            set_alive(net, group, alive)
            for name in group.blocks:  # what the dead would ask for is out of all proportion
                block = net.block(name)
                block.norm.weight[~alive] = 1e-2
                block.norm.bias[~alive] = 50.0
                latent_weight(block.synapses)[~alive] *= 100
    where = context(4, target=chip)
    assert differences(lower(net, where, "target"), lower(compact(net), where, "target")) == []


@pytest.mark.parametrize(
    "quantizer",
    [
        None,
        Codebook,
        Uniform,
        Ternary,
        RescaledUniform,
        partial(RescaledUniform, bits=4, scope="channel"),
        AxonCodebook,
    ],
)
@pytest.mark.parametrize("chip", ["loihi", "generic", "spinnaker"])
def test_a_layer_without_a_weight_still_has_constants(chip, quantizer):
    """Its neurons fire by the bias of their norm: threshold and bias keep their proportion, and a few digits."""
    torch.manual_seed(0)
    net = MLP((6,), 3, hidden=(8, 5), neuron=IF).eval()
    net.block("fc2").synapses.weight.data.zero_()
    net.block("fc2").norm.bias.data.fill_(0.6)
    for _, layer in net.named_synapses():
        if quantizer is not None:
            attach(layer, quantizer(layer.weight.detach()))
    x = (torch.rand(4, 7, 6) > 0.5).float()
    where = context(4, target=chip)
    program = lower(net, where, "target")
    fc2 = program.population("fc2")
    expected = (net.block("fc2").neuron.threshold / net.block("fc2").norm.folded()[0]).detach().mean() / 0.6
    assert float(fc2.threshold.double().mean() / fc2.bias.double().mean()) == pytest.approx(float(expected), rel=0.03)
    net.emulation = Emulator(where)
    result = compare(net, program, x, tolerance=None)
    assert result.mismatches == 0
    assert Simulator(program)(x, record=True).spikes["fc2"].any()


def test_dead_units_that_an_identity_shortcut_joins_must_agree():
    net = ResidualSNN((1, 8, 8), 2, channels=(4,), neuron=IF).eval()
    name = next(name for name, block in net.named_blocks() if isinstance(block.skip, IdentitySkip))
    net.block(name).neuron.alive[0] = False
    with pytest.raises(ConfigurationError, match=f"block {name}: its dead units differ from those of"):
        lower(net, context(4))


@pytest.mark.parametrize("precision", ["exact", "target"])
def test_weights_of_a_training_that_diverged_are_named(precision):
    net = MLP((6,), 3, hidden=(8,), neuron=IF).eval()
    for _, layer in net.named_synapses():
        attach(layer, RescaledUniform(layer.weight.detach()))
    latent_weight(net.block("fc1").synapses).data[0, 0] = torch.nan
    with pytest.raises(ConfigurationError, match="layer fc1: its weights are not finite"):
        lower(net, context(4, target="loihi"), precision)
