"""Figures of a chip that contradict each other are refused when it is loaded."""

import pytest
from helpers.own_chip import own_chip, own_content

from spikefit.errors import TargetError
from spikefit.hardware.target import HardwareTarget

CASES = [
    ({"weights": {"min": 5, "max": -5}}, r"weights\.min\.value: got 5, expected at most weights\.max, which is -5"),
    ({"weights": {"bits": [2, 3], "min": -100, "max": 100}}, r"weights\.max\.value: got 100, expected -100 to 100"),
    ({"weights": {"min": 0, "max": 0}}, r"weights\.max\.value: got 0, expected a range with a weight other than 0"),
    (
        {"weights": {"min": -(2**70), "max": 3}},
        r"weights\.min\.value: got -\d+, expected an integer of at most 64",
    ),
    ({"weights": {"exponent_min": 3}}, r"weights\.exponent_min\.value: got 3, expected at most weights\.exponent_max"),
    ({"weights": {"exponent_min": 3, "exponent_max": 2}}, r"weights\.exponent_min\.value: got 3"),
    ({"neuron": {"threshold_min": 9, "threshold_max": 5}}, r"neuron\.threshold_min\.value: got 9"),
    ({"neuron": {"bias_min": 1, "bias_max": 0}}, r"neuron\.bias_min\.value: got 1"),
    ({"neuron": {"state_min": 9, "state_max": 5}}, r"neuron\.state_min\.value: got 9"),
    ({"neuron": {"state_min": 1, "state_max": 5}}, r"neuron\.state_min\.value: got 1, expected at most 0"),
    ({"neuron": {"state_min": -5, "state_max": -1}}, r"neuron\.state_max\.value: got -1, expected at least 0"),
    (
        {"neuron": {"state_min": -5, "state_max": 5, "threshold_min": 6}},
        r"neuron\.threshold_min\.value: got 6, expected at most neuron\.state_max, which is 5",
    ),
    ({"neuron": {"state_max": 5}}, r"neuron\.state_max\.value: got 5, expected neuron\.state_min as well"),
    ({"neuron": {"threshold_step": 0}}, r"neuron\.threshold_step\.value: got 0, expected an integer of at least 1"),
    (
        {"neuron": {"threshold_min": 2, "threshold_max": 60, "threshold_step": 64, "threshold_offset": 1}},
        r"neuron\.threshold_step\.value: got 64, expected a threshold 1 \+ k \* 64 from 2 to 60",
    ),
    (
        {"neuron": {"threshold_min": 0, "threshold_max": 60, "threshold_step": 64}},
        r"neuron\.threshold_step\.value: got 64, expected a threshold 0 \+ k \* 64 from 1 to 60",
    ),
    ({"neuron": {"bias_mantissa_max": 0}}, r"neuron\.bias_mantissa_max\.value: got 0, expected an integer of at"),
    ({"neuron": {"cells_for_subtract": 0}}, r"neuron\.cells_for_subtract\.value: got 0, expected an integer of at"),
    ({"neuron": {"spikes_max": 0}}, r"neuron\.spikes_max\.value: got 0"),
    ({"neuron": {"decay": "shift", "shift_max": 0}}, r"neuron\.shift_max\.value: got 0"),
    ({"neuron": {"shift_max": 4}}, r"neuron\.shift_max\.value: got 4, expected neuron\.decay to be shift"),
    ({"neuron": {"resets": []}}, r"neuron\.resets\.value: got \[\], expected at least one reset"),
    ({"layers": {"input_scale": 0}}, r"layers\.input_scale\.value: got 0, expected a number above 0"),
    ({"layers": {"input_min": 4, "input_max": 3}}, r"layers\.input_min\.value: got 4"),
    ({"layers": {"input_min": -4}}, r"layers\.input_min\.value: got -4, expected layers\.input_max as well"),
    ({"layers": {"input_max": 0}}, r"layers\.input_max\.value: got 0, expected at least 1"),
    ({"layers": {"strides": [0, 1]}}, r"layers\.strides\.value: got \[0, 1\], expected a list, each an integer of at"),
    ({"energy": {"time_step_s": 0.0}}, r"energy\.time_step_s\.value: got 0\.0, expected a number above 0"),
    ({"limits": {"cores": 0}}, r"limits\.cores\.value: got 0, expected an integer of at least 1"),
    (
        {"weights": {"unique_values": {"count": 0, "scope": "core", "zero_is_free": True}}},
        r"weights\.unique_values\.count\.value: got 0, expected an integer of at least 1",
    ),
]


@pytest.mark.parametrize(("sections", "message"), CASES)
@pytest.mark.parametrize("family", ["memory", "layer_per_core"])
def test_figures_that_can_not_hold_together(sections, message, family):
    with pytest.raises(TargetError, match=rf"^own\.yaml: {message}"):
        own_chip(family, **sections)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"cores": 3, "kernel_entries": [5, 5]}, r"kernel_entries\.value: got \[5, 5\], expected .* the 3 cores"),
        (
            {"kernel_entries": [5, 5], "bias_entries": [5]},
            r"bias_entries\.value: got \[5\], expected as many entries as limits\.kernel_entries, which has 2",
        ),
    ],
)
def test_sizes_of_different_numbers_of_cores(limits, message):
    with pytest.raises(TargetError, match=message):
        own_chip("layer_per_core", limits=limits)


@pytest.mark.parametrize("name", ["kernel_entries", "neuron_entries"])
def test_a_chip_with_one_layer_a_core_names_the_sizes_of_its_cores(name):
    """Without sizes every layer would fit; sizes that nobody published are reported as unknown."""
    content = own_content("layer_per_core")
    HardwareTarget.from_dict(content, "own")
    del content["limits"][name]
    with pytest.raises(TargetError, match=rf"own\.yaml: limits\.{name}: missing field; .* value: null"):
        HardwareTarget.from_dict(content, "own", "own.yaml")
