"""The energy of memory accesses, compared with values computed by hand."""

import pytest
import torch
from helpers.joules import joules
from hypothesis import given
from hypothesis import strategies as st

from spikefit.errors import ConfigurationError
from spikefit.hardware.energy import estimate
from spikefit.hardware.energy_of_memory import access_j, index_bits
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Arithmetic, LayerActivity

KB = 8 * 1024  # bits


@pytest.mark.parametrize(
    ("size", "word_pj"), [(1, 10), (8, 10), (20, 15), (32, 20), (528, 60), (1024, 100), (2016, 180)]
)
def test_a_word_costs_what_its_memory_makes_it(size, word_pj):
    """Between 32 KB and 1 MB (992 KB further) a word gains 80 pJ: half of it at 528 KB, as much again at 2016 KB."""
    assert access_j(size * KB, 32) == joules(word_pj * 1e-12)
    assert access_j(size * KB, 8) == joules(word_pj * 1e-12 / 4)


@pytest.mark.parametrize(
    ("values", "bits", "stored"),
    [([5], 8, 1), ([1, -1], 8, 1), ([0, 1, 2, 3], 8, 2), (range(5), 8, 3), (range(9), 2, 2)],
)
def test_bits_of_an_index(chain, values, bits, stored):
    program = chain((len(values),), (torch.tensor([list(values)]), {"bits": bits}, {}))
    assert index_bits(program.projections[0]) == stored


def layer(**counts):
    return LayerActivity(
        "l1", neurons=2, synapses=6, **{"spikes": 0.0, "synops": 0.0, "macs": 0.0, "updates": 0.0, **counts}
    )


def energy_of(program, activity):
    return estimate(HardwareTarget.load("loihi"), [activity], None, 4, "memory", program)


def test_by_hand(chain):
    """Six synapses of four values (2 bits), two LIF neurons with 32-bit membranes; all memories are below 8 KB."""
    weight = torch.tensor([[1, 2, 3], [4, 1, 2]])
    program = chain((3,), (weight, {"bits": 8}, {"model": "lif"}))
    energy = energy_of(program, layer(synops=12.0, updates=8.0))
    read = 10e-12 * 2 / 32
    assert energy.terms == {
        "synops": joules(12 * 0.1e-12),
        "updates": joules(8 * 3.2e-12),
        "encoder": 0.0,
        "memory": joules(12 * read + (12 + 8) * 2 * 10e-12),
    }
    assert energy.total_j == joules(sum(energy.terms.values()))
    assert energy.per_layer["l1"] == joules(energy.total_j)
    assert energy.unknown == ()
    assert energy.layer_terms["l1"] == energy.terms


def test_an_encoder_reads_weights_and_multiplies(chain):
    program = chain((3,), (torch.ones(2, 3, dtype=torch.int64), {"bits": 8}, {}), graded=True)
    energy = energy_of(program, layer(macs=6.0))
    assert energy.terms["encoder"] == joules(6 * 3.2e-12)
    assert energy.terms["memory"] == joules(6 * 10e-12 / 32)


def test_the_membrane_is_as_wide_as_the_state(chain):
    from dataclasses import replace

    program = chain((3,), (torch.ones(2, 3, dtype=torch.int64), {"bits": 8}, {}))
    narrow = replace(program, arithmetic=Arithmetic(True, -(2**7), 2**7 - 1))
    wide, small = (energy_of(p, layer(updates=8.0)).terms["memory"] for p in (program, narrow))
    assert wide == joules(4 * small)


@given(st.lists(st.integers(-8, 8), min_size=6, max_size=6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_fewer_values_never_cost_more(values, synops, updates):
    from hardware.conftest import make_chain

    costs = []
    for weight in (torch.tensor(values).view(2, 3), torch.tensor(values).clamp(-1, 1).view(2, 3)):
        program = make_chain((3,), (weight, {"bits": 8}, {}))
        costs.append(energy_of(program, layer(synops=synops, updates=updates)).total_j)
    assert costs[1] <= costs[0] * (1 + 1e-12)


def test_without_a_program_it_is_refused():
    with pytest.raises(ConfigurationError, match="program: got None"):
        estimate(HardwareTarget.load("loihi"), [layer()], None, 4, "memory")
