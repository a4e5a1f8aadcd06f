# mypy: disable-error-code="no-untyped-def"
"""Neurons in a chip's integer arithmetic as Triton kernels: all steps of a neuron in one program, state in registers.

Membranes are float64, which represents the integers of all chips exactly. The caller ensures that every value stays
below 2**53 in magnitude, including the products of a decay. The plain-torch reference is
:mod:`spikefit.functional.integer_arithmetic`.
"""

import triton
import triton.language as tl

NONE, DECAY_FLOOR, DECAY_TRUNCATE, LINEAR, SHIFT = range(5)  # leaks
_TO_NEAREST: tl.constexpr = tl.constexpr(1.5 * 2.0**52)  # adding and subtracting it rounds float64 half to even


@triton.jit
def _share(amount, LEAK: tl.constexpr, BITS: tl.constexpr):
    """Loss of a linear leak, factor of a decay, or share that a shift removes; exact."""
    if LEAK == 4:
        amount = ((1023 - amount.to(tl.int64)) << 52).to(tl.float64, bitcast=True)
    elif LEAK == 1 or LEAK == 2:
        one = tl.full([], 1 << BITS, tl.float64)
        amount = (one - amount) / one
    return amount


@triton.jit
def _leaked(u, share, LEAK: tl.constexpr):
    if LEAK == 1:
        u = tl.floor(u * share)
    elif LEAK == 2:
        u = u * share
        u = tl.where(u < 0, tl.ceil(u), tl.floor(u))
    elif LEAK == 3:
        u = tl.where(tl.abs(u) > share, u - tl.where(u > 0, share, -share), 0.0)
    elif LEAK == 4:
        lost = tl.floor(u * share)  # at least one unit is lost; for a negative state, floor ensures it
        u -= tl.where((lost == 0) & (u > 0), 1.0, lost)
    return u


@triton.jit
def _bounded(v, BOUNDED: tl.constexpr, WRAPS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    if BOUNDED:
        low, high = tl.full([], LOW, tl.float64), tl.full([], HIGH, tl.float64)
        if WRAPS:
            width = tl.full([], HIGH - LOW + 1, tl.float64)
            v -= width * tl.floor((v - low) / width)
            v = tl.where(v < low, v + width, tl.where(v > high, v - width, v))  # in case the quotient was rounded
        else:
            v = tl.minimum(tl.maximum(v, low), high)
    return v


@triton.jit
def _fired(v, theta, MOST: tl.constexpr):
    if MOST == 1:
        return tl.where(v >= theta, 1.0, 0.0).to(tl.float64)
    else:
        return tl.minimum(tl.maximum(tl.floor(v / theta), 0.0), MOST * 1.0)


@triton.jit
def _reset(v, count, theta, TO_ZERO: tl.constexpr):
    if TO_ZERO:
        return tl.where(count > 0, 0.0, v)
    else:
        return v - theta * count


@triton.jit
def _derivative(x, SURROGATE: tl.constexpr, ALPHA: tl.constexpr):
    if SURROGATE == 0:
        scaled = x * (1.5707963267948966 * ALPHA)
        return (ALPHA / 2) / (1 + scaled * scaled)
    elif SURROGATE == 1:
        y = 1 / (1 + tl.exp(-ALPHA * x))
        return ALPHA * y * (1 - y)
    else:
        return ALPHA * tl.maximum(1 - ALPHA * tl.abs(x), 0.0)


@triton.jit
def scan(
    current,
    bias,
    threshold,
    leak,
    alive,
    spikes,
    steps,
    lanes,
    sent,
    channels,
    height,
    width,
    MOVES: tl.constexpr,
    WINDOW: tl.constexpr,
    LEAK: tl.constexpr,
    BITS: tl.constexpr,
    TO_ZERO: tl.constexpr,
    MOST: tl.constexpr,
    BOUNDED: tl.constexpr,
    WRAPS: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    BLOCK: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    """Scan ``BLOCK`` windows over all steps; each has ``MEMBERS`` lanes, of which ``WINDOW**2`` are neurons."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = lane < sent
    channel = lane % channels
    member = tl.arange(0, MEMBERS)
    if WINDOW == 1:
        neuron = lane[:, None] + member[None, :]
    else:
        place = lane // channels
        column, row = place % (width // WINDOW) * WINDOW, place // (width // WINDOW)
        # Rows below the last complete window belong to no row of windows.
        line = row // (height // WINDOW) * height + row % (height // WINDOW) * WINDOW
        first = (line * width + column) * channels + channel
        neuron = first[:, None] + ((member // WINDOW * width + member % WINDOW) * channels)[None, :]
    counts = live[:, None] & (member < WINDOW * WINDOW)[None, :]
    added = tl.load(bias + channel, mask=live, other=0.0)[:, None]
    theta = tl.load(threshold + channel, mask=live, other=1.0)[:, None]
    share = _share(tl.load(leak + channel, mask=live, other=0.0), LEAK, BITS)[:, None]
    gate = tl.load(alive + channel, mask=live, other=0).to(tl.float64)[:, None]
    current += neuron
    spikes += lane
    arriving = tl.load(current, mask=counts, other=0.0).to(tl.float64)
    u = tl.zeros((BLOCK, MEMBERS), tl.float64)
    for _ in range(steps):
        if MOVES:
            arriving = tl.load(current, mask=counts, other=0.0).to(tl.float64)
            current += lanes
        v = _bounded(_leaked(u, share, LEAK) + (arriving + added), BOUNDED, WRAPS, LOW, HIGH)
        count = _fired(v, theta, MOST)
        u = _reset(v, count, theta, TO_ZERO)
        total = tl.sum(tl.where(counts, (count * gate).to(tl.float32), 0.0), axis=1)
        tl.store(spikes, total, mask=live)
        spikes += sent


@triton.jit
def scan_gradient(
    grad_spikes,
    current,
    bias,
    threshold,
    leak,
    slope,
    alive,
    kept,
    grad_current,
    sums,
    steps,
    lanes,
    sent,
    places,
    channels,
    height,
    width,
    REAL: tl.constexpr,
    MOVES: tl.constexpr,
    WINDOW: tl.constexpr,
    LEAK: tl.constexpr,
    BITS: tl.constexpr,
    TO_ZERO: tl.constexpr,
    MOST: tl.constexpr,
    BOUNDED: tl.constexpr,
    WRAPS: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    SURROGATE: tl.constexpr,
    ALPHA: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Backward pass through all steps; each program processes ``COLUMNS`` channels, ``ROWS`` positions at a time.

    The distance of each membrane from the threshold is stored in ``kept``; for neurons that may fire more than once per
    step, the membrane itself. The gradients of bias, threshold, leak and slope are stored in ``sums``
    ``[programs, 4, channels]``.
    """
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    known = channel < channels
    added = tl.load(bias + channel, mask=known, other=0.0)[None, :]
    theta = tl.load(threshold + channel, mask=known, other=1.0)[None, :]
    amount = tl.load(leak + channel, mask=known, other=0.0)
    share = _share(amount, LEAK, BITS)
    if LEAK == 4:
        keeps, by_leak = 1 - share, share * 0.6931471805599453
    else:
        keeps, by_leak = share, tl.zeros_like(share) - 1.0 / (1 << BITS)
    share, keeps = share[None, :], keeps.to(REAL)[None, :]
    scale = tl.load(slope + channel, mask=known, other=0.0).to(REAL)[None, :]
    gate = tl.load(alive + channel, mask=known, other=0)[None, :] != 0
    of_bias = tl.zeros((ROWS, COLUMNS), REAL)
    of_theta = tl.zeros((ROWS, COLUMNS), REAL)
    of_leak = tl.zeros((ROWS, COLUMNS), REAL)
    of_scale = tl.zeros((ROWS, COLUMNS), REAL)
    for block in range(tl.program_id(0), tl.cdiv(places, ROWS), tl.num_programs(0)):
        place = block * ROWS + tl.arange(0, ROWS)
        live = (place < places)[:, None] & known[None, :]
        neuron = place[:, None] * channels + channel[None, :]
        if WINDOW == 1:
            window, sends = neuron, live & gate
        else:
            column, row = place % width // WINDOW, place // width
            line, across, down = row % height // WINDOW, width // WINDOW, height // WINDOW
            covered = (column < across) & (line < down)
            window = (((row // height * down + line) * across + column) * channels)[:, None] + channel[None, :]
            sends = live & gate & covered[:, None]
        # Pointers advance with each step, because step * lanes may exceed 32 bits.
        reads, keeping, arrives, writes = current + neuron, kept + neuron, grad_spikes + window, grad_current + neuron
        arriving = tl.load(reads, mask=live, other=0.0).to(tl.float64)
        u = tl.zeros((ROWS, COLUMNS), tl.float64)
        for _ in range(steps):
            if MOVES:
                arriving = tl.load(reads, mask=live, other=0.0).to(tl.float64)
                reads += lanes
                writes += lanes
            v = _bounded(_leaked(u, share, LEAK) + (arriving + added), BOUNDED, WRAPS, LOW, HIGH)
            u = _reset(v, _fired(v, theta, MOST), theta, TO_ZERO)
            if MOST == 1:
                tl.store(keeping, (v - theta).to(REAL), mask=live)
            else:
                tl.store(keeping, v, mask=live)
            keeping += lanes
            arrives += sent
        tl.debug_barrier()  # a thread may load what another one stored
        grad_state = tl.zeros((ROWS, COLUMNS), REAL)  # of the state, from the next step
        of_frame = tl.zeros((ROWS, COLUMNS), REAL)
        keeping -= lanes
        found = tl.load(keeping, mask=live, other=0.0)
        for back in range(steps):
            arrives -= sent
            if MOST == 1:
                distance = found
                nearest = tl.full((ROWS, COLUMNS), 1.0, REAL)
                count = tl.where(found >= 0, 1.0, 0.0).to(REAL)
            else:
                turns = tl.minimum(tl.maximum(found / theta, 1.0), MOST * 1.0)
                turns = (turns + _TO_NEAREST) - _TO_NEAREST
                distance, nearest = (found - turns * theta).to(REAL), turns.to(REAL)
                count = _fired(found, theta, MOST).to(REAL)
            go = tl.load(arrives, mask=sends, other=0.0).to(REAL)
            by_surrogate = go * _derivative(distance * scale, SURROGATE, ALPHA)
            at_threshold = by_surrogate * scale
            of_theta -= at_threshold * nearest
            of_scale += by_surrogate * distance
            if TO_ZERO:
                grad_state = tl.where(count > 0, 0.0, grad_state)
            else:
                of_theta -= grad_state * count
            grad = at_threshold + grad_state
            of_bias += grad
            keeping -= lanes
            found = tl.load(keeping, mask=live & (back < steps - 1), other=0.0)
            if MOVES:
                writes -= lanes
                tl.store(writes, grad, mask=live)
            else:
                of_frame += grad
            if LEAK == 0:
                grad_state = grad
            else:  # before the first step, the loaded value and the state are 0
                if MOST == 1:
                    state = tl.where(found >= 0, 0.0 if TO_ZERO else found, found + theta.to(REAL))
                else:
                    state = _reset(found, _fired(found, theta, MOST), theta, TO_ZERO).to(REAL)
                if LEAK == 3:
                    grad_state = tl.where(tl.abs(state) > keeps, grad, 0.0)
                    of_leak -= tl.where(state > 0, grad_state, -grad_state)
                else:
                    grad_state = grad * keeps
                    of_leak += grad * state
        if not MOVES:
            tl.store(writes, of_frame, mask=live)
    sums += tl.program_id(0) * 4 * channels + channel
    tl.store(sums, tl.sum(of_bias.to(tl.float64), axis=0), mask=known)
    tl.store(sums + channels, tl.sum(of_theta.to(tl.float64), axis=0), mask=known)
    leaks = tl.sum(of_leak.to(tl.float64), axis=0)
    if LEAK != 3:
        leaks *= by_leak
    tl.store(sums + 2 * channels, leaks, mask=known)
    tl.store(sums + 3 * channels, tl.sum(of_scale.to(tl.float64), axis=0), mask=known)
