"""Placement of one layer per core (Speck), compared with hand-worked counts and brute force."""

import itertools
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.hardware.placement import place
from spikefit.hardware.placement.layer_per_core import Needs, assign, core_sizes, layer_needs
from spikefit.hardware.target import HardwareTarget

SPECK = HardwareTarget.load("speck2f")
IF: dict[str, Any] = {}


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.int64)


def test_entries_by_hand(chain):
    # 2 -> 6 channels, 3 x 3: 2 * 2**(4 + 3) = 256 kernel entries; map 10 x 10 counts as 16 x 16
    program = chain((2, 12, 12), (ones(6, 2, 3, 3), {"bits": 8}, {"bias": ones(6)}))
    needs = layer_needs(SPECK, program, program.populations[1])
    assert needs == Needs(kernel=256, neurons=6 * 16 * 16, biases=6)


def test_dense_is_a_kernel_as_large_as_the_map(chain):
    # 4 maps of 6 x 6 pooled to 3 x 3, 10 classes: 4 * 2**(ceil(log2 9) + ceil(log2 10)) = 4 * 2**8
    program = chain((4, 6, 6), (ones(10, 36), {"pool": 2, "bits": 8}, IF))
    assert layer_needs(SPECK, program, program.populations[1]) == Needs(1024, 10, 0)
    flat = chain((36,), (ones(10, 36), {"bits": 8}, IF))
    assert layer_needs(SPECK, flat, flat.populations[1]) == Needs(36 * 16, 10, 0)


def test_groups_are_stored_in_full(chain):
    program = chain((4, 6, 6), (ones(4, 1, 1, 1), {"groups": 4, "bits": 8}, IF))
    assert layer_needs(SPECK, program, program.populations[1]).kernel == 4 * 4


def test_encoder_keeps_only_its_neurons_on_the_core(chain):
    program = chain((2, 12, 12), (ones(6, 2, 3, 3), {"bits": 8}, {"bias": ones(6)}), graded=True)
    assert layer_needs(SPECK, program, program.populations[1]) == Needs(0, 6 * 16 * 16, 0)
    assert place(SPECK, program).cores[0].synapses == 0


def test_each_layer_has_a_core_of_its_own(chain):
    layers = [(ones(8, 8), {"bits": 8}, IF)] * 9
    placement = place(SPECK, chain((8,), *layers))
    assert (placement.cores_used, placement.findings) == (9, ())
    assert sorted(core.index for core in placement.cores) == list(range(9))
    crowded = place(SPECK, chain((8,), *layers, layers[0]))
    assert crowded.cores_used == 9
    assert [finding.limit for finding in crowded.findings] == ["cores", "cores"]


def test_a_layer_that_fits_nowhere(chain):
    # 128 * 2**(4 + 7) = 256 Ki kernel entries; the largest core has 64 Ki
    program = chain((128, 4, 4), (ones(128, 128, 3, 3), {"bits": 8}, IF))
    (finding,) = place(SPECK, program).findings
    assert (finding.limit, finding.where) == ("kernel entries", "l1")
    assert (finding.needed, finding.available) == (262144, 65536)


def test_layers_that_compete_for_a_core(chain):
    # 64 * 2**(4 + 6) = 64 Ki entries each: only cores 5 and 6 have them
    layer = (ones(64, 64, 3, 3), {"bits": 8, "padding": (1, 1)}, IF)
    assert place(SPECK, chain((64, 4, 4), layer, layer)).findings == ()
    placement = place(SPECK, chain((64, 4, 4), layer, layer, layer))
    (finding,) = placement.findings
    assert (finding.limit, finding.available) == ("cores", "no core of that size left")
    assert placement.unplaced == (finding.where,)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
)
@settings(max_examples=150)
def test_assignment_equals_brute_force(layers, sizes):
    needs = [Needs(kernel, neurons, 0) for kernel, neurons in layers]
    cores = [Needs(kernel, neurons, 1) for kernel, neurons in sizes]
    chosen = assign(needs, cores)
    taken = [core for core in chosen if core is not None]
    assert len(set(taken)) == len(taken)
    assert all(need.fits(cores[core]) for need, core in zip(needs, chosen, strict=True) if core is not None)
    slots = [*range(len(cores)), *[None] * len(needs)]
    best = max(
        sum(core is not None for core in order)
        for order in itertools.permutations(slots, len(needs))
        if all(core is None or need.fits(cores[core]) for need, core in zip(needs, order, strict=True))
    )
    assert len(taken) == best


def test_core_table():
    cores = core_sizes(SPECK, 0)
    assert [core.kernel / 1024 for core in cores] == [16, 16, 16, 32, 32, 64, 64, 16, 16]
    assert sum(core.neurons for core in cores) == 327_680
