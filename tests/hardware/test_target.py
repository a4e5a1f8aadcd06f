"""Chip files: reading, refusal of malformed ones, and rounding to registers."""

import copy
from typing import Any

import pytest
import torch
import yaml

from spikefit.errors import TargetError
from spikefit.hardware.sourced_value import SourcedValue, known
from spikefit.hardware.target import HardwareTarget, available_targets


@pytest.fixture
def content() -> dict[str, Any]:
    return HardwareTarget.load("truenorth").to_dict()


@pytest.mark.parametrize("name", available_targets())
def test_round_trip(name, tmp_path):
    target = HardwareTarget.load(name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(target.to_dict()))
    assert HardwareTarget.load(path) == target
    assert HardwareTarget.load(str(path)).name == name


@pytest.mark.parametrize("name", available_targets())
def test_every_known_figure_has_a_source(name):
    figures = dict(HardwareTarget.load(name).sourced_values())
    assert len(figures) > 20
    for path, figure in figures.items():
        if figure.value is not None:
            assert figure.source, path
            assert figure.confidence in ("P", "V", "T", "S", "D", "R"), path


def test_recalled_figures_are_unverified():
    assert SourcedValue(1, "memory", "R").unverified
    assert not SourcedValue(1, "a paper", "P").unverified
    assert known(None) is None


def test_shipped_targets():
    assert {"loihi", "speck2f", "truenorth"} <= set(available_targets())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("limits.colour", 3, "limits.colour: unknown field with the value 3, expected one of cores"),
        ("limits.cores.value", "many", "limits.cores.value: got 'many', expected an integer"),
        ("limits.cores.value", True, "limits.cores.value: got True"),
        ("limits.cores.value", -1, "limits.cores.value: got -1"),
        (
            "limits.cores.confidence",
            "X",
            "limits.cores.confidence: got 'X', expected one of P, V, T, S, D, R",
        ),
        ("limits.cores.source", " ", "limits.cores.source: got ' ', expected where"),
        ("limits.cores", 4096, "limits.cores: got 4096, expected the keys value, source, confidence"),
        ("limits.cores.unit", "core", "limits.cores.unit: unknown field"),
        ("weights.bits.value", [], "weights.bits.value: got [], expected a list"),
        ("weights.bits.value", None, "weights.bits.value: got None"),
        (
            "weights.unique_values.scope.value",
            "chip",
            "weights.unique_values.scope.value: got 'chip', expected one of",
        ),
        ("neuron.models.value", ["if", "izhikevich"], "neuron.models.value"),
        ("energy.synop_j.value", "26e-12", "energy.synop_j.value: got '26e-12', expected a number"),
        ("placement.family", "grid", "placement.family: got 'grid', expected one of memory, crossbar"),
        ("description", 5, "description: got 5, expected text"),
        ("layers", [1], "layers: got [1], expected the keys"),
        ("extra", {}, "extra: unknown field"),
    ],
)
def test_bad_values_name_file_field_and_value(content, tmp_path, path, value, message):
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(TargetError) as error:
        HardwareTarget.load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "weights",
        "weights.min",
        "neuron.models",
        "layers.readouts",
        "limits.cores.source",
        "limits.cores.confidence",
    ],
)
def test_missing_fields_are_named(content, path):
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    del place[last]
    with pytest.raises(TargetError, match=f"mine.yaml: {path}: missing field"):
        HardwareTarget.from_dict(content, "mine", "mine.yaml")


def test_unknown_values_need_no_source(content):
    changed = copy.deepcopy(content)
    changed["limits"]["fan_in"] = {"value": None}
    target = HardwareTarget.from_dict(changed, "mine")
    assert known(target.limits.fan_in) is None
    assert target.to_dict() == {**changed, "limits": changed["limits"] | {"fan_in": {"value": None}}}


def test_unknown_names_list_what_there_is():
    with pytest.raises(
        TargetError, match=r"got 'loihi9', expected one of akida_akd1000, .*loihi, loihi2, .*truenorth, .*or the path"
    ):
        HardwareTarget.load("loihi9")


def test_unreadable_files(tmp_path):
    with pytest.raises(TargetError, match="can't be read"):
        HardwareTarget.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("limits: [")
    with pytest.raises(TargetError, match="not valid YAML"):
        HardwareTarget.load(broken)


def test_loihi_weights():
    target = HardwareTarget.load("loihi")
    assert target.widest_bits == 8
    assert [target.weight_range(bits) for bits in (8, 4, 2)] == [(-128, 127), (-8, 7), (-2, 1)]
    assert [target.largest_weight(bits) for bits in (8, 4, 2, 1)] == [127, 7, 1, 0]
    assert [target.stored_bits(bits) for bits in (0, 4, 7, 12)] == [1, 4, 8, 8]
    # a 4-bit weight is the upper half of an 8-bit one, so it is at least 2**4 units
    assert (target.exponent_range(8), target.exponent_range(4)) == ((0, 14), (4, 18))
    assert target.exponent_max == 14


def test_truenorth_weights():
    target = HardwareTarget.load("truenorth")
    assert target.weight_range(9) == (-255, 255)
    assert target.largest_weight(target.stored_bits(2)) == 255
    assert target.exponent_max == 0
    assert target.exponent_range(9) == (0, 0)


def test_loihi_registers():
    target = HardwareTarget.load("loihi")
    # v > 64 * mantissa, for integers v >= 64 * mantissa + 1
    thresholds = torch.tensor([1.0, 30.0, 40.0, 1000.0])
    assert target.round_threshold(thresholds).tolist() == [1, 1, 65, 1025]
    # mantissas up to 4095: from 4096 on only even biases, above 8190 multiples of 4
    biases = torch.tensor([-4095.0, 4097.4, 8193.0, 524160.0, 0.0])
    assert target.round_bias(biases).tolist() == [-4095, 4098, 8192, 524160, 0]
    assert target.bias_max == 524160
    assert target.threshold_max == 131071 * 64 + 1


def test_plain_registers_round_to_integers():
    target = HardwareTarget.load("speck2f")
    assert target.round_threshold(torch.tensor([2.6])).tolist() == [3]
    assert target.round_bias(torch.tensor([-2.6])).tolist() == [-3]
    assert target.bias_max == 127


def test_arithmetic():
    loihi = HardwareTarget.load("loihi").arithmetic()
    assert loihi.integer
    assert (loihi.state_min, loihi.state_max) == (-(2**23) + 1, 2**23 - 1)
    assert (loihi.decay_bits, loihi.decay_rounding) == (12, "toward_zero")
    assert loihi.input_scale == 1 / 256
    assert HardwareTarget.load("speck2f").arithmetic().state_max == 2**15 - 1


def test_cells(population):
    loihi, speck = HardwareTarget.load("loihi"), HardwareTarget.load("speck2f")
    subtract, zero = population("a", (3,)), population("a", (3,), reset="zero")
    assert (loihi.cells(subtract), loihi.cells(zero), speck.cells(subtract)) == (2, 1, 1)
    assert loihi.cells(population("out", (3,), "readout")) == 1
    assert loihi.cells(population("in", (3,), "input")) == 0
