"""Every limit that a chip names is enforced: random networks just within and just beyond it, counted by brute force.

A chip without limits accepts each network; then one limit is set to a random value near what the network needs.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.own_chip import own_chip
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikefit.errors import TargetError
from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.chip_fields import Limits
from spikefit.hardware.chip_rules import CHECKED_BY, FAMILIES
from spikefit.hardware.finding import Finding
from spikefit.hardware.placement import place
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program, Projection

BITS = 8
Matrix = np.ndarray


@dataclasses.dataclass
class Case:
    """A program, and its synapses as a matrix ``[target, source]`` per layer."""

    program: Program
    synapses: list[Matrix]

    @property
    def sizes(self) -> list[int]:
        """Neurons of each layer."""
        return [len(matrix) for matrix in self.synapses]


def findings(target: HardwareTarget, program: Program) -> list[Finding]:
    return [*check(target, program), *place(target, program, hops=False).findings]


@st.composite
def layers(draw: st.DrawFn, depth: int | None = None) -> list[tuple[Tensor, dict[str, Any], dict[str, Any]]]:
    """One to three layers, on a map of 4 x 4 or on 5 inputs; weights are few integers, many of them 0."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    values = torch.tensor(draw(st.sampled_from([[1], [0, 2], [0, 0, 1, 3], [0, -3, 1, 2]])))
    conv, channels = draw(st.booleans()), draw(st.integers(1, 2))
    source = channels * 16 if conv else 5

    def weights(*shape: int) -> Tensor:
        drawn = values[torch.randint(len(values), shape, generator=generator)]
        drawn.view(-1)[0] = values[-1]  # never without a synapse
        return drawn

    def neurons(units: int) -> dict[str, Any]:
        constants = {name: torch.randint(1, 4, (units,), generator=generator) for name in ("threshold", "leak", "bias")}
        return {**constants, "model": "lif", "reset": draw(st.sampled_from(["subtract", "zero"]))}

    found = []
    for number in range(depth or draw(st.integers(1, 3))):
        units = draw(st.integers(1, 4))
        if conv and number == 0:
            kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
            options = {"padding": (kernel // 2, kernel // 2), "stride": (stride, stride), "bits": BITS}
            weight = weights(units, channels, kernel, kernel)
            found.append((weight, options, neurons(units)))
            source = units * ((4 + 2 * (kernel // 2) - kernel) // stride + 1) ** 2
        else:
            found.append((weights(units, source), {"bits": BITS}, neurons(units)))
            source = units
    return found


def built(chain: Callable[..., Program], matrix: Callable[..., Tensor], wired: list[Any]) -> Case:
    first = wired[0][0]
    program = chain((first.shape[1], 4, 4) if first.dim() == 4 else (first.shape[1],), *wired)
    return Case(program, [matrix(program, projection).numpy() for projection in program.projections])


def cells(case: Case, layer: int, for_subtract: int = 1) -> int:
    return case.sizes[layer] * (for_subtract if case.program.populations[layer + 1].reset == "subtract" else 1)


def on_cores(family: str, amounts: list[int]) -> int:
    """What the fullest core needs: a core holds one layer, or on a single core, all."""
    return sum(amounts) if family == "single_core" else max(amounts)


def axons_in(case: Case, family: str) -> int:
    if family == "crossbar":  # an axon for each source and value
        return max(sum(len(set(column[column != 0])) for column in matrix.T) for matrix in case.synapses)
    return on_cores(family, [int((matrix != 0).any(axis=0).sum()) for matrix in case.synapses])


def axons_out(case: Case, family: str) -> int:
    leaving = [int((matrix != 0).any(axis=0).sum()) for matrix in case.synapses[1:]]
    return on_cores(family, [*leaving, 0])


def axons_out_per_neuron(case: Case, family: str) -> int:
    """Axons of the next layer's core that the busiest neuron needs; on a crossbar one for each of its values."""
    columns = [column[column != 0] for matrix in case.synapses[1:] for column in matrix.T]
    return max((len(set(c)) if family == "crossbar" else min(1, len(c)) for c in columns), default=0)


def distinct(case: Case, family: str, constant: str) -> int:
    per_layer = [set(getattr(population, constant).tolist()) for population in case.program.populations[1:]]
    return len(set.union(*per_layer)) if family == "single_core" else max(map(len, per_layer))


def two_to(number: int) -> int:
    return 2 ** math.ceil(math.log2(number))


def kernel_entries(case: Case) -> int:
    shapes = []
    for projection, matrix in zip(case.program.projections, case.synapses, strict=True):
        before = case.program.population(projection.source).shape
        taps = projection.weight.shape[2:] if projection.kind == "conv" else before[1:]
        shapes.append(before[0] * two_to(math.prod(taps)) * two_to(projection.weight.shape[0]))
        assert matrix.size
    return max(shapes)


def neuron_entries(case: Case) -> int:
    shapes = [population.shape for population in case.program.populations[1:]]
    return max(shape[0] * math.prod(two_to(side) for side in shape[1:]) for shape in shapes)


NEEDED: dict[str, Callable[[Case, str], int]] = {
    "cores": lambda case, family: 1 if family == "single_core" else len(case.sizes),
    "neurons_per_core": lambda case, family: on_cores(family, case.sizes),
    "neurons_per_chip": lambda case, family: sum(case.sizes),
    "inputs": lambda case, family: case.synapses[0].shape[1],
    "hidden_neurons": lambda case, family: sum(case.sizes[:-1]),
    "outputs": lambda case, family: case.sizes[-1],
    "synapses_per_chip": lambda case, family: sum(int((matrix != 0).sum()) for matrix in case.synapses),
    "fan_in": lambda case, family: max(int((matrix != 0).sum(axis=1).max()) for matrix in case.synapses),
    "fan_out": lambda case, family: max(int((matrix != 0).sum(axis=0).max()) for matrix in case.synapses),
    "axons_in_per_core": axons_in,
    "axons_out_per_core": axons_out,
    "axons_out_per_neuron": axons_out_per_neuron,
    "synapse_bits_per_core": lambda case, family: BITS * on_cores(family, [int((m != 0).sum()) for m in case.synapses]),
    "threshold_configurations_per_core": lambda case, family: distinct(case, family, "threshold"),
    "decay_configurations_per_core": lambda case, family: distinct(case, family, "leak"),
    "destination_layers": lambda case, family: 1,
    "kernel_entries": lambda case, family: kernel_entries(case),
    "neuron_entries": lambda case, family: neuron_entries(case),
    "bias_entries": lambda case, family: max(p.shape[0] for p in case.program.populations[1:]),
}


def test_each_limit_says_who_checks_it():
    fields = {entry.name for entry in dataclasses.fields(Limits)}
    assert set(CHECKED_BY) == set(NEEDED) == fields
    assert all(families and set(families) <= set(FAMILIES) for families in CHECKED_BY.values())


@pytest.mark.parametrize("limit", CHECKED_BY)
@given(wired=layers(), data=st.data())
@settings(max_examples=20)
def test_a_limit_holds_to_the_unit(chain, matrix, limit, wired, data):
    """The chip has as many cores as the network has layers, so that what a layer needs must fit a core."""
    family = data.draw(st.sampled_from(CHECKED_BY[limit]))
    case = built(chain, matrix, wired)
    needed = NEEDED[limit](case, family)
    cores = {"cores": len(case.sizes)}
    assert findings(own_chip(family, limits=cores), case.program) == []
    value = max(int(limit == "cores"), needed + data.draw(st.integers(-3, 2)))
    entries = [value] * len(case.sizes) if limit.endswith("_entries") else value
    found = findings(own_chip(family, limits={**cores, limit: entries}), case.program)
    assert bool(found) == (needed > value), [str(finding) for finding in found]


@pytest.mark.parametrize("limit", CHECKED_BY)
def test_a_family_that_can_not_check_a_limit_refuses_it(limit):
    for family in set(FAMILIES) - set(CHECKED_BY[limit]):
        entries = [5] if limit.endswith("_entries") else 5
        with pytest.raises(TargetError, match=f"limits.{limit}.value: got .*the family {family} can't check this"):
            own_chip(family, limits={limit: entries})
        own_chip(family, limits={limit: None})


@given(wired=layers(), for_subtract=st.integers(1, 3), slack=st.integers(-1, 1), family=st.sampled_from(FAMILIES))
@settings(max_examples=40)
def test_neurons_that_take_several_cells(chain, matrix, wired, for_subtract, slack, family):
    case = built(chain, matrix, wired)
    amounts = [cells(case, layer, for_subtract) for layer in range(len(case.sizes))]
    limits: dict[str, Any] = {"cores": len(case.sizes)}
    if family == "layer_per_core":
        limits["neurons_per_chip"] = sum(amounts) + slack
    else:
        limits["neurons_per_core"] = on_cores(family, amounts) + slack
    found = findings(own_chip(family, limits=limits, neuron={"cells_for_subtract": for_subtract}), case.program)
    assert bool(found) == (slack < 0)
    several = {"cells_for_subtract": for_subtract}
    exact = {"hidden_neurons": sum(amounts[:-1]), "outputs": amounts[-1]}
    assert findings(own_chip(family, limits=exact, neuron=several), case.program) == []
    assert findings(own_chip(family, limits={"outputs": amounts[-1] - 1}, neuron=several), case.program) != []


@given(wired=layers(), free=st.booleans(), scope=st.sampled_from(["neuron", "core", "layer"]), data=st.data())
@settings(max_examples=60)
def test_distinct_weights_of_each_scope(chain, matrix, wired, free, scope, data):
    family = data.draw(st.sampled_from(FAMILIES))
    case = built(chain, matrix, wired)
    stored = [projection.weight.flatten(1).numpy() for projection in case.program.projections]

    def values(weights: Matrix) -> set[int]:
        return set(weights.flatten().tolist()) - ({0} if free else set())

    if scope == "neuron":
        needed = max(len(values(row)) for weight in stored for row in weight)
    elif scope == "core" and family == "single_core":
        needed = len(set().union(*map(values, stored)))
    else:
        needed = max(len(values(weight)) for weight in stored)
    count = max(1, needed + data.draw(st.integers(-2, 1)))
    rule = {"count": count, "scope": scope, "zero_is_free": free}
    found = findings(own_chip(family, weights={"unique_values": rule}), case.program)
    wrong = [finding for finding in found if finding.limit.startswith("unique weights")]
    assert bool(wrong) == (needed > count)
    assert bool(found) == bool(wrong)


@given(wired=layers(), family=st.sampled_from(FAMILIES))
@settings(max_examples=30)
def test_signs_and_ranges_of_weights(chain, matrix, wired, family):
    case = built(chain, matrix, wired)
    mixed = any((column > 0).any() and (column < 0).any() for matrix in case.synapses for column in matrix.T)
    assert bool(findings(own_chip(family, weights={"sign_by_source": True}), case.program)) == mixed
    low = min(int(projection.weight.min()) for projection in case.program.projections)
    high = max(int(projection.weight.max()) for projection in case.program.projections)
    for smallest, largest, fits in ((low, high, True), (low + 1, high + 2, False), (low - 2, high - 1, False)):
        chip = own_chip(family, weights={"min": smallest, "max": largest})
        assert bool(findings(chip, case.program)) == (not fits)


def test_signs_count_over_all_targets_of_a_source(chain, population):
    """One projection excites, another one inhibits: the source has both signs."""
    one = torch.ones(1, 2, dtype=torch.int64)
    program = chain((2,), (one, {"bits": BITS}, {}), (one[:, :1], {"bits": BITS}, {}))
    skip = Projection("l2.skip", "input", "l2", "dense", -one, bits=BITS)
    program = dataclasses.replace(program, projections=(*program.projections, skip))
    (finding,) = check(own_chip("memory", weights={"sign_by_source": True}), program)
    assert (finding.limit, finding.where) == ("signs per source", "l1, l2.skip")


REGISTERS = [
    ({"threshold": 5}, {"threshold_min": 6, "threshold_max": 9}, {"threshold_min": 5, "threshold_max": 5}),
    ({"threshold": 5}, {"threshold_max": 4}, {"threshold_max": 5}),
    ({"threshold": 5}, {"threshold_step": 4}, {"threshold_step": 4, "threshold_offset": 1}),
    ({"bias": -3}, {"bias_min": -2}, {"bias_min": -3}),
    ({"bias": 3}, {"bias_max": 2}, {"bias_max": 3}),
    ({"bias": 9}, {"bias_mantissa_max": 7}, {"bias_mantissa_max": 9}),
    ({"leak": 9, "model": "linear_leak_if"}, {"leak_max": 8}, {"leak_max": 9}),
    ({"leak": 9, "model": "lif"}, {"decay_bits": 3}, {"decay_bits": 4}),
    ({"leak": 9, "model": "lif"}, {"decay": "shift", "shift_max": 8}, {"decay": "shift", "shift_max": 9}),
    ({"max_spikes": 3}, {"spikes_max": 2}, {"spikes_max": 3}),
    ({"reset": "zero"}, {"resets": ["subtract"]}, {"resets": ["zero"]}),
    ({"model": "lif"}, {"models": ["if"]}, {"models": ["lif"]}),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("constants", "too_small", "enough"), REGISTERS)
def test_registers_of_a_neuron(chain, constants, too_small, enough, family):
    constants = {
        name: torch.tensor([v]) if name in ("threshold", "bias", "leak") else v for name, v in constants.items()
    }
    program = chain((2,), (torch.ones(1, 2, dtype=torch.int64), {"bits": BITS}, constants))
    roomy = {"spikes_max": 9}
    assert len(findings(own_chip(family, neuron={**roomy, **too_small}), program)) == 1
    assert findings(own_chip(family, neuron={**roomy, **enough}), program) == []


MAP = torch.ones(3, 1, 3, 3, dtype=torch.int64)
LAYERS = [
    ({}, {"kernel_max": 2}, {"kernel_max": 3}),
    ({"stride": (2, 2)}, {"strides": [1, 4]}, {"strides": [2]}),
    ({"padding": (2, 2)}, {"padding_max": 1}, {"padding_max": 2}),
    ({"dilation": (2, 2)}, {"dilation_max": 1}, {"dilation_max": 2}),
    ({"pool": 2}, {"pool_sizes": [1, 4]}, {"pool_sizes": [2]}),
    ({}, {"input_size_max": 7}, {"input_size_max": 8}),
    ({}, {"output_size_max": 5}, {"output_size_max": 6}),
    ({}, {"channels_max": 2}, {"channels_max": 3}),
    ({}, {"kinds": ["dense"]}, {"kinds": ["conv"]}),
    ({}, {"readouts": ["membrane"]}, {"readouts": ["spikes"]}),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("wiring", "too_small", "enough"), LAYERS)
def test_limits_of_a_layer(chain, wiring, too_small, enough, family):
    program = chain((1, 8, 8), (MAP, {"bits": BITS, **wiring}, {}))
    assert len(findings(own_chip(family, layers=too_small), program)) == 1
    assert findings(own_chip(family, layers=enough), program) == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("wiring", "too_small", "enough"),
    [
        ({"bits": 6}, {"bits": [4, 8]}, {"bits": [6]}),
        ({"bits": 6, "exponent": 1}, {"exponent_max": 0}, {"exponent_max": 1}),
        ({"bits": 6}, {"exponent_min": 1, "exponent_max": 2}, {"exponent_min": 0}),
    ],
)
def test_widths_and_exponents(chain, wiring, too_small, enough, family):
    program = chain((2,), (torch.full((1, 2), 2), wiring, {}))
    narrow = {"bits": [6], "min": -4, "max": 3}
    assert len(findings(own_chip(family, weights={**narrow, **too_small}), program)) == 1
    assert findings(own_chip(family, weights={**narrow, **enough}), program) == []
