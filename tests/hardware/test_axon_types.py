"""Placement on crossbars of projections that define the types of their inputs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefit.errors import ConfigurationError
from spikefit.hardware.check_chip_capacity import check
from spikefit.hardware.placement import Placement, place
from spikefit.hardware.sourced_value import SourcedValue
from spikefit.hardware.target import HardwareTarget
from spikefit.program.ir import Program, Projection
from spikefit.quantize import AxonCodebook, Codebook

TRUENORTH = HardwareTarget.load("truenorth")
Chain = Callable[..., Program]


def shrunk(**limits: int) -> HardwareTarget:
    figures = {name: SourcedValue(value, "test", "D") for name, value in limits.items()}
    return replace(TRUENORTH, limits=replace(TRUENORTH.limits, **figures))


def axons(placement: Placement) -> list[int]:
    return [round(core.utilisation["axons"] * 256) for core in placement.cores]


def random_weight(outputs: int, inputs: int) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))


def obeying(types: torch.Tensor, *shape: int, seed: int = 0) -> torch.Tensor:
    """Integers with one value an output and type where there is a synapse."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 100, (shape[0], int(types.max()) + 1), generator=generator)
    own = values[:, types].view(*shape[:2], *[1] * (len(shape) - 2))
    return own * (torch.rand(shape, generator=generator) < 0.7)


@pytest.mark.parametrize(("inputs", "typed", "copied"), [(256, 1, 200), (64, 1, 1)])
def test_fan_in_of_256_on_one_core(chain: Chain, inputs: int, typed: int, copied: int) -> None:
    """200 neurons with all inputs: types fit one core. Four values a layer need four axons a source, 256 / 4 = 64
    sources a core; with 256 sources each neuron fills a core alone."""
    weight = random_weight(200, inputs)
    quantizer = AxonCodebook(weight)
    wiring = {"bits": 9, "axon_types": quantizer.input_types()}  # TrueNorth stores 9 bits
    program = chain((inputs,), (quantizer.integers(weight).integer, wiring, {}))
    placement = place(TRUENORTH, program)
    assert (placement.findings, placement.cores_used, axons(placement)) == ((), typed, [inputs])
    assert check(TRUENORTH, program) == []
    plain = Codebook(weight, levels=4, bits=4, zero="none").integers(weight).integer
    placement = place(TRUENORTH, chain((inputs,), (plain, {"bits": 4}, {})))
    assert placement.cores_used == copied
    assert axons(placement) == [256] * copied


def test_a_convolution_has_a_type_a_channel(chain: Chain) -> None:
    """A tile of 3 x 3 sees 5 x 5 places of 10 channels, 250 axons: as with one value, for as many filters as fit."""
    types = torch.arange(10) % 4
    weight = obeying(types, 20, 10, 3, 3)
    placement = place(TRUENORTH, chain((10, 5, 5), (weight, {"axon_types": types}, {})))
    assert (placement.cores_used, axons(placement)) == (1, [250])
    assert place(TRUENORTH, chain((10, 5, 5), (weight, {}, {}))).cores_used > 1


def test_a_dense_layer_behind_pooled_maps_counts_every_neuron_of_a_window(chain: Chain) -> None:
    """4 maps of 8 x 8 pooled to 4 x 4: 64 inputs in their flattened order, 4 neurons each, 256 axons."""
    types = torch.arange(64) % 4
    weight = obeying(types, 30, 64)
    weight[:, 5] = 0
    placement = place(TRUENORTH, chain((4, 8, 8), (weight, {"axon_types": types, "pool": 2}, {})))
    assert (placement.cores_used, axons(placement)) == (1, [4 * 63])


@given(st.integers(0, 2**16), st.integers(1, 2), st.sampled_from([1, 2]), st.integers(40, 120))
@settings(max_examples=20)
def test_a_core_has_one_axon_for_each_source_that_reaches_it(
    chain: Chain, matrix: Callable[..., torch.Tensor], seed: int, groups: int, pool: int, size: int
) -> None:
    """Against the whole matrix of weights: the sources of a core's neurons, each counted once."""
    types = torch.randint(4, (4 // groups,), generator=torch.Generator().manual_seed(seed))
    weight = obeying(types, 6, 4 // groups, 3, 3, seed=seed)
    wiring = {"axon_types": types.repeat(groups), "groups": groups, "pool": pool, "padding": (1, 1)}
    program = chain((4, 6, 6), (weight, wiring, {}))
    placement = place(shrunk(axons_in_per_core=size, neurons_per_core=size), program)
    links = matrix(program, program.projections[0]) != 0
    assert bool(placement.unplaced) == (placement.cores_used == 0)
    for core in placement.cores:
        reached = links[torch.from_numpy(core.parts[0].neurons)].any(dim=0)
        assert core.utilisation["axons"] * size == pytest.approx(int(reached.sum()))


def test_weights_that_break_the_rule_are_refused(chain: Chain) -> None:
    """Output 1 has 2 and 3 for type 0; zeros and other outputs' values do no harm."""
    weight = torch.tensor([[5, 0, 1], [2, 3, 1]])
    with pytest.raises(ConfigurationError, match=r"axon_types.*l1.*output 1.*type 0"):
        place(TRUENORTH, chain((3,), (weight, {"axon_types": torch.tensor([0, 0, 1])}, {})))
    assert place(TRUENORTH, chain((3,), (weight, {"axon_types": torch.tensor([0, 2, 1])}, {}))).cores_used == 1


def with_shortcut(program: Program, weight: torch.Tensor, **options: Any) -> Program:
    shortcut = Projection("l2.skip", "input", "l2", "dense", weight, **options)
    return replace(program, projections=(*program.projections, shortcut))


def test_a_shortcut_takes_the_types_that_are_left(chain: Chain) -> None:
    """Types 0..2 of the layer and one value of the shortcut are four types: 40 + 40 axons. With two values of it there
    are five, but only three values in all; then a source has an axon for each value that it sends: 40 * 2 + 40 * 2."""
    types = torch.arange(40) % 3
    wide = torch.ones(40, 40, dtype=torch.int64)
    weight = torch.tensor([1, 2, 1]).roll(1)[types] * wide  # one value for a type, the same in every output
    weight[1::2] = torch.tensor([1, 2, 1])[types]  # types 0 and 1 swap their values in every other output
    program = chain((40,), (wide, {}, {}), (weight, {"axon_types": types}, {}))

    def axons_of_l2(program: Program) -> int:
        (core,) = [core for core in place(TRUENORTH, program).cores if core.populations == ("l2",)]
        return round(core.utilisation["axons"] * 256)

    assert axons_of_l2(program) == 40
    assert axons_of_l2(with_shortcut(program, 7 * wide)) == 80
    two = wide.clone()
    two[::2] = 2
    sent = sum(len(set(column.tolist())) for column in [*weight.T, *two.T])
    assert axons_of_l2(with_shortcut(program, two)) == sent > 80
    carried = with_shortcut(program, two, axon_types=torch.zeros(40, dtype=torch.int64))
    assert axons_of_l2(carried) == 80


def test_more_types_than_the_chip_has_are_placed_by_value(chain: Chain) -> None:
    """Six types with one value in all: a source needs one axon, and the check finds no fault."""
    program = chain((6,), (torch.full((3, 6), 9), {"axon_types": torch.arange(6)}, {}))
    assert (place(TRUENORTH, program).findings, axons(place(TRUENORTH, program))) == ((), [6])
    weight = torch.arange(1, 7).expand(3, 6)
    limits = [finding.limit for finding in check(TRUENORTH, chain((6,), (weight, {"axon_types": torch.arange(6)}, {})))]
    assert "unique weights per neuron" in limits


def test_a_chip_with_too_few_cores_names_the_layers_whose_axons_are_copied(chain: Chain) -> None:
    """Layer 1 uses four values, layer 2 carries its types, layer 3 has one value."""
    types = torch.arange(200) % 4
    plain = torch.randint(1, 5, (200, 200), generator=torch.Generator().manual_seed(0))
    layers = ((plain, {}, {}), (obeying(types, 200, 200), {"axon_types": types}, {}), (torch.ones(9, 200), {}, {}))
    (finding,) = place(shrunk(cores=5), chain((200,), *layers)).findings
    assert finding.remedy.endswith("use codebook scope axon (spikefit.quantize.AxonCodebook) in l1")
    (finding,) = place(shrunk(cores=1), chain((200,), *layers[1:])).findings
    assert "AxonCodebook" not in finding.remedy
