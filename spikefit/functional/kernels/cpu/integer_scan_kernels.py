"""Neurons in a chip's integer arithmetic as numba kernels; integers are stored in float64, which vectorises well.

The caller ensures that every value stays below 2**53 in magnitude, including the products of a decay. So only the leak
is rounded, as on the chip. The plain-torch reference is :mod:`spikefit.functional.integer_arithmetic`.

Work items are those of :mod:`spikefit.functional.kernels.cpu.norm_scan_kernels`: sums over neurons are computed per
item and added in a fixed order, so results do not depend on the number of threads.
"""

from typing import Any

import numpy as np
from numba import prange

from spikefit.functional.kernels.cpu.jit import jit, parallel
from spikefit.functional.kernels.cpu.norm_scan_kernels import segment_of, tile, times_surrogate

Array = np.ndarray[Any, Any]
Rows = tuple[int, int, int, int]  # channels, lanes per row, height of the map, side of the windows
NONE, DECAY_FLOOR, DECAY_TRUNCATE, LINEAR, SHIFT = range(5)  # leaks
# Leak, reset to zero, wraps, smallest and largest state, most spikes per step.
Rule = tuple[int, bool, bool, float, float, float]


@jit
def _charge(v: Array, u: Array, current: Array, b: Array, amount: Array, rule: Rule) -> int:
    """Store the leaked ``u`` plus the current in ``v``; return how many membranes leave the range.

    ``amount`` is the loss of a linear leak, the factor of a decay, or the share that a shift removes. Factors and
    shares are multiples of a power of two, so the products are exact.
    """
    kind, low, high = rule[0], rule[3], rule[4]
    outside = 0
    if kind == DECAY_FLOOR:
        for i in range(len(v)):
            w = np.floor(u[i] * amount[i]) + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    elif kind == DECAY_TRUNCATE:
        for i in range(len(v)):
            w = np.trunc(u[i] * amount[i]) + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    elif kind == LINEAR:
        for i in range(len(v)):
            w = u[i] - np.copysign(min(abs(u[i]), amount[i]), u[i]) + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    elif kind == SHIFT:
        for i in range(len(v)):
            lost = np.floor(u[i] * amount[i])  # at least one unit is lost; for a negative state, floor ensures it
            least = 1.0 if u[i] > 0.0 else 0.0
            w = u[i] - (least if lost == 0.0 else lost) + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    else:
        for i in range(len(v)):
            w = u[i] + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    return outside


@jit
def _bound(v: Array, rule: Rule) -> None:
    wraps, low, high = rule[2], rule[3], rule[4]
    if wraps:
        width = high - low + 1
        for i in range(len(v)):
            v[i] = v[i] - width * np.floor((v[i] - low) / width)
    else:
        for i in range(len(v)):
            v[i] = min(max(v[i], low), high)


@jit
def _fire(v: Array, theta: Array, most: float, spikes: Array) -> None:
    if most == 1.0:
        for i in range(len(v)):
            spikes[i] = np.float32(1) if v[i] >= theta[i] else np.float32(0)
    else:
        for i in range(len(v)):
            spikes[i] = min(max(np.floor(v[i] / theta[i]), 0.0), most)


@jit
def _reset(v: Array, u: Array, theta: Array, to_zero: bool, most: float, spikes: Array) -> None:
    if most > 1.0:
        for i in range(len(v)):
            left = 0.0 if to_zero else v[i] - theta[i] * spikes[i]
            u[i] = left if spikes[i] > 0 else v[i]
    elif to_zero:
        for i in range(len(v)):
            w = v[i]
            u[i] = 0.0 if w >= theta[i] else w
    else:
        for i in range(len(v)):
            w = v[i]
            u[i] = w - theta[i] if w >= theta[i] else w


@jit
def _count(spikes: Array, counts: Array) -> None:
    for i in range(len(spikes)):
        counts[i] += spikes[i]


@jit
def _gather(spikes: Array, target: Array, windows: int, side: int, channels: int) -> None:
    """Add the spikes of one row to the sums of its windows."""
    for window in range(windows):
        to = window * channels
        for column in range(side):
            of = (window * side + column) * channels
            for c in range(channels):
                target[to + c] += spikes[of + c]


@jit
def _scan(item: int, y: Array, constants: Array, rule: Rule, rows: Rows, out: Array, counts: Array) -> int:
    """Scan a strip of ``side`` rows in every sample."""
    channels, row, height, side = rows
    lanes = len(counts)
    width = row // channels // side  # in windows; neurons outside every window fire, but their spikes go nowhere
    image = (height // side) * width * channels if side > 1 else lanes
    moves = 1 if len(y) > 1 else 0
    full = row if side > 1 else min(row, lanes - item * row)
    b, theta, amount = constants[0, :full], constants[1, :full], constants[2, :full]
    v, fired = np.empty(full), np.empty(full, np.float32)
    outside = 0
    for sample in range(y.shape[1] // lanes):
        for r in range(min(side, height - item * side) if side > 1 else 1):
            lane = (item * side + r) * row
            first, u, c = sample * lanes + lane, np.zeros(full), counts[lane : lane + full]
            for t in range(len(out)):
                beyond = _charge(v, u, y[t * moves, first : first + full], b, amount, rule)
                if beyond:
                    _bound(v, rule)
                    outside += beyond
                spikes = fired if side > 1 else out[t, first : first + full]
                _fire(v, theta, rule[5], spikes)
                _count(spikes, c)
                _reset(v, u, theta, rule[1], rule[5], spikes)
                if side > 1 and item < height // side:
                    start = sample * image + item * width * channels
                    target = out[t, start : start + width * channels]
                    if r == 0:
                        target[:] = np.float32(0)
                    _gather(fired, target, width, side, channels)
    return outside


@parallel
def scan(y: Array, constants: Array, rule: Rule, rows: Rows, out: Array, counts: Array, outside: Array) -> None:
    """Compute spikes ``out`` ``[T, ...]``, or their sums over windows, from currents ``y`` ``[T or 1, batch lanes]``.

    ``constants`` are bias, threshold and leak, float64 ``[3, lanes per row]``. The number of spikes of each neuron is
    added to ``counts`` ``[lanes per sample]``; the number of membranes that left the range is stored in ``outside``
    ``[items]``.
    """
    for item in prange(len(outside)):
        outside[item] = _scan(np.int64(item), y, constants, rule, rows, out, counts)


@jit
def _distances(v: Array, theta: Array, most: float, distance: Array, nearest: Array) -> None:
    """Distance of the membrane from the nearest multiple of the threshold at which the neuron fires one more spike."""
    if most == 1.0:
        for i in range(len(v)):
            distance[i] = v[i] - theta[i]
    else:
        for i in range(len(v)):
            multiple = min(max(np.rint(v[i] / theta[i]), 1.0), most)
            nearest[i] = multiple
            distance[i] = v[i] - multiple * theta[i]


@jit
def _at_threshold(g: Array, distance: Array, x: Array, scale: Array, surrogate: tuple[int, float, float]) -> None:
    """Multiply ``g`` by the surrogate's derivative, at ``x``: the distance in the units of the network."""
    for i in range(len(g)):
        x[i] = distance[i] * scale[i]
    times_surrogate(g, x, g.dtype.type(0), surrogate)


@jit
def _through_fire(
    g: Array,
    u: Array,
    distance: Array,
    scale: Array,
    to_zero: bool,
    most: float,
    spikes: Array,
    nearest: Array,
    of_theta: Array,
    of_scale: Array,
) -> None:
    """Turn ``g``, the gradient of the surrogate's argument, into that of the membrane; ``u`` is that of the state."""
    zero, one = g.dtype.type(0), g.dtype.type(1)
    drop, keep = (zero, zero) if to_zero else (one, one)  # factors of threshold and membrane in the reset state
    for i in range(len(g)):
        of_scale[i] += g[i] * distance[i]
    if most > 1.0:
        for i in range(len(g)):
            at = g[i] * scale[i]
            through = u[i] * (keep if spikes[i] > zero else one)
            of_theta[i] += at * nearest[i] + u[i] * drop * spikes[i]
            g[i] = at + through
    elif to_zero:
        for i in range(len(g)):
            at, state = g[i] * scale[i], u[i]
            of_theta[i] += at
            g[i] = at + (zero if distance[i] >= zero else state)
    else:
        for i in range(len(g)):
            at, state = g[i] * scale[i], u[i]
            of_theta[i] += at + (state if distance[i] >= zero else zero)
            g[i] = at + state


@jit
def _state(
    state: Array, distance: Array, theta: Array, to_zero: bool, most: float, spikes: Array, nearest: Array
) -> None:
    """The membrane after the reset, from its distance to the threshold."""
    zero, one = state.dtype.type(0), state.dtype.type(1)
    if most > 1.0:
        for i in range(len(state)):
            v = distance[i] + nearest[i] * theta[i]
            left = zero if to_zero else v - spikes[i] * theta[i]
            state[i] = left if spikes[i] > zero else v
    else:
        keep = zero if to_zero else one
        for i in range(len(state)):
            d = distance[i]
            state[i] = d * keep if d >= zero else d + theta[i]


@jit
def _through_leak(u: Array, g: Array, state: Array, linear: bool, amount: Array, of_amount: Array) -> None:
    """Gradient ``u`` of the state, given that of the leaked state, ``g``; a decay's ``amount`` is its factor."""
    zero = u.dtype.type(0)
    if linear:
        for i in range(len(g)):
            u[i] = g[i] if abs(state[i]) > amount[i] else zero
            of_amount[i] -= u[i] if state[i] > zero else -u[i]
    else:
        for i in range(len(g)):
            u[i] = g[i] * amount[i]
            of_amount[i] += g[i] * state[i]


@jit
def _add_channels(total: Array, channels: int, sums: Array) -> None:
    for position in range(len(total) // channels):
        for c in range(channels):
            sums[c] += total[position * channels + c]


@jit
def _scan_gradient(
    item: int,
    grad_out: Array,
    y: Array,
    exact: Array,
    real: Array,
    rule: Rule,
    surrogate: tuple[int, float, float],
    rows: tuple[int, ...],
    grad_y: Array,
    sums: Array,
) -> None:
    channels, side, to_zero, most = rows[0], rows[6], rule[1], rule[5]
    steps, moves = len(grad_out), 1 if len(y) > 1 else 0
    first, row, n, pooled = segment_of(item, rows)
    b, theta, amount = exact[0, :n], exact[1, :n], exact[2, :n]
    theta_real, kept, scale, gate = real[0, :n], real[1, :n], real[2, :n], real[3, :n]
    several = steps if most > 1.0 else 1
    kind = grad_out.dtype
    distance, spikes, nearest = np.empty((steps, n), kind), np.empty((several, n), kind), np.empty((several, n), kind)
    totals, v, g, x = np.zeros((4, n), kind), np.empty(n), np.empty(n, kind), np.empty(n, kind)
    for r in range(side):
        start = first + r * row
        state = np.zeros(n)
        for t in range(steps):
            of = min(t, several - 1)
            if _charge(v, state, y[t * moves, start : start + n], b, amount, rule):
                _bound(v, rule)
            _distances(v, theta, most, distance[t], nearest[of])
            if most > 1.0:
                _fire(v, theta, most, spikes[of])
            _reset(v, state, theta, to_zero, most, spikes[of])
        if moves == 0:
            grad_y[0, start : start + n] = kind.type(0)
        u = np.zeros(n, kind)
        for t in range(steps - 1, -1, -1):
            go, of = grad_out[t, pooled : pooled + n // side], min(t, several - 1)
            for position in range(n // channels):
                at, window = position * channels, position // side * channels
                for c in range(channels):
                    g[at + c] = go[window + c] * gate[at + c]
            _at_threshold(g, distance[t], x, scale, surrogate)
            _through_fire(g, u, distance[t], scale, to_zero, most, spikes[of], nearest[of], totals[1], totals[3])
            target = grad_y[t * moves, start : start + n]
            if moves == 0:
                for i in range(n):
                    target[i] += g[i]
            else:
                for i in range(n):
                    target[i] = g[i]
                for i in range(n):
                    totals[0, i] += g[i]
            if t > 0 and rule[0] != NONE:
                before = min(t - 1, several - 1)
                _state(x, distance[t - 1], theta_real, to_zero, most, spikes[before], nearest[before])
                _through_leak(u, g, x, rule[0] == LINEAR, kept, totals[2])
            elif t > 0:
                for i in range(n):
                    u[i] = g[i]
        if moves == 0:
            _count(grad_y[0, start : start + n], totals[0])
    for which in range(4):
        _add_channels(totals[which], channels, sums[item, which])


@parallel
def scan_gradient(
    grad_out: Array,
    y: Array,
    constants: Array,
    real: Array,
    rule: Rule,
    surrogate: tuple[int, float, float],
    rows: tuple[int, ...],
    grad_y: Array,
    sums: Array,
) -> None:
    """Gradient of :func:`scan` for its currents, ``[T or 1, lanes]``; summed over time for a constant current.

    Args:
        grad_out: ``[T, pooled lanes]``, in the dtype of all arithmetic except that of the membrane.
        y: ``[T or 1, lanes]``.
        constants: float64 ``[3, C]``: bias, threshold and leak, as for :func:`scan`.
        real: ``[4, C]``, in the dtype of ``grad_out``: threshold; loss of a linear leak or factor of a decay; value of
            one unit of the membrane; 1 for an alive unit, 0 for a dead one.
        rule: rule of the neurons.
        surrogate: kind, alpha, and pi / 2 * alpha.
        rows: :class:`~spikefit.functional.kernels.cpu.norm_scan_kernels.Rows`.
        grad_y: the result, in the dtype of ``grad_out``.
        sums: float64 ``[items, 4, C]``, zeros. The gradients of the bias, of the threshold (with opposite sign), of a
            linear leak or the factor of a decay, and of the unit are added to it.
    """
    exact, others = np.empty((3, rows[7])), np.empty((4, rows[7]), grad_out.dtype)
    for which in range(3):
        exact[which] = tile(constants[which], rows[7], constants)
    for which in range(4):
        others[which] = tile(real[which], rows[7], grad_out)
    for item in prange(len(sums)):
        _scan_gradient(np.int64(item), grad_out, y, exact, others, rule, surrogate, rows, grad_y, sums)
