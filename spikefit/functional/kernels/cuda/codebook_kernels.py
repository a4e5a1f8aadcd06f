# mypy: disable-error-code="no-untyped-def"
"""Triton kernels of codebooks: the grid, the lookup and its gradient; :mod:`.codebook` launches them.

A row is one group of weights, with a codebook of its own. Bytes that pass through memory, for ``N`` weights of ``b``
bytes each: the lookup reads ``b N`` and writes ``(b + 1) N``, the sums read ``(b + 1) N``. The codebooks stay in cache.
No kernel adds with atomics: equal inputs give equal sums.
"""

import triton
import triton.language as tl


@triton.jit
def lookup(
    weight,
    codebook,
    index,
    out,
    count,
    blocks,
    COMPUTE: tl.constexpr,
    LEVELS: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Nearest value of each weight and its index, by binary search on the midpoints; a midpoint goes down.

    BITS are those of the largest index.
    """
    row = tl.program_id(0) // blocks
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    known = place < count
    start = row.to(tl.int64) * count
    codebook += row * LEVELS
    w = tl.load(weight + start + place, mask=known, other=0.0).to(COMPUTE)
    found = tl.zeros((BLOCK,), tl.int32)
    for bit in tl.static_range(BITS):
        candidate = found + (1 << (BITS - 1 - bit))
        inside = candidate < LEVELS
        upper = tl.load(codebook + candidate, mask=inside, other=0.0).to(COMPUTE)
        lower = tl.load(codebook + candidate - 1, mask=inside, other=0.0).to(COMPUTE)
        both = (upper + lower).to(codebook.dtype.element_ty).to(COMPUTE)  # rounded as torch does; its half is exact
        below = w <= both * 0.5
        found = tl.where(inside & (below == 0), candidate, found)
    tl.store(index + start + place, found.to(tl.uint8), mask=known)
    tl.store(out + start + place, tl.load(codebook + found, mask=known, other=0.0), mask=known)


@triton.jit
def gather(codebook, index, out, count, blocks, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    """``codebook[row, index]``."""
    row = tl.program_id(0) // blocks
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    known = place < count
    start = row.to(tl.int64) * count
    k = tl.load(index + start + place, mask=known, other=0).to(tl.int32)
    tl.store(out + start + place, tl.load(codebook + row * LEVELS + k, mask=known, other=0.0), mask=known)


@triton.jit
def sum_by_index(
    x,
    index,
    parts,
    count,
    chunk,
    chunks,
    COMPUTE: tl.constexpr,
    LEVELS: tl.constexpr,
    PADDED: tl.constexpr,
    LANES: tl.constexpr,
):
    """Sums of ``x`` over equal ``index`` in one chunk of a row: ``parts [rows, chunks, LEVELS]``."""
    program = tl.program_id(0)
    start = (program // chunks).to(tl.int64) * count
    first = program % chunks * chunk
    last = tl.minimum(first + chunk, count)
    level = tl.arange(0, PADDED)[:, None]
    total = tl.zeros((PADDED, LANES), COMPUTE)
    for place in range(first, last, LANES):
        lane = place + tl.arange(0, LANES)
        known = lane < last
        value = tl.load(x + start + lane, mask=known, other=0.0).to(COMPUTE)
        k = tl.load(index + start + lane, mask=known, other=0).to(tl.int32)
        total += tl.where(k[None, :] == level, value[None, :], 0.0)
    m = tl.arange(0, PADDED)
    tl.store(parts + program.to(tl.int64) * LEVELS + m, tl.sum(total, axis=1), mask=m < LEVELS)


@triton.jit
def _divided(x, y, DOUBLE: tl.constexpr):
    if DOUBLE:
        return x / y
    else:
        return tl.math.div_rn(x, y)  # a plain division may be off by two units in the last place


@triton.jit
def _nearest(x, DOUBLE: tl.constexpr):
    """``x``, below 2**21, rounded half to even: what is added leaves no bits after the point."""
    if DOUBLE:
        return (x + 6755399441055744.0) - 6755399441055744.0
    else:
        return (x + 12582912.0) - 12582912.0


@triton.jit
def _step(scale, tiny, LEARNED: tl.constexpr):
    return tl.maximum(tl.abs(scale), tiny) if LEARNED else scale


@triton.jit
def _integer(c, step, reach, ZERO: tl.constexpr, DOUBLE: tl.constexpr):
    """The integer on the grid that stands for ``c``; without ZERO the nearest but 0."""
    ratio = _divided(c, step, DOUBLE)
    clamped = tl.where(ratio < -reach, -reach, tl.where(ratio > reach, reach, ratio))  # NaN stays NaN
    integer = _nearest(clamped, DOUBLE)
    if not ZERO:
        integer = tl.where(tl.abs(clamped) < 0.5, tl.where(clamped < 0, -1.0, 1.0), integer)
    return integer


@triton.jit
def _sorted_as(value):
    """What ``value`` is sorted by: NaN comes last."""
    return tl.where(value == value, value, float("inf"))


@triton.jit
def grid_values(
    codebook,
    scale,
    limits,
    out,
    rank,
    LEVELS: tl.constexpr,
    WITH_ZERO: tl.constexpr,
    ZERO: tl.constexpr,
    LEARNED: tl.constexpr,
    DOUBLE: tl.constexpr,
    PADDED: tl.constexpr,
):
    """The values of one group on its grid, ascending, and the rank of each; one more, 0, WITH_ZERO."""
    row = tl.program_id(0)
    columns: tl.constexpr = LEVELS + WITH_ZERO
    reach, tiny = tl.load(limits), tl.load(limits + 1)
    step = _step(tl.load(scale + row), tiny, LEARNED)
    i = tl.arange(0, PADDED)
    c = tl.load(codebook + row * LEVELS + i, mask=i < LEVELS, other=0.0)
    value = tl.where(i < LEVELS, _integer(c, step, reach, ZERO, DOUBLE) * step, 0.0)
    key = _sorted_as(value)
    place = tl.zeros((PADDED,), tl.int32)
    for j in range(LEVELS):
        other = _integer(tl.load(codebook + row * LEVELS + j), step, reach, ZERO, DOUBLE) * step
        other = _sorted_as(other)
        place += ((other < key) | ((other == key) & (j < i))).to(tl.int32)
    if WITH_ZERO:
        place += (key > 0).to(tl.int32)
    known = i < columns
    tl.store(out + row * columns + place, value, mask=known)
    tl.store(rank + row * columns + i, place.to(tl.uint8), mask=known)


@triton.jit
def grid_gradient(
    grad,
    codebook,
    scale,
    limits,
    rank,
    grad_codebook,
    grad_scale,
    LEVELS: tl.constexpr,
    WITH_ZERO: tl.constexpr,
    ZERO: tl.constexpr,
    LEARNED: tl.constexpr,
    DOUBLE: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Gradients of the codebook and, if it is learned, of the scale of one group."""
    row = tl.program_id(0)
    reach, tiny = tl.load(limits), tl.load(limits + 1)
    raw = tl.load(scale + row)
    step = _step(raw, tiny, LEARNED)
    i = tl.arange(0, PADDED)
    known = i < LEVELS
    c = tl.load(codebook + row * LEVELS + i, mask=known, other=0.0)
    place = tl.load(rank + row * (LEVELS + WITH_ZERO) + i, mask=known, other=0).to(tl.int32)
    g = tl.load(grad + row * (LEVELS + WITH_ZERO) + place, mask=known, other=0.0)
    ratio = _divided(c, step, DOUBLE)
    passed = tl.where(tl.abs(ratio) <= reach, g * step, 0.0)
    tl.store(grad_codebook + row * LEVELS + i, _divided(passed, step, DOUBLE), mask=known)
    if LEARNED:
        of_values = tl.where(known, g * _integer(c, step, reach, ZERO, DOUBLE), 0.0)
        of_ratios = tl.where(known, -passed * _divided(ratio, step, DOUBLE), 0.0)
        total = tl.sum(of_values, axis=0) + tl.sum(of_ratios, axis=0)
        sign = tl.where(raw > 0, 1.0, tl.where(raw < 0, -1.0, 0.0))
        tl.store(grad_scale + row, tl.where(tl.abs(raw) >= tiny, total * sign, 0.0))
