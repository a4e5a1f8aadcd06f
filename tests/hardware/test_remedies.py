"""The remedy of a finding resolves it: the advised number of units of that layer, and no fewer."""

import re
from dataclasses import replace

import pytest
import torch

from spikefit.hardware.check_chip_capacity import check_capacity
from spikefit.hardware.placement import place
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget

GENERIC, TRUENORTH, SPECK = (HardwareTarget.load(name) for name in ("generic", "truenorth", "speck2f"))


def ones(*shape):
    return torch.ones(*shape, dtype=torch.int64)


def limited(**limits):
    figures = {name: SourcedValue(value, "test", "D") for name, value in limits.items()}
    return replace(GENERIC, limits=replace(GENERIC.limits, **figures))


def advised(finding):
    """Units to prune, out of how many, and of which layer."""
    count, units, layer = re.match(r"prune (\d+) of (\d+) (?:channels|neurons) of (\w+)", finding.remedy).groups()
    return int(count), int(units), layer


@pytest.mark.parametrize("available", [1, 7, 13, 19])
def test_fan_in_names_units_of_the_source(chain, available):
    def program(units):
        return chain((5,), (ones(units, 5), {"bits": 8}, {}), (ones(4, units), {"bits": 8}, {}))

    target = limited(fan_in=max(5, available))
    (finding,) = check_capacity(target, program(20))
    count, units, layer = advised(finding)
    assert (units, layer) == (20, "l1")
    assert check_capacity(target, program(20 - count)) == []
    assert check_capacity(target, program(20 - count + 1)) != []


@pytest.mark.parametrize("available", [9, 40, 70])
def test_fan_in_of_a_convolution_names_channels(chain, available):
    def program(channels):
        first = (ones(channels, 1, 1, 1), {"bits": 8}, {})
        return chain((1, 5, 5), first, (ones(2, channels, 3, 3), {"bits": 8, "padding": (1, 1)}, {}))

    target = limited(fan_in=available)
    (finding,) = check_capacity(target, program(8))
    count, units, layer = advised(finding)
    assert (units, layer) == (8, "l1")
    assert check_capacity(target, program(8 - count)) == []
    assert check_capacity(target, program(8 - count + 1)) != []


def test_fan_out_names_units_of_the_target(chain):
    def program(units):
        return chain((3,), (ones(units, 3), {"bits": 8}, {}), (ones(2, units), {"bits": 8}, {}))

    target = limited(fan_out=6)
    (finding,) = check_capacity(target, program(10))
    assert (finding.where, advised(finding)) == ("input", (4, 10, "l1"))
    assert check_capacity(target, program(6)) == []


def test_where_no_source_can_be_pruned_synapses_are(chain):
    (finding,) = check_capacity(limited(fan_in=3), chain((5,), (ones(2, 5), {"bits": 8}, {})))
    assert finding.remedy == "prune 2 synapses of its densest neuron"
    assert finding.prune_blocks == ()


def test_axons_of_a_crossbar(chain):
    def program(units):
        return chain((8,), (ones(units, 8), {}, {}), (ones(4, units), {}, {}))

    (finding,) = place(TRUENORTH, program(300)).findings
    assert advised(finding) == (44, 300, "l1")
    assert place(TRUENORTH, program(256)).findings == ()


def test_a_chip_of_too_few_cores_names_the_share(chain):
    """30 neurons on cores of 4 take eight cores, of which there are six: a quarter has to go."""
    program = chain((2,), (ones(30, 2), {"bits": 8}, {}), (ones(2, 30), {"bits": 8}, {"model": "readout"}))
    loihi = HardwareTarget.load("loihi")
    limits = replace(loihi.limits, cores=SourcedValue(6, "test", "D"), neurons_per_core=SourcedValue(8, "test", "D"))
    (finding,) = place(replace(loihi, limits=limits), program).findings
    assert finding.limit == "cores"
    share = 1 - finding.available / finding.needed
    assert finding.remedy.startswith(f"prune about {-(-100 * share // 1):.0f} % ")


def test_entries_of_a_core_of_one_layer(chain):
    """28 maps of 50 x 50, which count as 64 x 64: a core holds 65 536 entries, so 16 of them."""
    program = chain((1, 50, 50), (ones(28, 1, 1, 1), {"bits": 8}, {}), (ones(2, 28, 1, 1), {"bits": 8}, {}))
    finding = next(f for f in place(SPECK, program).findings if f.limit == "neuron entries")
    count, units, layer = advised(finding)
    assert (units, layer) == (28, "l1")
    assert 28 - count == 16
