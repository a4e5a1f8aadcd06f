"""Rules that a chip description must keep: every limit has a check, and no two figures contradict each other."""

from collections.abc import Iterator
from typing import Any

from spikefit.errors import TargetError
from spikefit.hardware.chip_fields import LayerLimits, Limits, NeuronLimits, Weights
from spikefit.hardware.sourced_value import known

FAMILIES = ("memory", "crossbar", "layer_per_core", "single_core")

CHECKED_BY: dict[str, tuple[str, ...]] = {
    # Limits of the whole chip are checked for every family, by check_chip_capacity and check_supported_features.
    **dict.fromkeys(("neurons_per_chip", "synapses_per_chip", "inputs", "hidden_neurons", "outputs"), FAMILIES),
    **dict.fromkeys(("fan_in", "fan_out", "destination_layers"), FAMILIES),
    # Limits of cores are checked by the placement of the family.
    "cores": FAMILIES,
    "neurons_per_core": ("memory", "crossbar", "single_core"),
    "axons_in_per_core": ("memory", "crossbar", "single_core"),
    "axons_out_per_core": ("memory", "single_core"),
    "axons_out_per_neuron": ("memory", "crossbar"),
    "synapse_bits_per_core": ("memory", "single_core"),
    "threshold_configurations_per_core": ("memory", "single_core"),
    "decay_configurations_per_core": ("memory", "single_core"),
    "kernel_entries": ("layer_per_core",),
    "neuron_entries": ("layer_per_core",),
    "bias_entries": ("layer_per_core",),
}
"""The families of chips for which each field of ``Limits`` is checked."""

_LISTS = ("kernel_entries", "neuron_entries", "bias_entries")


def refuse_unchecked(family: str, limits: Limits, file: str) -> None:
    """Raise :class:`TargetError` for a known limit that chips of ``family`` are not checked for.

    Cores of a ``layer_per_core`` chip must say how large they are: without sizes every layer would fit.
    """
    checked = [name for name, families in CHECKED_BY.items() if family in families]
    for name, families in CHECKED_BY.items():
        value = known(getattr(limits, name))
        if value is not None and name not in checked:
            raise TargetError(
                f"{file}: limits.{name}.value: got {_plain(value)!r}, but the family {family} can't check this limit; "
                f"expected one of {', '.join(checked)}, or a placement.family among {', '.join(families)}."
            )
    for name in _LISTS[:2] if family == "layer_per_core" else ():
        if getattr(limits, name) is None:
            raise TargetError(
                f"{file}: limits.{name}: missing field; the family layer_per_core needs the size of each core, "
                "or value: null if nobody published it."
            )


def refuse_contradictions(
    limits: Limits, weights: Weights, neuron: NeuronLimits, layers: LayerLimits, file: str
) -> None:
    """Raise :class:`TargetError` for figures that can't hold together; names field, value and what is allowed."""
    for rules in (_ranges(weights, neuron, layers), _sizes(limits), _weights(weights), _neurons(neuron)):
        for field, value, allowed in rules:
            raise TargetError(f"{file}: {field}.value: got {_plain(value)!r}, expected {allowed}.")


Rule = tuple[str, Any, str]


def _ranges(weights: Weights, neuron: NeuronLimits, layers: LayerLimits) -> Iterator[Rule]:
    """Minima above their maxima, and ranges that only one of their ends defines."""
    pairs: list[tuple[str, Any, tuple[str, ...]]] = [
        ("weights", weights, ("", "exponent_")),
        ("neuron", neuron, ("threshold_", "bias_", "state_")),
        ("layers", layers, ("input_",)),
    ]
    for section, content, names in pairs:
        for name in names:
            low, high = known(getattr(content, f"{name}min")), known(getattr(content, f"{name}max"))
            lower, upper = f"{section}.{name}min", f"{section}.{name}max"
            if name == "exponent_" and low is not None and high is None:
                high = 0  # a chip without a largest exponent has none
            if low is not None and high is not None and low > high:
                yield lower, low, f"at most {upper}, which is {high}"
            if name == "state_" and (low is None) != (high is None):
                known_end, other = (upper, lower) if low is None else (lower, upper)
                yield known_end, high if low is None else low, f"{other} as well, or neither of the two"
            if name == "input_" and low is not None and high is None:
                yield lower, low, f"{upper} as well"
            if name == "input_" and high is not None and high < 1:
                yield upper, high, "at least 1: the chip would read nothing"


def _sizes(limits: Limits) -> Iterator[Rule]:
    """Lists of memory sizes whose lengths differ from the number of cores or from each other."""
    lists = {name: values for name in _LISTS if (values := known(getattr(limits, name))) is not None}
    cores, first = known(limits.cores), next(iter(lists), None)
    for name, values in lists.items():
        if cores is not None and len(values) != cores:
            yield f"limits.{name}", values, f"a list with one entry for each of the {cores} cores"
        if first is not None and len(values) != len(lists[first]):
            yield f"limits.{name}", values, f"as many entries as limits.{first}, which has {len(lists[first])}"


def _weights(weights: Weights) -> Iterator[Rule]:
    """A range without weights, or of more integers than the widest width tells apart."""
    low, high, bits = known(weights.min), known(weights.max), max(known(weights.bits) or (0,))
    if low == high == 0:
        yield "weights.max", high, "a range with a weight other than 0, which is no synapse"
    if low is not None and high is not None and high - low + 1 > 2**bits:
        yield "weights.max", high, f"{low} to {high} to be at most {2**bits} integers, which {bits} bits tell apart"


def _neurons(neuron: NeuronLimits) -> Iterator[Rule]:
    """Registers that hold no value, and neurons that can't start or reset."""
    low, high = known(neuron.state_min), known(neuron.state_max)
    for name, end, inside in (("state_min", low, "at most"), ("state_max", high, "at least")):
        if end is not None and (end > 0 if name == "state_min" else end < 0):
            yield f"neuron.{name}", end, f"{inside} 0, where a membrane begins"
    smallest = known(neuron.threshold_min)
    if high is not None and smallest is not None and smallest > high:
        yield "neuron.threshold_min", smallest, f"at most neuron.state_max, which is {high}: no membrane gets there"
    low, high, step = known(neuron.threshold_min), known(neuron.threshold_max), known(neuron.threshold_step)
    offset = known(neuron.threshold_offset)
    if low is not None and high is not None and step is not None:
        start = 0 if offset is None else offset
        above = max(low, 1)  # a threshold of 0 fires in every step
        if above + (start - above) % step > high:
            yield "neuron.threshold_step", step, f"a threshold {start} + k * {step} from {above} to {high}"
    if known(neuron.models) and not known(neuron.resets):
        yield "neuron.resets", known(neuron.resets), "at least one reset for the models of neuron.models"
    if known(neuron.shift_max) is not None and known(neuron.decay) != "shift":
        yield "neuron.shift_max", known(neuron.shift_max), "neuron.decay to be shift, which alone has this register"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
