"""Cores whose neurons share a few thresholds and decays: the grouping of channels."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.hardware.placement import place
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget

LOIHI = HardwareTarget.load("loihi")


def limited(thresholds, decays):
    """Loihi with other numbers of configurations."""
    limits = replace(
        LOIHI.limits,
        threshold_configurations_per_core=thresholds and SourcedValue(thresholds, "test", "D"),
        decay_configurations_per_core=decays and SourcedValue(decays, "test", "D"),
    )
    return replace(LOIHI, limits=limits)


def layer(chain, thresholds, leaks, side=3):
    weight = torch.ones(len(thresholds), 1, 1, 1, dtype=torch.int64)
    constants = {"threshold": torch.tensor(thresholds), "leak": torch.tensor(leaks)}
    return chain((1, side, side), (weight, {"bits": 8}, {"model": "lif", "reset": "zero", **constants}))


def channels_of(core, side=3):
    return sorted({int(neuron) // side**2 for part in core.parts for neuron in part.neurons})


def test_loihi_has_eight_thresholds_a_core(chain):
    """Twelve thresholds, each of two channels: 8 and 4 of them, with all places of their channels."""
    thresholds = [64 * (channel // 2) + 65 for channel in range(24)]
    placement = place(LOIHI, layer(chain, thresholds, [9] * 24))
    assert [channels_of(core) for core in placement.cores] == [list(range(16)), list(range(16, 24))]
    assert [core.neurons for core in placement.cores] == [16 * 9, 8 * 9]
    assert placement.lower_bound == 2
    assert placement.findings == ()


def test_few_constants_leave_the_order_of_places(chain):
    same = place(limited(8, 32), layer(chain, [65, 129] * 8, [9] * 16))
    assert [channels_of(core) for core in same.cores] == [list(range(16))]


@given(
    constants=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=20),
    thresholds=st.one_of(st.none(), st.integers(1, 5)),
    decays=st.one_of(st.none(), st.integers(1, 4)),
    neurons=st.integers(1, 40),
)
@settings(max_examples=80)
def test_no_core_holds_more_than_it_may(chain, constants, thresholds, decays, neurons):
    target = limited(thresholds, decays)
    target = replace(target, limits=replace(target.limits, neurons_per_core=SourcedValue(neurons, "test", "D")))
    program = layer(chain, [theta for theta, _ in constants], [leak for _, leak in constants])
    placement = place(target, program)
    placed = sorted(int(neuron) for core in placement.cores for part in core.parts for neuron in part.neurons)
    assert placed == list(range(9 * len(constants)))
    for core in placement.cores:
        held = [constants[channel] for channel in channels_of(core)]
        assert len({theta for theta, _ in held}) <= (thresholds or math.inf)
        assert len({leak for _, leak in held}) <= (decays or math.inf)
        assert core.neurons <= neurons
    assert placement.cores_used >= placement.lower_bound


def test_a_readout_has_no_threshold(chain):
    program = chain((4,), (torch.ones(20, 4, dtype=torch.int64), {"bits": 8}, {"model": "readout"}))
    assert place(LOIHI, program).cores_used == 1


@pytest.mark.parametrize("constant", ["threshold", "leak"])
def test_one_value_more_takes_another_core(chain, constant):
    """Of each constant alone."""
    many, few = ([65 + 64 * k for k in range(5)], [7] * 5)
    thresholds, leaks = (many, few) if constant == "threshold" else (few, many)
    assert place(limited(4, 4), layer(chain, thresholds, leaks)).cores_used == 2
    assert place(limited(5, 5), layer(chain, thresholds, leaks)).cores_used == 1
