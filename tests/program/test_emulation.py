"""A network that emulates a chip fires as its program does on that chip, and can still be trained."""

import copy
from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.spiking_networks import NETWORKS, build

from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.target import HardwareTarget, available_targets
from spikefit.input_kind import InputKind
from spikefit.networks import MLP, ConvSNN
from spikefit.neurons import IF, CubaLIF
from spikefit.program.emulation import Emulator
from spikefit.program.fold import fold
from spikefit.program.lower import lower
from spikefit.program.parity import compare
from spikefit.program.simulate import Simulator
from spikefit.quantize import Codebook, Uniform
from spikefit.quantize.base import attach, latent_weight


def emulated(net, target, static):
    net.emulation = Emulator(context(5, static, target))
    return net


def agrees(net, x, target, static):
    """Every spike and every logit of the network in float32 equals those of the lowered program."""
    program = lower(net, context(len(x), static, target=target), "target")
    result = compare(net, program, x, tolerance=None)
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
    before = compare(net, lower(net, context(len(x), static)), x)
    assert agrees(emulated(net, target, static), x, target, static).compared > 1000
    assert compare(net, lower(net, context(len(x), static)), x) == before, "the exact program is the network's own"


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
    exact = compare(net, lower(net, context(len(x), static)), x)
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
    program = lower(net, context(len(x), target=coarse()), "target")
    assert compare(net, program, x, tolerance=None).agreement < 1


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
    net.emulation = Emulator(context(5, target=target))
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
    program = lower(net.eval(), context(len(x), target=target), "target")
    result = compare(net, program, x, tolerance=None)
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
    for emulation in (None, Emulator(context(5, target=fine))):
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
    emulation = Emulator.from_state_dict(Emulator(context(4, True, target)).state_dict())
    assert emulation.context == context(4, True, target)


KINDS = {
    InputKind.SPIKES: lambda: (torch.rand(5, 6, 2, 12, 12) < 0.4).float(),
    InputKind.COUNTS: lambda: torch.poisson(torch.full((5, 6, 2, 12, 12), 1.5)) * 9,  # beyond what Xylo takes
    InputKind.GRADED: lambda: torch.randn(5, 6, 2, 12, 12) * 3,  # beyond the range of most chips
    InputKind.CONSTANT: lambda: torch.rand(1, 6, 2, 12, 12).expand(5, -1, -1, -1, -1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chip", [name for name in available_targets() if name != "akida_akd1000"])
def test_every_kind_of_input_on_every_chip(wake, chip, kind):
    """Akida has no integrate-and-fire neurons; all others run one of these networks."""
    torch.manual_seed(0)
    if chip.startswith("xylo"):
        net = MLP((2, 12, 12), 5, (12, 10), neuron=partial(CubaLIF, max_spikes=31), readout="spikes", norm="gain")
    else:
        net = ConvSNN((2, 12, 12), 5, (6, 8), (10,), neuron=partial(IF, reset="zero"), readout="spikes")
    for _, layer in net.named_synapses():
        attach(layer, Codebook(layer.weight.detach(), bits=4))
    x = KINDS[kind]()
    net, where = wake(net, x), DeploymentContext(HardwareTarget.load(chip), 5, kind)
    assert compare(net, lower(net, where), x).mismatches == 0
    net.emulation = Emulator(where)
    program = lower(net, where, "target")
    result = compare(net, program, x, tolerance=None)
    assert result.mismatches + result.ties == 0
    assert result.compared > 500
    assert any(bool(spikes.any()) for spikes in Simulator(program)(x, record=True).spikes.values())
    with torch.no_grad():
        assert torch.equal(net.logits(net(x)).double(), Simulator(program)(x).logits)


def test_a_training_step_neither_copies_the_network_nor_lowers_it(wake, monkeypatch):
    net, x = build(wake, "residual", "lif", "zero")
    net.emulation = Emulator(context(5, target="loihi"))

    def refuse(*_, **__):
        raise AssertionError("a copy of the network, or another lowering, in a training step")

    net.train()
    with monkeypatch.context() as patch:
        patch.setattr(copy, "deepcopy", refuse)
        patch.setattr("spikefit.program.lower.lower", refuse)
        torch.nn.functional.cross_entropy(net.logits(net(x)), torch.arange(x.shape[1]) % 5).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_what_has_not_changed_is_not_folded_anew(wake, monkeypatch):
    net, x = build(wake, "conv", "lif", "zero")
    net.emulation, folds = Emulator(context(5, target="loihi")), []
    monkeypatch.setattr("spikefit.program.emulation.fold", lambda *args: folds.append(1) or fold(*args))
    with torch.no_grad():
        first = net(x)
        assert torch.equal(net(x), first)
        assert len(folds) == 1
        net.block("conv1").norm.bias.add_(0.5)
        assert not torch.equal(net(x), first)
        assert len(folds) == 2
        net.block("conv2").neuron.alive[0] = False
        net(x)
        assert len(folds) == 3
    net(x)
    assert len(folds) == 4, "a gradient needs a fold of its own"


def test_a_shortcut_has_an_exponent_of_its_own(wake):
    """The weights of the main path are small where a shortcut's is 1: Loihi shifts each as it needs."""
    net, x = build(wake, "residual", "lif", "zero", quantizer=partial(Codebook, bits=8))
    program = lower(net, context(len(x), target="loihi"), "target")
    shortcuts = [projection for projection in program.projections if projection.name.endswith(".skip")]
    assert shortcuts
    for projection in shortcuts:
        main = next(p for p in program.projections if p.name == projection.target)
        assert projection.exponent != main.exponent
        assert int(projection.weight.abs().max()) <= 127 * 2**projection.exponent
        assert bool((projection.weight % 2**projection.exponent == 0).all())
    assert [f for f in check(HardwareTarget.load("loihi"), program) if f.limit.startswith("weight")] == []


@pytest.mark.parametrize("change", ["data", "threshold"])
def test_a_change_that_torch_does_not_count_is_seen_at_the_next_evaluation(wake, change):
    """Averaged weights come in through ``.data``, before the validation begins."""
    net, x = build(wake, "conv", "if")
    emulated(net, "loihi", False)
    with torch.no_grad():
        before = net(x)
    if change == "data":
        latent_weight(net.block("conv1").synapses).data.mul_(-1)
    else:
        net.block("conv1").neuron.threshold *= 3
    agrees(net.eval(), x, "loihi", False)
    with torch.no_grad():
        assert not torch.equal(net(x), before)


def test_logits_are_those_of_the_simulator_for_any_number_of_steps(wake):
    """The mean of equal numbers is one of them: nothing is rounded twice."""
    torch.manual_seed(0)
    for steps in (3, 7, 11, 20):
        net = MLP((6,), 3, hidden=(8,), neuron=IF).eval()
        x = (torch.rand(steps, 9, 6) > 0.4).float()
        agrees(emulated(net, "loihi", False), x, "loihi", False)
