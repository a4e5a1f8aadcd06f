"""Layouts of weights: exact, and the smallest by a count in plain Python."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spikefit.errors import BundleError
from spikefit.program.bit_packing import Packed
from spikefit.program.ir import Population, Program, Projection
from spikefit.program.storage import describe, pack_weights, rebuild, unpack_weights
from spikefit.program.stored_weights import from_weights


def projection(weight, group_of_output=None, axon_types=None, **options):
    codebook = None if group_of_output is None else from_weights(weight, group_of_output)
    kind = "conv" if weight.dim() == 4 else "dense"
    return Projection("l1", "input", "l1", kind, weight, axon_types=axon_types, codebook=codebook, **options)


def width_of(values):
    """Bytes of the narrowest signed integer for ``values``."""
    return next(size for size in (1, 2, 4, 8) if all(-(2 ** (8 * size - 1)) <= v < 2 ** (8 * size - 1) for v in values))


def layout_sizes(rows, groups, types):
    """Bytes of each layout of integer ``rows`` (lists), by its definition."""
    divisor = math.gcd(*(v for row in rows for v in row)) or 1
    rows = [[v // divisor for v in row] for row in rows]
    flat, count = [v for row in rows for v in row], sum(map(len, rows))
    sizes = {"plain": count * width_of(flat)}

    def tables(sets):
        longest = max(map(len, sets))
        bits = count * math.ceil(math.log2(longest))
        return len(sets) * longest * width_of(flat) + math.ceil(bits / 8)

    sizes["codebook"] = tables([set(flat)])
    sizes["row_codebook"] = tables([set(row) for row in rows])
    if groups is not None:
        numbered = list(zip(rows, groups, strict=True))
        own = [{v for row, g in numbered if g == group for v in row} for group in range(max(groups) + 1)]
        sizes["group_codebook"] = tables(own)
    if types is not None:
        wide = width_of([0, *flat])
        sizes["axon"] = len(rows) * (max(types) + 1) * wide + math.ceil(count / 8)
    return sizes


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    outputs=st.integers(1, 12),
    columns=st.integers(1, 40),
    levels=st.integers(1, 9),
    reach=st.sampled_from([3, 100, 1000, 10**6]),
    groups=st.integers(0, 4),
    kinds=st.integers(0, 3),
)
@example(seed=0, outputs=12, columns=40, levels=1, reach=3, groups=0, kinds=0)
def test_the_smallest_layout_is_taken_and_gives_the_weights(seed, outputs, columns, levels, reach, groups, kinds):
    """Random integers; with ``groups`` or ``kinds`` (of inputs) each group, or each output and kind, has its own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(high, shape, generator=generator)

    group = draw(groups, outputs).sort().values.unique(return_inverse=True)[1] if groups else None
    types = draw(kinds, columns) if kinds else None
    if types is not None:
        weight = (draw(2 * reach, outputs, kinds) - reach)[:, types] * draw(2, outputs, columns)
    else:
        table = draw(2 * reach, outputs if group is None else groups, levels) - reach
        weight = table[torch.arange(outputs) if group is None else group].gather(1, draw(levels, outputs, columns))
    packed = pack_weights(projection(weight, group, types))
    rows = weight.tolist()
    sizes = layout_sizes(rows, None if group is None else group.tolist(), None if types is None else types.tolist())
    assert packed.bytes == min(sizes.values()) == sizes[packed.layout]
    assert torch.equal(unpack_weights(packed, types, group), weight)
    assert unpack_weights(packed, types, group).dtype == torch.int64
    if packed.layout == "plain":
        assert packed.index_bits == 8 * packed.bytes
    else:
        assert packed.index_bits == outputs * columns * packed.bits


def by_hand(weight, **options):
    return pack_weights(projection(torch.as_tensor(weight), **options))


def test_one_table_for_the_layer():
    """40 weights of 3 values: 40 indices of 2 bits and 3 bytes; and of one value alone: a byte."""
    packed = by_hand([[-100, 7, 100, 7]] * 10)
    assert (packed.layout, packed.bits, packed.bytes) == ("codebook", 2, 10 + 3)
    assert by_hand([[300] * 50] * 4).bytes == 1, "once the factor of 300, and a 1"


def test_a_common_factor_is_stored_once():
    """The integers -8 to 7 with a gain of 3 and a shift by 6 stay a byte wide, in a table or as they are."""
    weight = torch.arange(-8, 8).repeat(4, 10) * 3 * 2**6
    packed = by_hand(weight)
    assert (packed.layout, packed.factor, packed.bytes) == ("codebook", 192, 16 + 640 // 2)
    assert torch.equal(unpack_weights(packed, None, None), weight)
    few = by_hand(weight[:1, :16])
    assert (few.layout, few.factor, few.bytes) == ("plain", 192, 16)
    assert torch.equal(unpack_weights(few, None, None), weight[:1, :16])
    assert by_hand([[0, 0]]).factor == 1
    assert by_hand([[-6, 9]]).factor == 3


def test_a_table_for_every_output():
    """Rows of 64 weights and 2 values each, 6 values in all: one bit a weight, 3 tables of 2 bytes."""
    packed = by_hand([[-8 - row, 7 + row] * 32 for row in range(3)])
    assert (packed.layout, packed.bits, packed.bytes) == ("row_codebook", 1, 3 * 2 + 24)


def test_a_table_for_every_core():
    """Two cores of 20 outputs with the values +-1 and +-3; each output alone would need 40 tables."""
    rows = [[-1, 1, 1, 1] * 8] * 20 + [[-3, 3, 3, 3] * 8] * 20
    packed = by_hand(rows, group_of_output=torch.arange(40) // 20)
    assert (packed.layout, packed.bits, packed.bytes) == ("group_codebook", 1, 4 + 160)


def test_types_leave_a_bit_a_synapse():
    """64 inputs of 2 types, 2 outputs: a bit a synapse and 4 values of a byte; groups of a convolution share types."""
    rows = [[5, 7] * 31 + [0, 0], [3, 0] + [3, 9] * 31]
    types = torch.tensor([0, 1] * 32)
    packed = by_hand(rows, axon_types=types)
    assert (packed.layout, packed.bits, packed.bytes) == ("axon", 1, 16 + 4)
    weight = (torch.tensor([[5, 7], [9, 3]])[:, types].view(2, 64, 1, 1) * torch.ones(1, 1, 3, 3)).long()
    weight[:, :, 0] = 0
    grouped = projection(weight, axon_types=types.repeat(2), groups=2)
    packed = pack_weights(grouped)
    assert (packed.layout, packed.bytes) == ("axon", 4 + 2 * 64 * 9 // 8)
    assert torch.equal(unpack_weights(packed, grouped.axon_types, None), weight)


def test_real_weights_lie_as_they_are():
    weight = torch.rand(3, 4, dtype=torch.float64)
    packed = by_hand(weight)
    assert (packed.layout, packed.bytes) == ("plain", 96)
    assert torch.equal(unpack_weights(packed, None, None), weight)


def program_of(content):
    outputs, inputs = content.weight.shape[:2]
    source = Population("input", (inputs,), "input")
    return Program((source, Population("l1", (outputs,), "readout", bias=torch.zeros(outputs))), (content,), 4)


def test_a_constant_of_all_channels_takes_one_value():
    def tensors(bias, leak):
        one = program_of(projection(torch.ones(1000, 2, dtype=torch.int64)))
        population = replace(one.populations[1], model="lif", bias=bias, leak=leak, synaptic_leak=leak)
        found = describe(replace(one, populations=(one.populations[0], population)))[1]
        return {
            name: sum(part.nbytes for key, part in found.items() if f"populations.1.{name}." in key)
            for name in ("bias", "leak", "synaptic_leak")
        }

    same = tensors(torch.full((1000,), 0.3, dtype=torch.float64), torch.full((1000,), 2048))
    assert same == {"bias": 8, "leak": 2, "synaptic_leak": 2}
    assert tensors(torch.arange(1000), torch.full((1000,), 5))["bias"] == 2000


def test_what_does_not_fit_together_is_refused():
    rows = torch.tensor([[-8 - row, 7 + row] * 32 for row in range(3)])
    packed = pack_weights(projection(rows))
    with pytest.raises(ValueError, match="row_codebook"):
        unpack_weights(replace(packed, shape=(4, 48)), None, None)
    with pytest.raises(ValueError, match="group_codebook"):
        unpack_weights(replace(packed, layout="group_codebook"), None, None)
    with pytest.raises(ValueError, match="types"):
        unpack_weights(replace(packed, layout="axon"), None, None)
    with pytest.raises(ValueError, match="an index of 1 into 1 values"):
        unpack_weights(Packed("row_codebook", "int64", (3, 64), 1, {**packed.parts, "values": rows[:, :1]}), None, None)


def test_a_codebook_of_other_weights_is_refused():
    weight = torch.tensor([[1, 2], [3, 4]])
    wrong = Projection("l1", "input", "l1", "dense", weight + 1, codebook=from_weights(weight))
    with pytest.raises(BundleError, match=r"program\.projections\.0\.weight: .*codebook"):
        describe(program_of(wrong))
    with pytest.raises(BundleError, match=r"program\.projections\.0\.weight: .*complex64"):
        describe(program_of(projection(torch.zeros(2, 2, dtype=torch.complex64))))


def test_a_description_gives_the_program_back():
    weight = torch.tensor([[1, 2], [3, 0], [3, 1]])
    written = program_of(projection(weight, torch.tensor([0, 1, 1])))
    read = rebuild(*describe(written)).projections[0]
    assert torch.equal(read.weight, weight)
    assert read.codebook.group_of_output.tolist() == [0, 1, 1]
    assert read.codebook.values.tolist() == [[1, 2, 2], [0, 1, 3]]
