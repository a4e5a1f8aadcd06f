"""Checks of structure and capacity, on programs built by hand."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from helpers.own_chip import own_chip

from spikefit.hardware.check_chip_capacity import check, check_capacity, unknown_limits
from spikefit.hardware.check_supported_features import check_structure
from spikefit.hardware.deployment_context import DeploymentContext
from spikefit.hardware.finding import Finding
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget
from spikefit.input_kind import InputKind
from spikefit.networks import ConvSNN
from spikefit.program.ir import Program, Projection
from spikefit.program.lower import lower

ONES = torch.ones(10, 20, dtype=torch.int64)
IF: dict[str, Any] = {}


@pytest.fixture(scope="module")
def targets():
    return {name: HardwareTarget.load(name) for name in ("loihi", "speck2f", "truenorth")}


def limits(findings: list[Finding]) -> list[str]:
    return [finding.limit for finding in findings]


@pytest.mark.parametrize("name", ["loihi", "speck2f", "truenorth"])
def test_a_small_spiking_network_fits_everywhere(targets, chain, name):
    bits = targets[name].stored_bits(8)
    program = chain((20,), (ONES, {"bits": bits}, IF), (ONES[:, :10], {"bits": bits}, IF))
    assert check(targets[name], program) == []


def test_lif_on_truenorth(targets, chain):
    (finding,) = check_structure(targets["truenorth"], chain((20,), (ONES, {}, {"model": "lif"})))
    assert finding == Finding(
        "neuron model", "l1", "lif", "if, linear_leak_if", "use IF or LinearLeakIF neurons", "structure"
    )
    assert str(finding) == (
        "l1: neuron model: needs lif, the chip has if, linear_leak_if; use IF or LinearLeakIF neurons."
    )


@pytest.mark.parametrize(
    ("bias", "leak", "channels"),
    [
        ([0, 3, 0, -1], [2, 0, 0, 0], 0),  # each channel uses the register once
        ([0, 3, 0, -1], [2, 1, 0, 0], 1),
        ([5, 3, 0, -1], [2, 1, 4, 7], 3),
    ],
)
def test_one_register_holds_either_the_bias_or_the_leak(targets, chain, bias, leak, channels):
    constants = {"bias": torch.tensor(bias), "leak": torch.tensor(leak), "model": "linear_leak_if"}
    layer = (ONES[:4, :5], {"bits": 9}, constants)
    findings = check(targets["truenorth"], chain((5,), layer))
    if channels == 0:
        assert findings == []
    else:
        (finding,) = findings
        assert (finding.limit, finding.where, finding.needed, finding.available, finding.kind) == (
            "bias and leak in one register",
            "l1",
            f"both in {channels} of 4 channels",
            "one of them",
            "structure",
        )
        for remedy in ("norm gain", "IF neurons", "leak of 0"):
            assert remedy in finding.remedy
    assert check(targets["truenorth"], chain((5,), layer, graded=True)) == [], "the host adds this bias"
    separate = replace(
        targets["truenorth"], neuron=replace(targets["truenorth"].neuron, bias_shares_leak_register=None)
    )
    assert check(separate, chain((5,), layer)) == []


def test_membrane_readout_on_truenorth(targets, chain):
    program = chain((20,), (ONES, {}, IF), (ONES[:, :10], {}, {"model": "readout"}))
    (finding,) = check_structure(targets["truenorth"], program)
    assert (finding.limit, finding.where, finding.remedy) == ("readout", "l2", "use a spiking readout")
    assert check_structure(targets["loihi"], program) == []


@pytest.mark.parametrize("name", ["loihi", "speck2f", "truenorth"])
def test_max_pooling(targets, chain, name):
    weight = torch.ones(2, 1, 3, 3, dtype=torch.int64)
    program = chain((1, 8, 8), (weight, {"pool": 2, "pool_kind": "max"}, IF))
    (finding,) = check_structure(targets[name], program)
    assert (finding.limit, finding.remedy, finding.kind) == ("pooling", "use average pooling", "structure")
    assert check_structure(targets[name], chain((1, 8, 8), (weight, {"pool": 2}, IF))) == []


def test_reset(targets, chain):
    native = replace(targets["loihi"].neuron, resets=SourcedValue(("zero",), "test", "D"))
    (finding,) = check_structure(replace(targets["loihi"], neuron=native), chain((20,), (ONES, {}, IF)))
    assert (finding.limit, finding.needed, finding.remedy) == ("reset", "subtract", "reset to zero")


@pytest.mark.parametrize(
    ("kernel", "wiring", "limit"),
    [
        (17, {}, "kernel"),
        (3, {"stride": (3, 3)}, "stride"),
        (3, {"padding": (8, 8)}, "padding"),
        (3, {"dilation": (2, 2)}, "dilation"),
        (3, {"pool": 3}, "pool size"),
        (16, {"stride": (4, 4), "padding": (7, 7)}, None),
    ],
)
def test_speck_layers(targets, chain, kernel, wiring, limit):
    program = chain((1, 40, 40), (torch.ones(1, 1, kernel, kernel, dtype=torch.int64), wiring, IF))
    assert limits(check_structure(targets["speck2f"], program)) == ([limit] if limit else [])


def test_speck_maps(targets, chain):
    program = chain((1, 130, 130), (torch.ones(1, 1, 1, 1, dtype=torch.int64), {}, IF))
    assert limits(check_structure(targets["speck2f"], program)) == ["input size", "output size"]
    # a dense layer after a 20 x 20 map would be a 20 x 20 kernel
    dense = chain((1, 20, 20), (torch.ones(4, 400, dtype=torch.int64), {}, IF))
    (finding,) = check_structure(targets["speck2f"], dense)
    assert (finding.limit, finding.needed, finding.remedy) == (
        "kernel",
        20,
        "pool the map before the dense layer",
    )
    assert check_structure(targets["loihi"], dense) == []


def test_encoder_on_the_host_has_no_layer_limits(targets, chain):
    weight = torch.full((4, 1, 20, 20), 1000, dtype=torch.int64)
    assert check(targets["speck2f"], chain((1, 40, 40), (weight, {"bits": 8}, IF), graded=True)) == []
    assert check(targets["speck2f"], chain((1, 40, 40), (weight, {"bits": 8}, IF))) != []


def test_neurons_per_chip(targets, chain):
    # 70 000 neurons that subtract take two of Loihi's 131 072 compartments each: 140 000
    weight = torch.ones(70_000, 1, dtype=torch.int64)
    (finding,) = check_capacity(targets["loihi"], chain((1,), (weight, {"bits": 8}, IF)))
    assert (finding.limit, finding.needed, finding.available) == ("neurons per chip", 140_000, 131_072)
    assert finding.remedy.startswith("prune 8928 neurons")
    assert check_capacity(targets["loihi"], chain((1,), (weight, {"bits": 8}, {"reset": "zero"}))) == []


def test_fan_in_and_fan_out(targets, chain):
    small = replace(
        targets["loihi"],
        limits=replace(
            targets["loihi"].limits, fan_in=SourcedValue(8, "test", "D"), fan_out=SourcedValue(9, "test", "D")
        ),
    )
    fan_in, fan_out = check_capacity(small, chain((20,), (ONES, {"bits": 8}, IF)))
    assert (fan_in.limit, fan_in.where, fan_in.needed) == ("fan-in", "l1", 20)
    assert fan_in.remedy == "prune 12 synapses of its densest neuron"
    assert (fan_out.limit, fan_out.where, fan_out.needed) == ("fan-out", "input", 10)


def test_unique_values_by_scope(targets, chain):
    # every neuron uses 4 values besides zero, but not the same ones: 8 in the layer
    weight = torch.tensor([[0, 1, 2, 3, 4], [0, -1, -2, -3, -4]])
    program = chain((5,), (weight, {"bits": 9}, IF))
    truenorth = targets["truenorth"]
    assert check_capacity(truenorth, program) == []
    rule = truenorth.weights.unique_values

    def with_rule(**changes: Any) -> HardwareTarget:
        return replace(truenorth, weights=replace(truenorth.weights, unique_values=replace(rule, **changes)))

    (finding,) = check_capacity(with_rule(scope=SourcedValue("layer", "test", "D")), program)
    assert (finding.limit, finding.needed, finding.available) == ("unique weights per layer", 8, 4)
    assert finding.remedy == "use a codebook of 4 values"
    (counted,) = check_capacity(with_rule(zero_is_free=SourcedValue(False, "test", "D")), program)
    assert counted.needed == 5


def test_unique_values_count_all_inputs_of_a_neuron(targets, chain):
    program = chain((2,), (torch.tensor([[1, 2]]), {"bits": 9}, IF))
    extra = Projection("l1.skip", "input", "l1", "dense", torch.tensor([[3, 4]]), bits=9)
    more = replace(extra, name="l1.more", weight=torch.tensor([[5, 4]]))
    fits = replace(program, projections=(*program.projections, extra))
    assert check_capacity(targets["truenorth"], fits) == []
    (finding,) = check_capacity(targets["truenorth"], replace(fits, projections=(*fits.projections, more)))
    assert finding.needed == 5


@pytest.mark.parametrize(
    ("weight", "wiring", "limit"),
    [
        (-128, {"bits": 8}, None),
        (128, {"bits": 8}, "weight range"),
        (8, {"bits": 4, "exponent": 4}, "weight exponent"),  # 8 is no multiple of 16
        (7 * 16, {"bits": 4, "exponent": 4}, None),
        (8 * 16, {"bits": 4, "exponent": 4}, "weight range"),
        (1, {"bits": 4}, "weight exponent"),  # a 4-bit weight is at least 16 units
        (1, {"bits": 7}, "weight bits"),
        (2**15, {"bits": 8, "exponent": 15}, "weight exponent"),
    ],
)
def test_loihi_weights(targets, chain, weight, wiring, limit):
    program = chain((1,), (torch.tensor([[weight]]), wiring, IF))
    assert limits(check_capacity(targets["loihi"], program)) == ([limit] if limit else [])


@pytest.mark.parametrize(
    ("neurons", "limit"),
    [
        ({"threshold": torch.tensor([64])}, "threshold step"),
        ({"threshold": torch.tensor([2**23 + 65])}, "threshold range"),
        ({"bias": torch.tensor([4097])}, "bias step"),
        ({"bias": torch.tensor([-(2**20)])}, "bias range"),
    ],
)
def test_loihi_registers(targets, chain, neurons, limit):
    program = chain((1,), (torch.tensor([[1]]), {"bits": 8}, neurons))
    assert limit in limits(check_capacity(targets["loihi"], program))
    assert check_capacity(targets["loihi"], replace(program, precision="exact")) == []


def test_linear_leak_range(targets, chain):
    neurons = {"model": "linear_leak_if", "leak": torch.tensor([256])}
    (finding,) = check_capacity(targets["truenorth"], chain((1,), (torch.tensor([[1]]), {"bits": 9}, neurons)))
    assert (finding.limit, finding.needed, finding.available) == ("leak range", "256 to 256", "0 to 255")


def test_destination_layers_and_channels(targets, chain, population):
    program = chain((2,), (torch.ones(1025, 2, dtype=torch.int64), {"bits": 8}, IF))
    (finding,) = check_capacity(targets["speck2f"], program)
    assert (finding.limit, finding.remedy) == ("channels", "prune 1 of 1025 neurons of l1")
    names = ("a", "b", "c")
    fan = Program(
        (program.populations[0], *(population(name, (1,)) for name in names)),
        tuple(Projection(n, "input", n, "dense", torch.ones(1, 2, dtype=torch.int64), bits=8) for n in names),
        4,
        "target",
    )
    (finding,) = check_capacity(targets["speck2f"], fan)
    assert (finding.limit, finding.where, finding.needed) == ("destination layers", "input", 3)


def test_unknown_limits_are_listed_and_skipped(targets, chain):
    assert unknown_limits(targets["speck2f"]) == ["neuron.overflow"]
    unknown = replace(targets["loihi"].limits, fan_in=SourcedValue(None), neurons_per_chip=SourcedValue(None))
    target = replace(targets["loihi"], limits=unknown)
    assert unknown_limits(target) == ["limits.neurons_per_chip", "limits.fan_in"]
    assert check_capacity(target, chain((20,), (ONES, {"bits": 8}, IF))) == []


def test_findings_are_plain_values(targets, chain):
    program = chain((1, 8, 8), (torch.ones(1, 1, 3, 3).long(), {"stride": (3, 3), "pool": 2}, {"model": "lif"}))
    for finding in check(targets["speck2f"], program):
        plain = asdict(finding)
        assert all(isinstance(name, str) for name in plain.pop("prune_blocks"))
        assert all(isinstance(value, int | float | str) for value in plain.values())


@pytest.mark.parametrize(("threshold", "reached"), [(127, True), (128, False)])
def test_a_threshold_that_no_membrane_reaches_is_no_threshold(chain, threshold, reached):
    """A register of thresholds may be wider than the membrane, as on ODIN and AltAI-1."""
    chip = own_chip("memory", neuron={"threshold_max": 255, "state_min": -128, "state_max": 127})
    constants = {"threshold": torch.full((10,), threshold)}
    findings = check(chip, chain((20,), (ONES, {"bits": 8}, constants)))
    assert limits(findings) == ([] if reached else ["threshold range"])
    assert (findings[0].available if findings else "any to 127") == "any to 127"


def test_a_network_is_lowered_to_thresholds_that_its_membranes_reach(wake):
    chip = own_chip("memory", neuron={"state_min": -2047, "state_max": 2047, "decay_bits": 12, "overflow": "saturate"})
    net = wake(ConvSNN((1, 8, 8), 10, (4, 6), (12,)), (torch.rand(4, 8, 1, 8, 8) < 0.3).float())
    program = lower(net, DeploymentContext(chip, 4, InputKind.SPIKES), "target")
    thresholds = [population.threshold for population in program.populations if population.threshold is not None]
    assert min(int(each.min()) for each in thresholds) > 0
    assert max(int(each.max()) for each in thresholds) <= 2047
