"""Chips with one core: limits on inputs, hidden neurons, outputs and biases."""

from dataclasses import replace

import torch

from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.check_supported_features import check_structure
from spikefit.hardware.placement import place
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget

XYLO = HardwareTarget.load("xylo_audio3")
CUBA = {"model": "cuba_lif", "max_spikes": 31, "synaptic_leak": torch.ones(1, dtype=torch.int64)}


def layer(out, source, live=None, **neurons):
    weight = torch.ones(out, source, dtype=torch.int64)
    weight.view(-1)[live:] = 0 if live is not None else 1
    return weight, {"bits": 8}, {**CUBA, "leak": torch.ones(out, dtype=torch.int64), **neurons}


def found(program, target=XYLO):
    return {(f.limit, f.where): (f.needed, f.available) for f in check(target, program)}


def test_a_network_that_fits_takes_the_core(chain):
    program = chain((16,), layer(500, 16), layer(492, 500, live=700), layer(32, 492, max_spikes=1))
    assert found(program) == {}
    placement = place(XYLO, program)
    (core,) = placement.cores
    assert (placement.lower_bound, placement.unplaced, core.neurons) == (1, (), 1024)
    assert core.synapses == 500 * 16 + 700 + 32 * 492
    assert core.utilisation == {"inputs": 1.0, "hidden neurons": 1.0, "outputs": 1.0}


def test_every_count_has_its_finding(chain):
    program = chain((17,), layer(600, 17), layer(400, 600), layer(33, 400))
    assert found(program) == {
        ("inputs", "input"): (17, 16),
        ("outputs", "l3"): (33, 32),
        ("spikes a step", "l3"): (31, 1),
        ("hidden neurons", "xylo_audio3"): (1000, 992),
    }
    finding = next(f for f in check(XYLO, program) if f.limit == "hidden neurons")
    assert (finding.remedy, finding.prune_blocks) == ("prune 8 hidden neurons", ("l1", "l2"))
    few = replace(XYLO, limits=replace(XYLO.limits, synapses_per_chip=SourcedValue(1000, "drawn", "D")))
    assert found(program, few)["synapses per chip", "xylo_audio3"] == (600 * 17 + 400 * 600 + 33 * 400, 1000)


def test_a_bias_behind_neurons_would_come_too_early(chain):
    bias = torch.tensor([0, 3, -2])
    first = chain((4,), layer(3, 4, bias=bias), layer(2, 3, max_spikes=1))
    assert found(first) == {}
    later = chain((4,), layer(5, 4), layer(3, 5, bias=bias, max_spikes=1))
    (finding,) = check_structure(XYLO, later)
    assert (finding.limit, finding.where, finding.needed) == ("biases after neurons", "l2", 2)
    assert "norm gain" in finding.remedy


def test_other_neurons_are_refused_there_and_these_elsewhere(chain):
    plain = chain((4,), (torch.ones(3, 4, dtype=torch.int64), {"bits": 8}, {"model": "lif"}))
    assert next(f for f in check_structure(XYLO, plain) if f.limit == "neuron model").remedy == "use CubaLIF neurons"
    program = chain((4,), layer(3, 4))
    limits = {f.limit for f in check_structure(HardwareTarget.load("loihi"), program)}
    assert limits == {"neuron model", "spikes a step"}


def test_a_decay_becomes_the_nearest_shift():
    kept = torch.tensor([0.5, 0.75, 0.74, 0.9, 0.2, 1.0], dtype=torch.float64)
    assert XYLO.round_decay(kept).tolist() == [1, 2, 2, 3, 1, 15]
