"""Placement on crossbars and synapse memories, compared with brute force."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.hardware.placement import Placement, place
from spikefit.hardware.placement.crossbar_cores import axon_types
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program, Projection
from spikefit.program.stored_weights import from_weights

LOIHI, SPECK, TRUENORTH = (HardwareTarget.load(name) for name in ("loihi", "speck2f", "truenorth"))
IF: dict[str, Any] = {}
ZERO: dict[str, Any] = {"reset": "zero"}


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.int64)


def shrunk(target: HardwareTarget, **limits: int) -> HardwareTarget:
    figures = {name: SourcedValue(value, "test", "D") for name, value in limits.items()}
    return replace(target, limits=replace(target.limits, **figures))


def used(placement: Placement, name: str) -> list[float]:
    return [core.utilisation[name] for core in placement.cores]


class TestCrossbar:
    def test_more_than_256_inputs_is_a_finding(self, chain):
        placement = place(TRUENORTH, chain((300,), (ones(10, 300), {}, IF)))
        (finding,) = placement.findings
        assert (finding.limit, finding.needed, finding.available) == ("fan-in (axons of a core)", 300, 256)
        assert (finding.where, finding.remedy) == ("l1", "prune 44 synapses of its densest neuron")
        assert placement.unplaced == ("l1",)

    def test_four_values_take_four_copies_of_each_axon(self, chain):
        # 64 inputs x 4 values: 256 axons, one core; a 65th input makes it two
        weight = torch.tensor([1, 2, 3, 4]).repeat_interleave(2).unsqueeze(1).expand(8, 64).contiguous()
        placement = place(TRUENORTH, chain((64,), (weight, {}, IF)))
        assert placement.cores_used == 1
        assert used(placement, "axons") == [1.0]
        assert placement.cores[0].synapses == 8 * 64
        wider = torch.cat([weight, weight[:, :1]], dim=1)
        assert place(TRUENORTH, chain((65,), (wider, {}, IF))).cores_used == 2

    def test_one_copy_where_each_source_uses_one_value(self, chain):
        # the value depends on the source alone, so 256 inputs fit with 4 values
        weight = (torch.arange(256) % 4 + 1).expand(10, 256).contiguous()
        placement = place(TRUENORTH, chain((256,), (weight, {}, IF)))
        assert (placement.cores_used, used(placement, "axons")) == (1, [1.0])

    def test_absent_synapses_take_no_axon(self, chain):
        weight = ones(10, 300)
        weight[:, 250:] = 0
        placement = place(TRUENORTH, chain((300,), (weight, {}, IF)))
        assert (placement.cores_used, used(placement, "axons")) == (1, [250 / 256])

    def test_values_of_each_neuron_share_types(self):
        # 3 values a neuron, 6 in all: with 4 types a neuron's own rank is the type
        rows = torch.tensor([[0, 1, 2, 3], [7, 5, 0, 9]])
        assert axon_types(from_weights(rows), 4).tolist() == [[0, 1, 2, 3], [2, 1, 0, 3]]
        assert axon_types(from_weights(rows), 8).tolist() == [[0, 1, 2, 3], [5, 4, 0, 6]]

    def test_conv_tile(self, chain):
        # 8 channels of 3 x 3 over 16 x 16: a tile of s x s sees (s + 2)**2 * 8 sources. s = 3 needs 200
        # axons and s = 4 would need 288. 16 rows in threes are 6 tiles a side; 16 filters x 9 = 144 neurons.
        placement = place(TRUENORTH, chain((8, 16, 16), (ones(16, 8, 3, 3), {"padding": (1, 1)}, IF)))
        assert placement.cores_used == 36
        corner, edge, inner = placement.cores[0], placement.cores[1], placement.cores[7]
        assert [len(core.parts[0].neurons) for core in (corner, edge, inner)] == [144, 144, 144]
        # padding has no neurons: 4 x 4 in the corner, 4 x 5 at the edge, 5 x 5 inside
        assert [core.utilisation["axons"] * 256 for core in (corner, edge, inner)] == [128, 160, 200]
        assert placement.lower_bound == 16 * 16 * 16 // 256
        assert sum(core.synapses for core in placement.cores) == 16 * 8 * (16 * 3 - 2) ** 2

    def test_pooling_widens_the_receptive_field(self, chain):
        # one tile of 2 x 2 after 2 x 2 pooling reads 4 x 4 pooled positions of 4 neurons, the whole map
        placement = place(TRUENORTH, chain((1, 8, 8), (ones(2, 1, 3, 3), {"pool": 2}, IF)))
        assert (placement.cores_used, used(placement, "axons")) == (1, [64 / 256])

    def test_splitters(self, chain):
        # 600 neurons fill 3 cores, so each of 16 sources drives 3 relays: 48 relays on 16 axons of one core
        placement = place(TRUENORTH, chain((4,), (ones(16, 4), {}, IF), (ones(600, 16), {}, IF)))
        assert placement.splitter_neurons == 48
        assert placement.cores_used == 1 + 3 + 1
        last = placement.cores[-1]
        assert (last.splitters, last.neurons, last.utilisation["axons"]) == (48, 0, 16 / 256)

    def test_inputs_need_no_splitters(self, chain):
        assert place(TRUENORTH, chain((16,), (ones(600, 16), {}, IF))).splitter_neurons == 0

    def test_splitter_tree(self, chain):
        # cores of 4: 40 neurons on 10 cores, so one source has 10 destinations. Relays: rows of 4, 4 and
        # 2 reach them, and a row of 3 reaches those rows.
        small = shrunk(TRUENORTH, neurons_per_core=4, axons_in_per_core=4)
        placement = place(small, chain((1,), (ones(1, 1), {}, IF), (ones(40, 1), {}, IF)))
        assert placement.splitter_neurons == 4 + 4 + 2 + 3
        assert placement.cores_used == 1 + 10 + 4

    def test_too_many_cores(self, chain):
        placement = place(shrunk(TRUENORTH, cores=2), chain((16,), (ones(600, 16), {}, IF)))
        (finding,) = placement.findings
        assert (finding.limit, finding.needed, finding.available) == ("cores", 3, 2)

    def test_encoder_on_the_host_takes_no_axons(self, chain):
        placement = place(TRUENORTH, chain((300,), (ones(10, 300), {}, IF), graded=True))
        assert (placement.findings, used(placement, "axons")) == ((), [0.0])


class TestMemory:
    def test_neurons_limit(self, chain):
        # 1500 neurons, reset to zero: 1024 + 476; with subtraction two compartments each: 512 + 512 + 476
        weight = ones(1500, 2)
        sizes = [core.neurons for core in place(LOIHI, chain((2,), (weight, {"bits": 8}, ZERO))).cores]
        assert sizes == [1024, 476]
        placement = place(LOIHI, chain((2,), (weight, {"bits": 8}, IF)))
        assert [core.neurons for core in placement.cores] == [512, 512, 476]
        assert placement.lower_bound == math.ceil(3000 / 1024) == 3

    @pytest.mark.parametrize(("bits", "cores"), [(8, 8), (4, 4), (2, 2)])
    def test_narrow_weights_save_cores(self, chain, bits, cores):
        # 512 x 2048 weights of 8 bits are 8 MiBit: 8 cores of 1 MiBit, which is the lower bound
        placement = place(LOIHI, chain((2048,), (ones(512, 2048), {"bits": bits}, ZERO)))
        assert placement.cores_used == placement.lower_bound == cores
        assert used(placement, "synapse memory") == [1.0] * cores

    def test_absent_synapses_take_no_memory(self, chain):
        weight = ones(512, 2048)
        weight[:, ::2] = 0
        placement = place(LOIHI, chain((2048,), (weight, {"bits": 8}, ZERO)))
        assert placement.cores_used == 4
        assert used(placement, "input axons") == [1024 / 4096] * 4

    def test_input_axons(self, chain):
        # 8192 sources, each with one neuron: 4 neurons have 2048 each, and a core takes 4096
        weight = torch.zeros(4, 8192, dtype=torch.int64)
        for row in range(4):
            weight[row, row * 2048 : (row + 1) * 2048] = 1
        placement = place(LOIHI, chain((8192,), (weight, {"bits": 8}, ZERO)))
        assert [core.neurons for core in placement.cores] == [2, 2]
        assert used(placement, "input axons") == [1.0, 1.0]

    def test_a_neuron_too_large_for_a_core(self, chain):
        placement = place(LOIHI, chain((5000,), (ones(4, 5000), {"bits": 8}, ZERO)))
        (finding,) = placement.findings
        assert (finding.limit, finding.needed, finding.remedy) == (
            "fan-in",
            5000,
            "prune 904 synapses of its densest neuron",
        )
        assert placement.unplaced == ("l1",)
        small = shrunk(LOIHI, synapse_bits_per_core=1000)
        (finding,) = place(small, chain((126,), (ones(4, 126), {"bits": 8}, ZERO))).findings
        assert (finding.limit, finding.needed, finding.available) == ("synapse memory (bits)", 1008, 1000)

    @pytest.mark.parametrize(("available", "filled"), [(20, [10]), (19, [9, 1]), (7, [3, 3, 3, 1]), (2, [1] * 10)])
    def test_output_axons(self, chain, available, filled):
        # each of 10 neurons reaches both cores of the next layer: 2 output axons
        layers = ((ones(10, 2), {"bits": 8}, ZERO), (ones(2000, 10), {"bits": 8}, ZERO))
        placement = place(shrunk(LOIHI, axons_out_per_core=available), chain((2,), *layers))
        assert placement.findings == ()
        assert [core.neurons for core in placement.cores if core.populations == ("l1",)] == filled
        assert max(used(placement, "output axons")) <= 1
        assert [core.index for core in placement.cores] == list(range(placement.cores_used))

    def test_a_neuron_with_more_targets_than_output_axons(self, chain):
        layers = ((ones(10, 2), {"bits": 8}, ZERO), (ones(2000, 10), {"bits": 8}, ZERO))
        placement = place(shrunk(LOIHI, axons_out_per_core=1), chain((2,), *layers))
        (finding,) = placement.findings
        assert (finding.limit, finding.where, finding.needed) == ("output axons per core", "l1", 2)
        assert placement.unplaced == ("l1",)

    def test_readout_takes_neurons(self, chain):
        placement = place(LOIHI, chain((2,), (ones(10, 2), {"bits": 8}, {"model": "readout"})))
        assert placement.cores[0].populations == ("l1",)


@st.composite
def wirings(
    draw: st.DrawFn,
) -> tuple[tuple[int, ...], list[tuple[torch.Tensor, dict[str, Any], dict[str, Any]]]]:
    """A small network of one or two convolutions and a dense layer, with a residual now and then."""
    size, channels = draw(st.integers(5, 9)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    values = torch.tensor(draw(st.sampled_from([[1], [0, 1], [0, 0, 1, 2], [0, -3, 1, 2, 5], [-4, -1, 2, 3]])))

    def weights(*shape: int) -> torch.Tensor:
        return values[torch.randint(len(values), shape, generator=generator)]

    filters, kernel = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    wiring = {
        "stride": (draw(st.integers(1, 2)),) * 2,
        "padding": (draw(st.integers(0, 1)),) * 2,
        "dilation": (draw(st.integers(1, 2)) if kernel < 3 else 1,) * 2,
        "pool": draw(st.integers(1, 2)) if size > 7 and kernel < 3 else 1,
        "bits": 8,
    }
    pooled = size // wiring["pool"]
    out = (pooled + 2 * wiring["padding"][0] - wiring["dilation"][0] * (kernel - 1) - 1) // wiring["stride"][0] + 1
    pool = 2 if out >= 4 and draw(st.booleans()) else 1
    dense = weights(draw(st.integers(1, 12)), filters * (out // pool) ** 2)
    layers = [
        (weights(filters, channels, kernel, kernel), wiring, draw(st.sampled_from([IF, ZERO]))),
        (dense, {"pool": pool, "bits": 8}, {"model": draw(st.sampled_from(["if", "readout"]))}),
    ]
    return (channels, size, size), layers


def assert_placed_once(program: Program, placement: Placement) -> None:
    placed = Counter(
        (part.population, neuron) for core in placement.cores for part in core.parts for neuron in part.neurons.tolist()
    )
    expected = {
        (population.name, neuron)
        for population in program.populations[1:]
        if population.name not in placement.unplaced
        for neuron in range(population.neurons)
    }
    assert set(placed) == expected
    assert set(placed.values()) <= {1}
    for core in placement.cores:
        assert all(0 <= share <= 1 for share in core.utilisation.values())


def rows(placement: Placement, index: int) -> torch.Tensor:
    return torch.from_numpy(placement.cores[index].parts[0].neurons)


@given(wirings(), st.sampled_from([64, 100, 256]))
@settings(max_examples=40)
def test_crossbars_hold_every_neuron_once(chain, matrix, network, size):
    program = chain(network[0], *network[1])
    target = shrunk(TRUENORTH, neurons_per_core=size, axons_in_per_core=size)
    placement = place(target, program)
    assert_placed_once(program, placement)
    links = {projection.target: matrix(program, projection) for projection in program.projections}
    # a population stays unplaced exactly when one of its neurons has more sources than axons
    assert set(placement.unplaced) == {name for name, m in links.items() if int((m != 0).sum(dim=1).max()) > size}
    destinations: Counter[tuple[str, int]] = Counter()
    for index, core in enumerate(placement.cores):
        if core.splitters:
            continue
        name = core.populations[0]
        onto_core = links[name][rows(placement, index)]
        copies = [len(set(column.tolist()) - {0}) for column in onto_core.T]
        assert core.utilisation["axons"] * size == pytest.approx(sum(copies))
        assert core.synapses == int((onto_core != 0).sum())
        before = next(projection.source for projection in program.inputs_of(name))
        destinations.update({(before, source): count for source, count in enumerate(copies)})
    if max(destinations.values(), default=0) <= size:
        relays = sum(count for (name, _), count in destinations.items() if name != "input" and count > 1)
        assert placement.splitter_neurons == relays
    assert placement.cores_used >= placement.lower_bound


@given(wirings(), st.integers(8, 60), st.integers(20, 120), st.integers(10, 200))
@settings(max_examples=40)
def test_memories_hold_every_neuron_once(chain, matrix, network, neurons, axons, outputs):
    program = chain(network[0], *network[1])
    sizes = {"neurons_per_core": neurons, "axons_in_per_core": axons, "axons_out_per_core": outputs}
    target = shrunk(LOIHI, **sizes, synapse_bits_per_core=4000)
    placement = place(target, program)
    assert_placed_once(program, placement)
    links = {projection.target: matrix(program, projection) != 0 for projection in program.projections}
    for index, core in enumerate(placement.cores):
        onto_core = links[core.populations[0]][rows(placement, index)]
        assert core.synapses == int(onto_core.sum())
        assert core.utilisation["synapse memory"] * 4000 == pytest.approx(8 * int(onto_core.sum()))
        assert core.utilisation["input axons"] * axons == pytest.approx(int(onto_core.any(dim=0).sum()))
        leaving = sum(
            int(links[other.populations[0]][rows(placement, number)].any(dim=0)[rows(placement, index)].sum())
            for number, other in enumerate(placement.cores)
            if any(p.source == core.populations[0] for p in program.inputs_of(other.populations[0]))
        )
        assert core.utilisation["output axons"] * outputs == pytest.approx(leaving)
        assert leaving <= outputs
    assert placement.cores_used >= placement.lower_bound


@pytest.mark.parametrize("target", [LOIHI, SPECK, TRUENORTH], ids=lambda target: target.name)
def test_residual_networks_are_placed_the_same_way_twice(chain, target):
    layer = (ones(4, 4, 3, 3), {"padding": (1, 1), "bits": 8}, IF)
    program = chain((4, 6, 6), layer, layer)
    skip = Projection("l2.skip", "input", "l2", "conv", ones(4, 1, 1, 1), groups=4, bits=8)
    residual = replace(program, projections=(*program.projections, skip))
    first, second = place(target, residual), place(target, residual)
    assert_placed_once(residual, first)
    described = [
        [(core.index, core.utilisation, [part.neurons.tolist() for part in core.parts]) for core in placement.cores]
        for placement in (first, second)
    ]
    assert described[0] == described[1]
    assert sum(core.synapses for core in first.cores) == sum(map(residual.synapses, residual.projections))


@pytest.mark.parametrize("target", [HardwareTarget.load("tianjic"), TRUENORTH, SPECK], ids=lambda target: target.name)
def test_a_population_that_no_core_holds_counts_neither_as_used_nor_as_needed(chain, target):
    """300 sources exceed 256 axons (and 300 x 256 entries exceed Speck's cores); 3 neurons remain, on one core."""
    big = (ones(250, 300), {"bits": 8}, ZERO)
    placement = place(target, chain((300,), big, (ones(3, 250), {"bits": 8}, ZERO)))
    assert placement.unplaced == ("l1",)
    assert placement.findings
    assert (placement.cores_used, placement.lower_bound) == (1, 1)


def test_a_core_smaller_than_a_neuron_is_a_finding(chain):
    """A neuron that subtracts takes two of Loihi's compartments; a core of one compartment holds none."""
    program = chain((3,), (torch.ones(2, 3, dtype=torch.int64), {"bits": 8}, {"reset": "subtract"}))
    placement = place(shrunk(LOIHI, neurons_per_core=1), program)
    (finding,) = placement.findings
    assert (finding.limit, finding.where, finding.needed, finding.available) == ("neurons per core", "l1", 2, 1)
    assert placement.unplaced == ("l1",)


def test_cores_of_one_neuron_cannot_split(chain):
    """A relay needs two neurons to send to two places: without them there are no relays, but a finding."""
    program = chain((2,), (torch.ones(2, 2, dtype=torch.int64), {}, {}), (torch.ones(2, 2, dtype=torch.int64), {}, {}))
    placement = place(shrunk(TRUENORTH, neurons_per_core=1), program)
    (finding,) = placement.findings
    assert (finding.limit, finding.needed, finding.available) == ("neurons per core", 2, 1)
    assert placement.splitter_neurons is None
