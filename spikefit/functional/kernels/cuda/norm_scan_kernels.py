# mypy: ignore-errors
# ruff: noqa: RUF005 (Triton supports concatenation of tuples, but not unpacking)
"""Triton kernels for norm, integrate-and-fire scan and average pooling; :mod:`.norm_scan` launches them.

A feature map ``[T, B, H, W, C]``, channels last, is a matrix per step, with one row per pixel and one column per
channel. A program processes ``ROWS`` pooling windows times ``COLS`` channels and keeps the membranes in registers.
Offsets within a step are int32 (a step has fewer than 2**31 elements), offsets between steps int64. The grid has one
axis; neighbouring programs process the ``blocks`` of channels of the same pixels. A program issues all loads before it
computes.

Memory traffic, if ``y`` and its gradient take ``Y`` bytes each and the pooled spikes ``S``: with the statistics of the
batch, the forward pass moves ``2 Y + S`` (one pass to measure, one to fire) and the backward pass ``3 Y + 2 S`` (one
pass to sum, one to write). Without them, it is ``Y + S`` and ``2 Y + S``. Nothing else of that size is stored: the
backward pass recomputes the membrane.
"""

import triton
import triton.language as tl


@triton.jit
def leaked(u, amount, LEAK: tl.constexpr):
    """Membrane after the leak of one step; ``LEAK`` is 0 for none, 1 for decay, 2 for linear."""
    if LEAK == 1:
        u = u * amount
    elif LEAK == 2:
        u = tl.where(tl.abs(u) > amount, u - tl.where(u > 0, amount, -amount), 0.0)
    return u


@triton.jit
def reset(v, theta, TO_ZERO: tl.constexpr):
    """Membrane after the reset of the neurons that fired."""
    if TO_ZERO:
        return tl.where(v >= theta, 0.0, v)
    else:
        return tl.where(v >= theta, v - theta, v)


@triton.jit
def surrogate(x, alpha, slope, KIND: tl.constexpr):
    """Pseudo-derivative of the spike at ``x = v - theta``, as in :mod:`spikefit.functional.surrogate`."""
    if KIND == 0:
        return (alpha / 2) / (1 + (slope * x) * (slope * x))
    elif KIND == 1:
        p = 1 / (1 + tl.exp(-alpha * x))
        return alpha * p * (1 - p)
    else:
        return alpha * tl.maximum(1 - alpha * tl.abs(x), 0.0)


@triton.jit
def moments(y, parts, pixels, channels, blocks, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Sums of ``y - y[0]`` and of its square over every ``programs``-th block of pixels: ``parts [programs, 2, C]``.

    Subtracting the first pixel keeps a variance that is far below the squared mean from being lost to rounding.
    """
    c = tl.program_id(0) % blocks * COLS + tl.arange(0, COLS)
    part, apart = tl.program_id(0) // blocks, tl.num_programs(0) // blocks * ROWS
    known = c < channels
    origin = tl.load(y + c, mask=known, other=0.0).to(COMPUTE)[None, :]
    first = tl.zeros((ROWS, COLS), COMPUTE)
    second = tl.zeros((ROWS, COLS), COMPUTE)
    for start in range(part.to(tl.int64) * ROWS, pixels, apart):
        row = start + tl.arange(0, ROWS)
        live = (row < pixels)[:, None] & known[None, :]
        value = tl.load(y + row[:, None] * channels + c[None, :], mask=live, other=0.0).to(COMPUTE)
        value = tl.where(live, value - origin, 0.0)
        first += value
        second += value * value
    out = parts + part * 2 * channels + c
    tl.store(out, tl.sum(first, axis=0), mask=known)
    tl.store(out + channels, tl.sum(second, axis=0), mask=known)


@triton.jit
def total(parts, count, channels, c, known, PARTS: tl.constexpr, COLS: tl.constexpr):
    """Both sums over the ``count`` rows of ``parts`` ``[count, 2, C]``, float64 ``[COLS]`` each."""
    first = tl.zeros((PARTS, COLS), tl.float64)
    second = tl.zeros((PARTS, COLS), tl.float64)
    for start in range(0, count, PARTS):
        part = start + tl.arange(0, PARTS)
        live = (part < count)[:, None] & known[None, :]
        at = parts + part[:, None] * 2 * channels + c[None, :]
        first += tl.load(at, mask=live, other=0.0).to(tl.float64)
        second += tl.load(at + channels, mask=live, other=0.0).to(tl.float64)
    return tl.sum(first, axis=0), tl.sum(second, axis=0)


@triton.jit
def affine(
    y,
    parts,
    gain,
    bias,
    mean,
    var,
    terms,
    count,
    pixels,
    channels,
    eps,
    MEASURED: tl.constexpr,
    PARTS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Scale and shift of the norm, ``terms [2, C]``; with ``MEASURED``, mean and variance first, from ``parts``."""
    c = tl.program_id(0) * COLS + tl.arange(0, COLS)
    known = c < channels
    if MEASURED:
        first, second = total(parts, count, channels, c, known, PARTS, COLS)
        first = first / pixels
        centre = first + tl.load(y + c, mask=known, other=0.0).to(tl.float64)
        spread = tl.maximum(second / pixels - first * first, 0.0)
        tl.store(mean + c, centre, mask=known)
        tl.store(var + c, spread, mask=known)
    else:
        centre = tl.load(mean + c, mask=known, other=0.0).to(tl.float64)
        spread = tl.load(var + c, mask=known, other=1.0).to(tl.float64)
    scale = tl.load(gain + c, mask=known, other=0.0).to(tl.float64) / tl.sqrt(spread + tl.load(eps))
    shift = tl.load(bias + c, mask=known, other=0.0).to(tl.float64) - centre * scale
    tl.store(terms + c, scale.to(terms.dtype.element_ty), mask=known)
    tl.store(terms + channels + c, shift.to(terms.dtype.element_ty), mask=known)


@triton.jit
def column(terms, which, channels, c, known):
    """Row ``which`` of ``terms [n, C]``, shaped to broadcast over a block."""
    return tl.load(terms + which * channels + c, mask=known, other=0.0)[None, :]


@triton.jit
def fire(
    y,
    terms,
    alive,
    constants,
    amount,
    out,
    steps,
    windows,
    channels,
    blocks,
    height,
    width,
    tall,
    wide,
    stride,
    out_stride,
    COMPUTE: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    LEAK: tl.constexpr,
    TO_ZERO: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Mean spikes of each pooling window; a map has ``tall x wide`` windows."""
    c = tl.program_id(0) % blocks * COLS + tl.arange(0, COLS)
    window = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    known = c < channels
    live = (window < windows)[:, None] & known[None, :]
    theta, factor = tl.load(constants), tl.load(amount).to(COMPUTE)
    if NORM:
        scale, shift = column(terms, 0, channels, c, known), column(terms, 1, channels, c, known)
    if GATED:
        alight = (tl.load(alive + c, mask=known, other=0) != 0)[None, :]
    pixel = window
    if POOL > 1:
        image, place = window // (tall * wide), window % (tall * wide)
        pixel = (image * height + place // wide * POOL) * width + place % wide * POOL
    at = pixel[:, None] * channels + c[None, :]
    to = window[:, None] * channels + c[None, :]
    states = ()
    ahead = ()
    for p in tl.static_range(POOL * POOL):
        states = states + (tl.zeros((ROWS, COLS), COMPUTE),)
        ahead = ahead + (tl.load(y + (p // POOL * width + p % POOL) * channels + at, mask=live, other=0.0),)
    for step in range(steps):
        y += stride
        next_is_there = live & (step + 1 < steps)
        spikes = tl.zeros((ROWS, COLS), COMPUTE)
        after = ()
        currents = ahead
        ahead = ()
        for p in tl.static_range(POOL * POOL):
            corner = y + (p // POOL * width + p % POOL) * channels
            ahead = ahead + (tl.load(corner + at, mask=next_is_there, other=0.0),)
        for p in tl.static_range(POOL * POOL):
            current = currents[p].to(COMPUTE)
            if NORM:
                current = current * scale + shift
            v = leaked(states[p], factor, LEAK) + current
            spikes += tl.where(v >= theta, 1.0, 0.0)
            after = after + (reset(v, theta, TO_ZERO),)
        states = after
        if GATED:
            spikes = tl.where(alight, spikes, 0.0)
        if POOL > 1:
            spikes = spikes / (POOL * POOL)
        tl.store(out + to, spikes.to(out.dtype.element_ty), mask=live)
        out += out_stride


@triton.jit
def fire_gradient(
    grad_out,
    y,
    terms,
    alive,
    constants,
    amount,
    grad_terms,
    grad,
    parts,
    amounts,
    windows,
    channels,
    blocks,
    height,
    width,
    tall,
    wide,
    stride,
    out_stride,
    COMPUTE: tl.constexpr,
    NORM: tl.constexpr,
    MEASURED: tl.constexpr,
    GATED: tl.constexpr,
    LEAK: tl.constexpr,
    TO_ZERO: tl.constexpr,
    SURROGATE: tl.constexpr,
    LEARNS: tl.constexpr,
    SUMS: tl.constexpr,
    WRITES: tl.constexpr,
    ONE_FRAME: tl.constexpr,
    STEPS: tl.constexpr,
    POOL: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Gradient of :func:`fire`.

    With ``SUMS``, the gradient of the currents and its product with ``y`` are summed: ``parts [programs, 2, C]``. With
    ``WRITES``, the gradient of ``y`` is stored: the gradient of the current times the norm's scale and, with the
    statistics of the batch (``MEASURED``), plus ``grad_terms[0] * y + grad_terms[1]``. There are
    ``ceil(height / POOL) x ceil(width / POOL)`` windows per map. Pixels outside the ``tall x wide`` windows of the
    forward pass send no spikes, but contribute to the statistics of the batch.
    """
    c = tl.program_id(0) % blocks * COLS + tl.arange(0, COLS)
    part, apart = tl.program_id(0) // blocks, tl.num_programs(0) // blocks * ROWS
    known = c < channels
    theta, factor = tl.load(constants), tl.load(amount).to(COMPUTE)
    alpha, slope = tl.load(constants + 1), tl.load(constants + 2)
    if NORM:
        scale, shift = column(terms, 0, channels, c, known), column(terms, 1, channels, c, known)
        if MEASURED:
            by_y, constant = column(grad_terms, 0, channels, c, known), column(grad_terms, 1, channels, c, known)
    if GATED:
        alight = (tl.load(alive + c, mask=known, other=0) != 0)[None, :]
    first = tl.zeros((ROWS, COLS), COMPUTE)
    second = tl.zeros((ROWS, COLS), COMPUTE)
    leaks = tl.zeros((ROWS, COLS), COMPUTE)
    across, down = (width + POOL - 1) // POOL, (height + POOL - 1) // POOL
    for start in range(part * ROWS, windows, apart):
        window = start + tl.arange(0, ROWS)
        inside = window < windows
        image, place = window // (down * across), window % (down * across)
        tall_at, wide_at = place // across, place % across
        # Spikes outside every window and spikes of dead units have no gradient.
        covered = (inside & (tall_at < tall) & (wide_at < wide))[:, None] & known[None, :]
        if GATED:
            covered = covered & alight
        shown = ((image * tall + tall_at) * wide + wide_at)[:, None] * channels + c[None, :]
        for p in range(POOL * POOL):
            high, across_at = tall_at * POOL + p // POOL, wide_at * POOL + p % POOL
            live = (inside & (high < height) & (across_at < width))[:, None] & known[None, :]
            pixel = ((image * height + high) * width + across_at)[:, None] * channels + c[None, :]
            # Pointers advance with each step, because step * stride may exceed 32 bits.
            here, up_here, to = y, grad_out, grad
            values, ups = (), ()
            for t in tl.static_range(STEPS):
                if t == 0 or not ONE_FRAME:
                    values = values + (tl.load(here + pixel, mask=live, other=0.0),)
                ups = ups + (tl.load(up_here + shown, mask=covered, other=0.0),)
                here += stride
                up_here += out_stride
                if WRITES:
                    to += stride
            membranes = ()
            u = tl.zeros((ROWS, COLS), COMPUTE)
            for t in tl.static_range(STEPS):
                current = values[0 if ONE_FRAME else t].to(COMPUTE)
                if NORM:
                    current = current * scale + shift
                v = leaked(u, factor, LEAK) + current
                membranes = membranes + (v,)
                u = reset(v, theta, TO_ZERO)
            grad_u = tl.zeros((ROWS, COLS), COMPUTE)
            of_frame = tl.zeros((ROWS, COLS), COMPUTE)
            for back in tl.static_range(STEPS):
                v = membranes[STEPS - 1 - back]
                up = ups[STEPS - 1 - back].to(COMPUTE)
                if POOL > 1:
                    up = up / (POOL * POOL)
                grad_v = up * surrogate(v - theta, alpha, slope, SURROGATE)
                if TO_ZERO:
                    grad_v += tl.where(v >= theta, 0.0, grad_u)
                else:
                    grad_v += grad_u
                if ONE_FRAME:
                    of_frame += grad_v
                else:
                    value = values[STEPS - 1 - back].to(COMPUTE)
                    if SUMS:
                        first += grad_v
                        second += grad_v * value
                    if WRITES:
                        result = grad_v
                        if NORM:
                            result = grad_v * scale
                        if MEASURED:
                            result += by_y * value + constant
                        to -= stride
                        tl.store(to + pixel, result.to(grad.dtype.element_ty), mask=live)
                grad_u = grad_v
                if back < STEPS - 1:
                    u = reset(membranes[STEPS - 2 - back], theta, TO_ZERO)
                    if LEAK == 1:
                        grad_u = grad_v * factor
                        if LEARNS:
                            leaks += grad_v * u
                    elif LEAK == 2:
                        grad_u = tl.where(tl.abs(u) > factor, grad_v, 0.0)
                        if LEARNS:
                            leaks -= tl.where(u > 0, grad_u, tl.where(u < 0, -grad_u, 0.0))
            if ONE_FRAME:
                value = values[0].to(COMPUTE)
                if SUMS:
                    first += of_frame
                    second += of_frame * value
                if WRITES:
                    result = of_frame
                    if NORM:
                        result = of_frame * scale
                    if MEASURED:
                        result += by_y * value + constant
                    tl.store(grad + pixel, result.to(grad.dtype.element_ty), mask=live)
    if SUMS:
        out = parts + part * 2 * channels + c
        tl.store(out, tl.sum(first, axis=0), mask=known)
        tl.store(out + channels, tl.sum(second, axis=0), mask=known)
    if LEARNS:
        tl.store(amounts + tl.program_id(0), tl.sum(tl.sum(leaks, axis=1), axis=0))


@triton.jit
def affine_gradient(
    parts,
    gain,
    mean,
    var,
    grad_gain,
    grad_bias,
    grad_terms,
    count,
    pixels,
    channels,
    eps,
    MEASURED: tl.constexpr,
    PARTS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Gradients of gain and bias, and ``grad_terms`` ``[2, C]``, from the sums of :func:`fire_gradient`."""
    c = tl.program_id(0) * COLS + tl.arange(0, COLS)
    known = c < channels
    whole, product = total(parts, count, channels, c, known, PARTS, COLS)
    centre = tl.load(mean + c, mask=known, other=0.0).to(tl.float64)
    deviation = tl.sqrt(tl.load(var + c, mask=known, other=1.0).to(tl.float64) + tl.load(eps))
    moment = (product - centre * whole) / deviation  # sum of gradient times normalised y
    tl.store(grad_gain + c, moment.to(grad_gain.dtype.element_ty), mask=known)
    tl.store(grad_bias + c, whole.to(grad_bias.dtype.element_ty), mask=known)
    if MEASURED:
        by_current = tl.load(gain + c, mask=known, other=0.0).to(tl.float64) / deviation
        by_y = -by_current * moment / (pixels * deviation)
        constant = -by_current * whole / pixels - by_y * centre
        kind = grad_terms.dtype.element_ty
        tl.store(grad_terms + c, by_y.to(kind), mask=known)
        tl.store(grad_terms + channels + c, constant.to(kind), mask=known)
