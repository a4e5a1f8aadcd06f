"""Packed tensors are restored bit for bit, and take the bytes that their layout promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spikefit.program import bit_packing as packing
from spikefit.program.bit_packing import DTYPES, Packed, index_width, pack, pack_bits, unpack, unpack_bits


def same_bits(first, second):
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.numpy().tobytes() == second.numpy().tobytes()
    )


@settings(max_examples=60)
@given(width=st.integers(0, 20), count=st.integers(0, 70), seed=st.integers(0, 99))
def test_bits_are_those_of_python_s_integers(width, count, seed):
    """Reference: the indices written one after the other as binary text."""
    indices = np.random.default_rng(seed).integers(0, 2**width, count)
    text = "".join(format(index, f"0{width}b") for index in indices) if width else ""
    text += "0" * (-len(text) % 8)
    expected = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    packed = pack_bits(indices, width)
    assert packed.tobytes() == expected
    assert (unpack_bits(packed, width, count) == indices).all()


def test_chunks_join_without_a_seam(monkeypatch):
    monkeypatch.setattr(packing, "_CHUNK", 16)
    indices = np.random.default_rng(0).integers(0, 8, 100)
    packed = pack_bits(indices, 3)
    assert (unpack_bits(packed, 3, 100) == indices).all()
    monkeypatch.undo()
    assert (packed == pack_bits(indices, 3)).all()


@settings(max_examples=120)
@given(
    dtype=st.sampled_from(list(DTYPES)),
    shape=st.lists(st.integers(0, 6), max_size=4),
    values=st.integers(1, 300),
    seed=st.integers(0, 99),
)
@example(dtype="float64", shape=[], values=1, seed=0)
@example(dtype="int64", shape=[40, 40], values=300, seed=0)
def test_a_tensor_comes_back_bit_for_bit(dtype, shape, values, seed):
    generator = torch.Generator().manual_seed(seed)
    table = (torch.rand(values, generator=generator, dtype=torch.float64) - 0.5) * 2 ** (seed % 40)
    tensor = table[torch.randint(values, shape, generator=generator)].to(DTYPES[dtype])
    packed = pack(tensor)
    assert same_bits(unpack(packed), tensor)
    assert packed.bytes <= tensor.numel() * tensor.element_size()


def test_nan_and_negative_zero_keep_their_bits():
    tensor = torch.tensor([[0.0, -0.0, math.nan, math.inf], [-0.0] * 4, [0.0] * 4] * 20, dtype=torch.float64)
    packed = pack(tensor)
    assert packed.layout != "plain"
    assert same_bits(unpack(packed), tensor)


@pytest.mark.parametrize(
    ("levels", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (256, 8), (257, 9), (4097, 13)]
)
def test_a_codebook_takes_its_table_and_its_indices(levels, bits):
    tensor = torch.arange(levels, dtype=torch.float64).sqrt().repeat(math.ceil(20000 / levels))[:20000]
    packed = pack(tensor)
    assert (packed.layout, packed.bits) == ("codebook", bits)
    assert index_width(levels) == bits == math.ceil(math.log2(levels))
    assert packed.bytes == 8 * levels + math.ceil(20000 * bits / 8)
    assert same_bits(unpack(packed), tensor)


def test_integers_lie_in_the_narrowest_type():
    assert pack(torch.randint(-128, 128, (5000,)).unique()).parts["values"].dtype == torch.int8
    for high, dtype in ((2**7, torch.int16), (2**15, torch.int32), (2**31, torch.int64)):
        packed = pack(torch.tensor([-3, high, 5]))
        assert packed.parts["values"].dtype == dtype
        assert unpack(packed).tolist() == [-3, high, 5]


def test_what_does_not_fit_together_is_refused():
    packed = pack(torch.arange(5.0).repeat(100))
    short = Packed(
        "codebook", "float32", (500,), packed.bits, {**packed.parts, "indices": packed.parts["indices"][:-1]}
    )
    with pytest.raises(ValueError, match=r"187 bytes of indices, expected 188"):
        unpack(short)
    with pytest.raises(ValueError, match="an index of 4 into 4 values"):
        unpack(Packed("codebook", "float32", (500,), packed.bits, {**packed.parts, "values": torch.arange(4.0)}))
    with pytest.raises(ValueError, match="row_codebook"):
        unpack(Packed("row_codebook", "float32", (500,), packed.bits, packed.parts))
    with pytest.raises(TypeError, match="complex64"):
        pack(torch.zeros(3, dtype=torch.complex64))
