"""The integrate-and-fire scan as numba kernels: norm, scan and average pooling in one pass over memory.

A kernel processes *rows* of *lanes*: consecutive values of one step, channels last, one neuron per lane. A work item is
a segment of ``side`` neighbouring rows, so no other item writes to its part of the pooled output. Its membranes stay in
the cache for all steps. Sums over neurons are computed per item and added in a fixed order, so results do not depend on
the number of threads. The backward pass recomputes the membrane from the current instead of storing it.

The arithmetic follows the equations in their order, without fused multiply-adds.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from spikefit.functional.kernels.cpu.jit import jit, parallel
from spikefit.functional.surrogate import ATAN, SIGMOID

_SEGMENT_LANES = 1024  # per step; several arrays of this size fit into the first-level cache
_HISTORY_LANES = 2**16  # per segment, over all steps; fits into the second-level cache
_SUMMED = 16  # runs per work item of channel_sums

Array = np.ndarray[Any, Any]
Constants = tuple[float, bool, float, float, bool]  # decay, whether the leak is linear, its loss, threshold, reset to 0
Surrogate = tuple[int, float, float]  # kind, alpha, and pi / 2 * alpha


class Rows(NamedTuple):
    """Division of ``[steps, lanes]`` into work items.

    Attributes:
        channels: number of channels; lane ``i`` belongs to channel ``i % channels``.
        row: lanes per row.
        used: lanes per row that a pooling window covers.
        height: rows per image.
        groups: rows of pooling windows in all images.
        groups_each: rows of pooling windows per image.
        side: side of the pooling window; 1 for none.
        run: lanes per segment, a multiple of ``side * channels``.
    """

    channels: int
    row: int
    used: int
    height: int
    groups: int
    groups_each: int
    side: int
    run: int

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.groups * -(-self.used // self.run)

    @property
    def pooled(self) -> int:
        """Lanes per step of the pooled output."""
        return self.groups * self.used // self.side


def flat_rows(lanes: int, channels: int, steps: int) -> Rows:
    """Rows of any layout without pooling: one long row."""
    return Rows(channels, lanes, lanes, 1, 1, 1, 1, _segment(channels, steps))


def image_rows(batch: int, height: int, width: int, channels: int, side: int, steps: int) -> Rows:
    """Rows of images ``[batch, height, width, channels]`` with pooling windows of ``side``, without the remainder."""
    used = width // side * side * channels
    run = min(max(used, side * channels), _segment(side * channels, steps))
    return Rows(channels, width * channels, used, height, batch * (height // side), height // side, side, run)


def _segment(unit: int, steps: int) -> int:
    return unit * max(1, min(_SEGMENT_LANES, _HISTORY_LANES // steps) // unit)


@jit
def _channel_sums(item: int, y: Array, channels: int, run: int, parts: Array) -> None:
    first, second = np.zeros(run), np.zeros(run)
    end = min(len(y), (item + 1) * _SUMMED * run)
    for start in range(item * _SUMMED * run, end, run):
        lanes = y[start : min(end, start + run)]
        for i in range(len(lanes)):
            first[i] += lanes[i]
        for i in range(len(lanes)):
            second[i] += np.float64(lanes[i]) * np.float64(lanes[i])
    for position in range(run // channels):
        for c in range(channels):
            parts[item, 0, c] += first[position * channels + c]
            parts[item, 1, c] += second[position * channels + c]


@parallel
def channel_sums(y: Array, channels: int, run: int, parts: Array) -> None:
    """Add sums and sums of squares of ``y`` ``[positions * channels]`` to float64 ``parts`` ``[items, 2, C]``.

    There are :func:`sum_items` items. ``run``, a multiple of ``channels``, is the number of parallel partial sums.
    """
    for item in prange(len(parts)):
        _channel_sums(np.int64(item), y, channels, run, parts)


def sum_items(lanes: int, run: int) -> int:
    """Number of work items of :func:`channel_sums`."""
    return -(-lanes // (_SUMMED * run))


@jit
def tile(values: Array, run: int, dtype: Array) -> Array:
    """Repeat one value per channel for every lane of a segment, in the dtype of the array ``dtype``."""
    tiled = np.empty(run, dtype.dtype)
    for start in range(0, run, len(values)):
        for c in range(len(values)):
            tiled[start + c] = values[c]
    return tiled


@jit
def segment_of(item: int, rows: tuple[int, ...]) -> tuple[int, int, int, int]:
    """First lane, distance to the next row, number of lanes and first pooled lane of a work item."""
    _, row, used, height, _, groups_each, side, run = rows
    segments = (used + run - 1) // run
    group, segment = item // segments, item % segments
    start = ((group // groups_each) * height + (group % groups_each) * side) * row + segment * run
    return start, row, min(run, used - segment * run), group * (used // side) + segment * (run // side)


@jit
def _leak(u: Array, linear: bool, loss: float) -> None:
    if linear:
        for i in range(len(u)):
            u[i] = u[i] - np.copysign(min(abs(u[i]), loss), u[i])


@jit
def _scan(
    item: int,
    y: Array,
    a: Array,
    b: Array,
    alive: Array,
    constants: Constants,
    rows: tuple[int, ...],
    out: Array,
) -> None:
    channels, side, run = rows[0], rows[6], rows[7]
    decay, linear, loss, theta, to_zero = constants
    moves = 1 if len(y) > 1 else 0
    zero, area = y.dtype.type(0), y.dtype.type(side * side)
    first, row, n, pooled = segment_of(item, rows)
    fired = np.empty(run, y.dtype)
    for r in range(side):
        u = np.zeros(run, y.dtype)
        for t in range(len(out)):
            current = y[t * moves, first + r * row : first + r * row + n]
            o = out[t, pooled : pooled + n // side]
            target = o if side == 1 else fired[:n]
            _leak(u, linear, loss)
            if to_zero:
                for i in range(n):
                    v = u[i] * decay + (current[i] * a[i] + b[i])
                    s = v >= theta
                    target[i] = alive[i] if s else zero
                    u[i] = zero if s else v
            else:
                for i in range(n):
                    v = u[i] * decay + (current[i] * a[i] + b[i])
                    s = v >= theta
                    target[i] = alive[i] if s else zero
                    u[i] = v - theta if s else v
            if side > 1:
                if r == 0:
                    o[:] = zero
                for position in range(n // channels):
                    window = o[position // side * channels : (position // side + 1) * channels]
                    spikes = fired[position * channels : (position + 1) * channels]
                    for c in range(channels):
                        window[c] += spikes[c]
                if r == side - 1:
                    for i in range(n // side):
                        o[i] /= area


@parallel
def scan(
    y: Array,
    scale: Array,
    shift: Array,
    alive: Array,
    constants: Constants,
    rows: tuple[int, ...],
    items: int,
    out: Array,
) -> None:
    """Pooled spikes ``out`` ``[T, pooled lanes]`` of currents ``scale * y + shift``; ``y`` ``[T or 1, lanes]``."""
    a, b, gate = tile(scale, rows[7], y), tile(shift, rows[7], y), tile(alive, rows[7], y)
    for item in prange(items):
        _scan(np.int64(item), y, a, b, gate, constants, rows, out)


@jit
def times_surrogate(g: Array, v: Array, theta: float, surrogate: Surrogate) -> None:
    """Multiply ``g`` by the surrogate's derivative at membrane ``v``."""
    kind, alpha, slope = surrogate
    one, zero = v.dtype.type(1), v.dtype.type(0)
    half = alpha / v.dtype.type(2)
    if kind == ATAN:
        for i in range(len(g)):
            x = slope * (v[i] - theta)
            g[i] *= half / (one + x * x)
    elif kind == SIGMOID:
        for i in range(len(g)):
            p = one / (one + np.exp(-alpha * (v[i] - theta)))
            g[i] *= alpha * p * (one - p)
    else:
        for i in range(len(g)):
            g[i] *= alpha * max(zero, one - alpha * abs(v[i] - theta))


@jit
def _through_leak(u: Array, gv: Array, before: Array, constants: Constants, amount: Array) -> None:
    """Gradient ``u`` of the membrane after the previous step's reset, given that of the current membrane, ``gv``."""
    decay, linear, loss, theta, to_zero = constants
    one, zero = u.dtype.type(1), u.dtype.type(0)
    keep, drop = (zero, zero) if to_zero else (one, theta)  # factor and offset of the membrane after a spike
    if linear:
        for i in range(len(gv)):
            kept = before[i] if before[i] < theta else before[i] * keep - drop
            u[i] = gv[i] if abs(kept) > loss else zero
            amount[i] -= u[i] if kept > zero else -u[i]
    else:
        for i in range(len(gv)):
            kept = before[i] if before[i] < theta else before[i] * keep - drop
            u[i] = gv[i] * decay
            amount[i] += gv[i] * kept


@jit
def _scan_gradient(
    item: int,
    grad_out: Array,
    y: Array,
    a: Array,
    b: Array,
    alive: Array,
    constants: Constants,
    surrogate: Surrogate,
    rows: tuple[int, ...],
    grad_current: Array,
    sums: Array,
    amounts: Array,
) -> None:
    channels, side = rows[0], rows[6]
    decay, linear, loss, theta, to_zero = constants
    steps, moves = len(grad_out), 1 if len(y) > 1 else 0
    zero, area = y.dtype.type(0), y.dtype.type(side * side)
    first, row, n, pooled = segment_of(item, rows)
    history, gv = np.empty((steps, n), y.dtype), np.empty(n, y.dtype)
    total, moment, amount = np.zeros(n, y.dtype), np.zeros(n, y.dtype), np.zeros(n, y.dtype)
    for r in range(side):
        start = first + r * row
        u = np.zeros(n, y.dtype)
        for t in range(steps):
            current, v = y[t * moves, start : start + n], history[t]
            _leak(u, linear, loss)
            for i in range(n):
                v[i] = u[i] * decay + (current[i] * a[i] + b[i])
            if to_zero:
                for i in range(n):
                    u[i] = zero if v[i] >= theta else v[i]
            else:
                for i in range(n):
                    u[i] = v[i] - theta if v[i] >= theta else v[i]
        if moves == 0:
            grad_current[0, start : start + n] = zero
        u[:] = zero  # from here on the gradient of the membrane after the reset
        for t in range(steps - 1, -1, -1):
            v, current = history[t], y[t * moves, start : start + n]
            go = grad_out[t, pooled : pooled + n // side]
            if side == 1:
                for i in range(n):
                    gv[i] = go[i] * alive[i]
            else:
                for position in range(n // channels):
                    window = go[position // side * channels : (position // side + 1) * channels]
                    spread = gv[position * channels : (position + 1) * channels]
                    for c in range(channels):
                        spread[c] = window[c] / area * alive[c]
            times_surrogate(gv, v, theta, surrogate)
            if to_zero:
                for i in range(n):
                    kept = u[i]  # loaded unconditionally: a conditional load becomes a branch, 2.5 times as slow
                    gv[i] += zero if v[i] >= theta else kept
            else:
                for i in range(n):
                    gv[i] += u[i]
            g = grad_current[t * moves, start : start + n]
            if moves == 0:
                for i in range(n):
                    g[i] += gv[i]
            else:
                for i in range(n):
                    g[i] = gv[i]
            if len(sums) > 0:
                for i in range(n):
                    total[i] += gv[i]
                    moment[i] += gv[i] * current[i]
            if t > 0:
                _through_leak(u, gv, history[t - 1], constants, amount)
    if len(sums) > 0:
        for position in range(n // channels):
            for c in range(channels):
                sums[item, 0, c] += total[position * channels + c]
                sums[item, 1, c] += moment[position * channels + c]
    if len(amounts) > 0:
        for i in range(n):
            amounts[item] += amount[i]


@parallel
def scan_gradient(
    grad_out: Array,
    y: Array,
    scale: Array,
    shift: Array,
    alive: Array,
    constants: Constants,
    surrogate: Surrogate,
    rows: tuple[int, ...],
    items: int,
    grad_current: Array,
    sums: Array,
    amounts: Array,
) -> None:
    """Gradient of :func:`scan` for its current, ``[T or 1, lanes]``; summed over time for a constant current.

    The sums of the gradient and of gradient times ``y`` over the lanes of each channel are added to ``sums``
    ``[items, 2, channels]``, the gradient of the decay or of the linear loss to ``amounts`` ``[items]``. Either array
    may be empty.
    """
    a, b, gate = tile(scale, rows[7], y), tile(shift, rows[7], y), tile(alive, rows[7], y)
    for item in prange(items):
        _scan_gradient(np.int64(item), grad_out, y, a, b, gate, constants, surrogate, rows, grad_current, sums, amounts)


@jit
def _norm_gradient(item: int, grad: Array, y: Array, a: Array, b: Array, d: Array) -> None:
    run = len(a)
    g, x = grad[item * run : (item + 1) * run], y[item * run : (item + 1) * run]
    for i in range(len(x)):
        g[i] = a[i] * g[i] + b[i] * x[i] + d[i]


@parallel
def norm_gradient(grad: Array, y: Array, by_grad: Array, by_y: Array, constant: Array, run: int) -> None:
    """In place ``grad = by_grad * grad + by_y * y + constant`` over ``[lanes]``, with coefficients per channel."""
    a, b, d = tile(by_grad, run, y), tile(by_y, run, y), tile(constant, run, y)
    for item in prange((len(y) + run - 1) // run):
        _norm_gradient(np.int64(item), grad, y, a, b, d)
