"""Tensors with few distinct values as a table and packed indices; exact, bit for bit, for any dtype.

Values are told apart by their bits, so that -0.0 and NaN come back as they were. The smaller of two layouts is taken:

* *plain*: the elements themselves; integers in the narrowest signed type that holds them;
* *codebook*: a table of the M values in use and for every element an index of ``ceil(log2 M)`` bits (none for M = 1).

Indices are packed without gaps, most significant bit first. Weights, whose values are known, have more layouts
(:mod:`spikefit.program.storage`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikefit.program.stored_weights import index_width

Layout = Literal["plain", "codebook", "group_codebook", "row_codebook", "axon"]

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.int64, torch.int32, torch.int16, torch.int8, torch.bool)
}
_BITS = {torch.float64: torch.int64, torch.float32: torch.int32}
_CHUNK = 1 << 20  # indices unpacked to bits at a time; a multiple of 8


@dataclass(frozen=True)
class Packed:
    """A packed tensor.

    Attributes:
        layout: which layout.
        dtype: of the tensor, without the ``torch.``.
        shape: of the tensor.
        bits: width of an index; 0 for ``plain`` and for a single value.
        parts: ``values`` (elements, or a table ``[M]``, or tables ``[rows, M]``) and, unless plain, uint8 ``indices``.
        factor: on all elements; of weights, whose common divisor is stored once.
    """

    layout: Layout
    dtype: str
    shape: tuple[int, ...]
    bits: int
    parts: dict[str, Tensor]
    factor: int = 1

    @property
    def bytes(self) -> int:
        """Size of the parts."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())

    @property
    def index_bits(self) -> int:
        """Bits of all indices; of ``plain`` elements those of the elements."""
        if self.layout == "plain":
            return 8 * self.bytes
        return math.prod(self.shape) * self.bits


def pack_bits(indices: np.ndarray, width: int) -> np.ndarray:
    """``indices`` ``[n]``, each below ``2**width``, as uint8 ``[ceil(n * width / 8)]``."""
    packed = np.empty(math.ceil(len(indices) * width / 8), dtype=np.uint8)
    shifts = np.arange(width - 1, -1, -1, dtype=np.int64)
    for start in range(0, len(indices) if width else 0, _CHUNK):
        bits = (indices[start : start + _CHUNK, None] >> shifts & 1).astype(np.uint8)
        part = np.packbits(bits)
        first = start * width // 8
        packed[first : first + len(part)] = part
    return packed


def unpack_bits(packed: np.ndarray, width: int, count: int) -> np.ndarray:
    """The ``count`` indices, int64, that :func:`pack_bits` packed.

    Raises:
        ValueError: when ``packed`` does not have the length of ``count`` indices.
    """
    if len(packed) != math.ceil(count * width / 8):
        raise ValueError(f"{len(packed)} bytes of indices, expected {math.ceil(count * width / 8)}")
    indices = np.zeros(count, dtype=np.int64)
    shifts = np.arange(width - 1, -1, -1, dtype=np.int64)
    for start in range(0, count if width else 0, _CHUNK):
        stop = min(count, start + _CHUNK)
        part = packed[start * width // 8 : math.ceil(stop * width / 8)]
        bits = np.unpackbits(part, count=(stop - start) * width).reshape(-1, width)
        indices[start:stop] = (bits.astype(np.int64) << shifts).sum(axis=1)
    return indices


def pack(tensor: Tensor) -> Packed:
    """The smaller layout of ``tensor``.

    Raises:
        TypeError: for a dtype that is not in :data:`DTYPES`.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise TypeError(f"got a tensor of {dtype}, expected one of {', '.join(DTYPES)}")
    tensor = tensor.detach().cpu().contiguous()
    shape = tuple(tensor.shape)
    plain = Packed("plain", dtype, shape, 0, {"values": narrow(tensor)})
    if not tensor.numel():
        return plain
    bits, indices = torch.unique(_bits(tensor).flatten(), return_inverse=True)
    values = narrow(_value(bits, tensor.dtype))
    return min(plain, indexed("codebook", dtype, shape, values, indices), key=lambda packed: packed.bytes)


def indexed(
    layout: Layout, dtype: str, shape: tuple[int, ...], values: Tensor, indices: Tensor, width: int | None = None
) -> Packed:
    """``indices`` of ``width`` bits (as many as the table needs, if None) and the table or tables ``values``."""
    width = index_width(values.shape[-1]) if width is None else width
    packed = torch.from_numpy(pack_bits(indices.flatten().cpu().numpy(), width))
    return Packed(layout, dtype, shape, width, {"values": values.contiguous(), "indices": packed})


def indices_of(packed: Packed, values: int) -> Tensor:
    """The indices, int64 ``[n]``, into tables of ``values`` values.

    Raises:
        ValueError: when there are more or fewer than elements, or one lies beyond the table.
    """
    count = math.prod(packed.shape)
    indices = torch.from_numpy(unpack_bits(packed.parts["indices"].numpy(), packed.bits, count))
    if count and int(indices.max()) >= values:
        raise ValueError(f"an index of {int(indices.max())} into {values} values")
    return indices


def unpack(packed: Packed) -> Tensor:
    """The tensor that :func:`pack` was given.

    Raises:
        ValueError: when the parts do not fit together.
    """
    dtype, shape, values = DTYPES[packed.dtype], packed.shape, packed.parts["values"]
    if packed.layout == "plain":
        if tuple(values.shape) != shape:
            raise ValueError(f"elements of shape {tuple(values.shape)}, expected {shape}")
        return values.to(dtype)
    if packed.layout != "codebook" or values.dim() != 1:
        raise ValueError(f"{packed.layout} of shape {tuple(values.shape)}, expected one table")
    return values[indices_of(packed, len(values))].reshape(shape).to(dtype)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.dtype]) if tensor.dtype in _BITS else tensor


def _value(bits: Tensor, dtype: torch.dtype) -> Tensor:
    return bits.view(dtype) if dtype in _BITS else bits


def narrow(tensor: Tensor) -> Tensor:
    """Integers in the narrowest signed type that holds them; other tensors as they are."""
    if tensor.is_floating_point() or tensor.dtype == torch.bool or not tensor.numel():
        return tensor
    low, high = int(tensor.min()), int(tensor.max())
    for dtype in (torch.int8, torch.int16, torch.int32):
        if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
            return tensor.to(dtype)
    return tensor
