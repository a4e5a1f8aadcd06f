"""Costs of units, compared with lowering the network before and after a unit is removed."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.deployment_contexts import context
from torch import nn

from spikefit.deploy.unit_cost import CoreCost, EnergyCost, SynapseCost, cores_by_population
from spikefit.errors import ConfigurationError, TargetError
from spikefit.functional.fan_out import count_synops
from spikefit.hardware.energy import estimate
from spikefit.hardware.placement import place
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import Block, ConvSNN, IdentitySkip, Network, ResidualSNN
from spikefit.neurons import IF
from spikefit.program.lower import lower
from spikefit.program.simulate import Simulator, pool
from spikefit.prune import live_synapses, unit_groups
from spikefit.prune.groups import alive_units, set_alive
from spikefit.prune.resources import alive_by_block, energy, map_shapes, measure_traffic, neurons, synapses
from spikefit.prune.synapse_mask import attach_mask
from spikefit.quantize import Codebook, Ternary
from spikefit.quantize.base import attach

STEPS, LOIHI = 3, HardwareTarget.load("loihi")


def tied():
    """``c`` reads ``a`` through a convolution and a shortcut: both ends of its synapses may be one unit."""
    conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
    blocks = {
        "a": Block(conv(2, 4), neuron=IF(4)),
        "c": Block(conv(4, 4), neuron=IF(4), skip=IdentitySkip(0.5), skip_from="a"),
        "out": Block(nn.Linear(4 * 81, 3, bias=False)),
    }
    return Network(blocks, (2, 9, 9))


def grouped():
    blocks = {
        "a": Block(nn.Conv2d(2, 4, 3, bias=False), neuron=IF(4), pool=2),
        "b": Block(nn.Conv2d(4, 6, 2, stride=2, padding=1, dilation=2, groups=2, bias=False), neuron=IF(6)),
        "out": Block(nn.Linear(6 * 4, 3, bias=False)),
    }
    return Network(blocks, (2, 10, 10))


def depthwise():
    """``a`` and ``b`` are tied: channel k of ``b`` reads channel k of ``a``."""
    blocks = {
        "a": Block(nn.Conv2d(2, 4, 3, bias=False), neuron=IF(4), pool=2),
        "b": Block(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), neuron=IF(4)),
        "c": Block(nn.Conv2d(4, 5, 1, bias=False), neuron=IF(5)),
        "out": Block(nn.Linear(5 * 16, 3, bias=False)),
    }
    return Network(blocks, (2, 10, 10))


NETWORKS = {
    "average pool of 3": partial(ConvSNN, (2, 9, 9), 3, (4, 5), (6,), pool=3),
    "max pool": partial(ConvSNN, (2, 9, 9), 3, (4, 5), (6,), pool_kind="max", readout="spikes"),
    "stride": partial(ConvSNN, (2, 9, 9), 3, (4, 5), (6,), kernel=2, stride=2, pool=1),
    "residual": partial(ResidualSNN, (2, 9, 9), 3, channels=(4, 5), depth=2, stem_pool=2),
    "tied": tied,
    "grouped": grouped,
    "depthwise": depthwise,
}


def build(name, wake, masks=True):
    """A network that fires, with ternary zeros, pruned synapses and (where compact can) dead units."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    x = (torch.rand(STEPS, 5, *network.input_shape) < 0.6).float()
    for _, layer in network.named_synapses():
        attach(layer, Ternary(layer.weight.detach()))
        if masks:
            attach_mask(layer).live.copy_(torch.rand(layer.weight.shape) < 0.8)
    wake(network, x)
    if name != "grouped":
        for group in unit_groups(network):
            set_alive(network, group, torch.arange(group.units) != 1)
    return network.double(), x.double()


def never_subtracts(units):
    return IF(units, reset="zero")


def program_synapses(network):
    program = lower(network, context(STEPS))
    return sum(program.synapses(projection) for projection in program.projections)


def without(network, group, unit):
    """A copy whose ``unit`` is gone: dead, or for a grouped convolution with its weights set to zero."""
    gone = copy.deepcopy(network)
    alive = alive_units(gone, group).clone()
    alive[unit] = False
    set_alive(gone, group, alive)
    if any(1 < getattr(layer, "groups", 1) < len(layer.weight) for _, layer in gone.named_synapses()):
        live = {name: live_synapses(gone, name) for name, _ in gone.named_synapses()}
        for name, layer in gone.named_synapses():
            layer.parametrizations.weight[1].live.copy_(live[name])
        set_alive(gone, group, torch.ones_like(alive))
    return gone


@pytest.mark.parametrize("name", NETWORKS)
def test_synapses_and_neurons_are_those_of_the_lowered_program(wake, name):
    network, _ = build(name, wake)
    alive = alive_by_block(network)
    program = lower(network, context(STEPS))
    assert synapses(network).total(alive) == program_synapses(network)
    assert neurons(network).total(alive) == program.neurons
    shapes = map_shapes(network)
    for population in program.populations:
        assert shapes[population.name][1:] == population.shape[1:]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_synapses_of_a_unit_are_those_that_go_with_it(wake, name):
    network, _ = build(name, wake)
    before, costs = program_synapses(network), SynapseCost().per_unit(network, [], context(STEPS))
    for group in unit_groups(network):
        for unit in (0, 1, group.units - 1):
            if alive_units(network, group)[unit]:
                assert costs[group.name][unit] == before - program_synapses(without(network, group, unit)), group
            else:
                assert costs[group.name][unit] == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_stands_for_its_synapses(wake, name):
    network, _ = build(name, wake)
    by_weight, before = synapses(network).by_weight, program_synapses(network)
    for layer_name, layer in network.named_synapses():
        live = live_synapses(network, layer_name)
        for place_ in (live & (layer.weight != 0)).nonzero()[3::40][:3]:
            gone = copy.deepcopy(network)
            dict(gone.named_synapses())[layer_name].parametrizations.weight[1].live[tuple(place_)] = False
            assert by_weight[layer_name][tuple(place_)] == before - program_synapses(gone)


def energy_of(program, spikes, samples, graded):
    """By the count formula, from spikes ``{population: [T, B, ...]}``: synops of spikes, and updates."""
    synops = 0.0
    for projection in program.projections:
        sent = spikes[projection.source]
        if graded and projection.source == "input":
            continue
        if projection.pool_kind == "max" and projection.pool > 1:
            sent = pool(sent.flatten(0, 1), projection).unflatten(0, sent.shape[:2])
            single = replace(projection, pool=1)
            fan_out = single.fan_out(projection.pooled_shape(program.population(projection.source).shape))
        else:
            fan_out = program.fan_out(projection)
        synops += float(count_synops(sent, fan_out).sum()) / samples
    return 23.6e-12 * synops + 81e-12 * program.neurons * STEPS


@pytest.mark.parametrize("graded", [False, True], ids=["spikes", "image"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "grouped"])
def test_energy_is_that_of_the_recorded_spikes(wake, name, graded):
    """Before, as a simulation estimates it; after, by the formula on the same spikes without those of the unit."""
    network, x = build(name, wake)
    if graded:
        x = torch.rand(1, *x.shape[1:], dtype=torch.float64).expand_as(x)
    batches = [(x[:, :2], torch.zeros(2)), (x[:, 2:], torch.zeros(3))]
    use = energy(network, LOIHI, measure_traffic(network, batches, InputKind.CONSTANT if graded else InputKind.SPIKES))
    program = lower(network, context(STEPS, graded))
    simulation = Simulator(program)(x, record=True)
    simulated = estimate(LOIHI, simulation.activity, None, STEPS)
    before = simulated.terms["synops"] + simulated.terms["updates"]
    assert use.total(alive_by_block(network)) == pytest.approx(before, rel=1e-9)
    spikes = {"input": x, **simulation.spikes}
    assert energy_of(program, spikes, x.shape[1], graded) == pytest.approx(before, rel=1e-9)
    costs = EnergyCost(2).per_unit(network, batches, context(STEPS, graded, LOIHI))
    for group in unit_groups(network):
        living = alive_units(network, group).nonzero().flatten().tolist()
        for position, unit in list(enumerate(living))[-2:]:
            rest = [place_ for place_ in range(len(living)) if place_ != position]
            held = {name: s[:, :, rest] if name in group.blocks else s for name, s in spikes.items()}
            smaller = lower(without(network, group, unit), context(STEPS, graded))
            after = energy_of(smaller, held, x.shape[1], graded)
            assert float(costs[group.name][unit]) == pytest.approx(before - after, rel=1e-6)


def test_an_image_that_the_chip_multiplies_costs_its_multiplications(wake):
    content = LOIHI.to_dict()
    content["layers"]["graded_input"]["value"] = "chip"
    content["energy"]["encoder_mac_j"]["value"] = 1e-9
    target = HardwareTarget.from_dict(content, "multiplies")
    network, x = build("stride", wake)
    image = torch.rand(1, *x.shape[1:], dtype=torch.float64).expand_as(x)
    found = measure_traffic(network, [(image, torch.zeros(5))], InputKind.CONSTANT)
    activity = Simulator(lower(network, context(STEPS, True)))(image).activity
    encoder = 1e-9 * sum(layer.macs for layer in activity)
    assert encoder > 0
    alive = alive_by_block(network)
    difference = energy(network, target, found).total(alive) - energy(network, LOIHI, found).total(alive)
    assert difference == pytest.approx(encoder)
    content["energy"]["encoder_mac_j"]["value"] = None
    with pytest.raises(TargetError, match="encoder_mac_j is unknown"):
        energy(network, HardwareTarget.from_dict(content, "multiplies"), found)


def test_static_power_is_there_whatever_lives(wake):
    content = LOIHI.to_dict()
    for constant, value in (("static_w", 2.0), ("time_step_s", 0.5)):
        content["energy"][constant] = {"value": value, "source": "invented", "confidence": "D"}
    network, x = build("stride", wake)
    found, alive = measure_traffic(network, [(x, torch.zeros(5))], InputKind.SPIKES), alive_by_block(network)
    with_power = energy(network, HardwareTarget.from_dict(content, "warm"), found)
    assert with_power.fixed == 2.0 * 0.5 * STEPS
    assert with_power.total(alive) == pytest.approx(energy(network, LOIHI, found).total(alive) + with_power.fixed)


def test_an_energy_without_known_constants_is_refused():
    with pytest.raises(TargetError, match=r"speck2f: energy\.synop_j is unknown"):
        EnergyCost().require(context(STEPS, target="speck2f"))
    with pytest.raises(ConfigurationError, match="hardware: no chip is named"):
        CoreCost().require(context(STEPS))


def test_rates_need_a_batch(wake):
    network, _ = build("stride", wake)
    with pytest.raises(ValueError, match="got no batch"):
        EnergyCost().per_unit(network, [], context(STEPS, target=LOIHI))


def small_cores(**limits):
    content = LOIHI.to_dict()
    for name, value in limits.items():
        content["limits"][name]["value"] = value
    return HardwareTarget.from_dict(content, "small")


def test_a_core_is_freed_by_as_many_units_as_fill_it(wake, monkeypatch):
    """4 + 4 units of 9 x 9 places on cores of 162 neurons: two units are a core."""
    torch.manual_seed(0)
    network = ConvSNN((2, 9, 9), 3, (4, 6), (8,), pool=1, neuron=never_subtracts)
    for _, layer in network.named_synapses():
        attach(layer, Codebook(layer.weight.detach()))
    network.eval()
    target = small_cores(neurons_per_core=162)
    monkeypatch.setattr(HardwareTarget, "load", lambda name: target)
    batches = [(torch.ones(STEPS, 2, 2, 9, 9), torch.zeros(2))]
    costs = CoreCost().per_unit(network, batches, context(STEPS, target=target))
    assert costs["conv1"].tolist() == [0.5] * 4
    assert costs["conv2"].tolist() == [0.5] * 6
    assert costs["fc1"].tolist() == [1 / 8] * 8

    def cores():
        return place(target, lower(network, context(STEPS, target=target), "target")).cores_used

    before = cores()
    network.block("conv2").neuron.alive[:2] = False
    assert before - cores() == sum(costs["conv2"][:2])
    assert CoreCost().per_unit(network, batches, context(STEPS, target=target))["conv2"][2:].tolist() == [0.5] * 4


def test_tied_units_take_cores_in_every_block(wake):
    torch.manual_seed(0)
    network = tied().eval()
    (group,) = unit_groups(network)
    cost = CoreCost().per_unit(network, [], context(STEPS, target=LOIHI))
    program = lower(network, context(STEPS, target=LOIHI), "target")
    cores = cores_by_population(LOIHI, program, place(LOIHI, program))
    assert cores["a"] + cores["c"] == len([c for c in place(LOIHI, program).cores if c.populations[0] in "ac"])
    assert cost[group.name].tolist() == pytest.approx([(cores["a"] + cores["c"]) / 4] * 4)


def test_a_population_that_does_not_fit_counts_what_its_neurons_fill():
    torch.manual_seed(0)
    network = ConvSNN((2, 9, 9), 3, (4,), (8,), pool=1, neuron=never_subtracts).eval()
    target = small_cores(axons_in_per_core=100, neurons_per_core=3)
    program = lower(network, context(STEPS, target=target), "target")
    placement = place(target, program)
    assert placement.unplaced == ("fc1",)
    assert cores_by_population(target, program, placement)["fc1"] == 3  # 8 neurons
