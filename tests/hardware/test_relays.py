"""Relays on crossbar chips: their number, operations, ticks and energy, compared with a walk along every path."""

import itertools
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from helpers.deployment_contexts import context
from helpers.joules import joules
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.deploy.deployment import Deployment
from spikefit.deploy.report import Report
from spikefit.deploy.report.html import render
from spikefit.deploy.report.logger_values import scalars
from spikefit.deploy.report.terminal import summary
from spikefit.hardware.energy import estimate
from spikefit.hardware.placement import place
from spikefit.hardware.placement.relays import ticks_to_output
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget
from spikefit.networks import MLP
from spikefit.neurons import IF
from spikefit.program.ir import Program, Projection
from spikefit.program.simulate import Simulator
from spikefit.quantize import AxonCodebook
from spikefit.quantize.base import attach

TRUENORTH = HardwareTarget.load("truenorth")
FIRES: dict[str, Any] = {"reset": "zero"}


def shrunk(size: int, reach: int | None = 1, **energy: float) -> HardwareTarget:
    figures = {"neurons_per_core": size, "axons_in_per_core": size, "axons_out_per_neuron": reach}
    limits = {name: SourcedValue(value, "test", "D") for name, value in figures.items()}
    constants = {name: SourcedValue(value, "test", "D") for name, value in energy.items()}
    return replace(
        TRUENORTH,
        limits=replace(TRUENORTH.limits, **limits),
        energy=replace(TRUENORTH.energy, **constants),
    )


def destinations(program: Program, target: HardwareTarget, matrix) -> dict[tuple[str, int], int]:
    """Axons that each neuron sends to: one for each core, and for each distinct value that it has there."""
    found: dict[tuple[str, int], int] = defaultdict(int)
    for core in place(target, program, hops=False).cores:
        for part in core.parts:
            for projection in program.inputs_of(part.population):
                onto_core = matrix(program, projection)[torch.from_numpy(part.neurons)]
                for source, column in enumerate(onto_core.T):
                    found[projection.source, source] += len(set(column.tolist()) - {0})
    return found


def walk(leaves: int, size: int, reach: int) -> tuple[int, int]:
    """Relays that one spike visits, and the ticks that it spends there: the tree is built node by node."""
    nodes: list[Any] = ["axon"] * leaves
    while len(nodes) > reach:
        relays = [("relay", nodes[start : start + reach]) for start in range(0, len(nodes), reach)]
        nodes = [("row", relays[start : start + size]) for start in range(0, len(relays), size)]

    def visit(node: Any) -> tuple[int, int]:
        if node == "axon":
            return 0, 0
        kind, below = node
        relays, ticks = zip(*map(visit, below), strict=True)
        return sum(relays) + (kind == "relay"), max(ticks) + (kind == "relay")

    found = [visit(node) for node in nodes]
    return sum(relays for relays, _ in found), max((ticks for _, ticks in found), default=0)


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.sampled_from([(4, 1), (6, 1), (12, 1), (5, 2), (4, 3)]),
    st.booleans(),
    st.integers(0, 2**16),
)
@settings(max_examples=12, deadline=None)
def test_every_spike_is_walked_through_its_relays(chain, matrix, sizes, core, conv, seed):
    (size, reach), generator = core, torch.Generator().manual_seed(seed)

    def weights(*shape: int) -> torch.Tensor:
        return torch.tensor([0, 0, 0, 30, 70])[torch.randint(5, shape, generator=generator)]

    inputs: tuple[int, ...] = (3,)
    layers = [(weights(after, before), {}, FIRES) for before, after in itertools.pairwise([3, *sizes])]
    if conv:  # 2 maps of 4 x 4, pooled to 2 x 2 before the first dense layer
        inputs = (1, 4, 4)
        layers[0] = (weights(sizes[0], 2 * 2 * 2), {"pool": 2}, FIRES)
        layers.insert(0, (weights(2, 1, 1, 1), {}, FIRES))
    program, target = chain(inputs, *layers), shrunk(size, reach)
    placement = place(target, program, hops=False)
    simulation = Simulator(program)((torch.rand(6, 3, *inputs, generator=generator) < 0.6).float())
    recorded = Simulator(program)((torch.rand(1, 1, *inputs, generator=generator) < 0.5).float(), record=True)
    needed = destinations(program, target, matrix)
    trees = {neuron: walk(axons, size, reach) for neuron, axons in needed.items() if neuron[0] != "input"}
    assert placement.splitter_neurons == sum(relays for relays, _ in trees.values())
    assert placement.splitter_neurons == sum(core.splitters for core in placement.cores)
    by_hand = sum(
        float(simulation.fired[name].flatten()[neuron]) * relays for (name, neuron), (relays, _) in trees.items()
    )
    assert placement.relay_synops(simulation.fired) == by_hand
    depth = {p.name: max((t for (name, _), (_, t) in trees.items() if name == p.name), default=0)
             for p in program.populations}  # fmt: skip
    assert placement.relay_ticks == sum(depth[population.name] for population in program.populations[1:])
    assert placement.layer_ticks == len(layers) - 1
    fired = {name: spikes.sum(dim=(0, 1)).double() for name, spikes in recorded.spikes.items()}
    assert all(torch.equal(fired[name].flatten(), counts.flatten()) for name, counts in recorded.fired.items())


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_the_report_counts_relays_apart(wake, reach):
    """200 neurons fill 4 cores of 64: a spike of the 16 neurons before them has 4 destinations."""
    torch.manual_seed(0)
    net = MLP((1, 8, 8), 10, hidden=[16, 200], neuron=partial(IF, reset="zero"), readout="spikes")
    for _, layer in net.named_synapses():
        attach(layer, AxonCodebook(layer.weight.detach()))  # one axon a source
    inputs = (torch.rand(4, 8, 1, 8, 8) < 0.4).float()
    net, target = wake(net, inputs), shrunk(64, reach, update_j=1e-12, static_w=1.0, time_step_s=1e-3)
    target = replace(target, limits=replace(target.limits, axons_in_per_core=SourcedValue(256, "test", "D")))
    deployment = Deployment(net, context(4, target=target))
    for part in (slice(0, 5), slice(5, 8)):
        deployment.update(inputs[:, part], torch.zeros(8, dtype=torch.int64)[part], net.logits(net(inputs[:, part])))
    report, relays = deployment.report(), {1: 4, 2: 2, 4: 0}[reach]
    fc1, fc2, _ = report.layers
    assert fc1.spikes > 0
    assert fc2.spikes > 0
    assert report.cores.splitter_neurons == 16 * relays
    assert report.relay_synops_per_inference == pytest.approx(relays * fc1.spikes)
    ticks = 1 if relays else 0
    assert (report.cores.relay_ticks, report.cores.ticks_per_inference) == (ticks, 4 + 2 + ticks)
    assert report.energy.terms_j["relays"] == joules(26e-12 * relays * fc1.spikes + 1e-12 * 16 * relays * 4)
    assert report.energy.terms_j["static"] == joules(1e-3 * (4 + ticks))
    assert report.energy_per_inference_j == joules(sum(report.energy.terms_j.values()))
    assert report.energy.unknown == ()
    shown = dict(summary(report))
    if relays:
        assert (
            shown["synops of relays"]
            == f"{relays * fc1.spikes:,.0f} more per inference, by {16 * relays} relay neurons"
        )
        assert shown["latency"] == "7 ticks per inference, 1 of them for relays"
        assert f"{16 * relays} relay neurons" in render(report)
        assert "1 of them for relays" in render(report)
    numbers = scalars(report)
    assert numbers["deploy/relay_synops_per_inference"] == report.relay_synops_per_inference
    assert numbers["deploy/ticks_per_inference"] == 6 + ticks
    assert Report.from_json(report.to_json()) == report


def test_unknown_relays_are_unknown_and_not_zero(chain):
    """AltAI-1: nobody published how many axons a neuron sends to."""
    altai = HardwareTarget.load("altai1")
    weight = torch.ones(600, 16, dtype=torch.int64)
    program = chain((4,), (torch.ones(16, 4, dtype=torch.int64), {}, FIRES), (weight, {}, FIRES))
    placement, spikes = place(altai, program), {"l1": torch.ones(16), "l2": torch.ones(600)}
    assert (placement.splitter_neurons, placement.relay_ticks, placement.relay_synops(spikes)) == (None, None, None)
    activity = Simulator(program)(torch.ones(4, 1, 4)).activity
    assert "relays" in estimate(altai, activity, placement, 4, relay_synops=placement.relay_synops(spikes)).unknown
    alone = chain((4,), (torch.ones(16, 4, dtype=torch.int64), {}, FIRES))
    placement = place(altai, alone)
    assert (placement.splitter_neurons, placement.relay_ticks, placement.relay_synops(spikes)) == (0, 0, 0)


def test_the_longest_path_counts(chain):
    """l3 reads l2 and, through a shortcut, l1: the spikes of the shortcut wait."""
    one = torch.ones(1, 1, dtype=torch.int64)
    program = chain((1,), *[(one, {}, FIRES)] * 3)
    shortcut = Projection("l3.skip", "l1", "l3", "dense", one)
    program = replace(program, projections=(*program.projections, shortcut))
    assert ticks_to_output(program, {}) == 2
    assert ticks_to_output(program, {"l2": 3}) == 1 + 1 + 3
    assert ticks_to_output(program, {"l1": 2, "l2": 3, "l3": 9}) == (1 + 2) + (1 + 3)
