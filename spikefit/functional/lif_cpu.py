"""The integrate-and-fire scan as numba kernels: norm, scan and average pooling in one pass over memory.

A kernel walks *rows* of ``lanes``: consecutive values of one step, channel last, each lane one neuron. A work item is a
segment of ``side`` neighbouring rows, so that it fills its part of the pooled output alone; its membranes stay in the
cache for all steps. Sums over neurons are gathered item by item and added up in one order, so that results do not
depend on the number of threads. The backward pass computes the membrane anew from the current instead of storing it.

Arithmetic is that of the equations, in their order, without contraction to fused multiply-adds.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from spikefit.functional.jit import jit

ATAN, SIGMOID, TRIANGLE = 0, 1, 2
SURROGATE_KINDS = {"atan": ATAN, "sigmoid": SIGMOID, "triangle": TRIANGLE}

_SEGMENT_BYTES = 4096  # of one step: several arrays of this size stay in the first-level cache
_HISTORY_BYTES = 2**18  # of all steps of a segment: stays in the second-level cache

Array = np.ndarray[Any, Any]


class Rows(NamedTuple):
    """How ``[steps, lanes]`` is cut into work items.

    Attributes:
        channels: neurons of neighbouring lanes; lane ``i`` belongs to channel ``i % channels``.
        row: lanes of a row.
        used: lanes of a row that a pooling window covers.
        height: rows of an image.
        groups: pooling windows that lie above each other, over all images.
        above: the same of one image.
        side: side of the pooling window; 1 for none.
        run: lanes of a segment, a multiple of ``side * channels``.
    """

    channels: int
    row: int
    used: int
    height: int
    groups: int
    above: int
    side: int
    run: int

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.groups * -(-self.used // self.run)

    @property
    def pooled(self) -> int:
        """Lanes of one step of the pooled output."""
        return self.groups * self.used // self.side


def flat_rows(lanes: int, channels: int, steps: int, itemsize: int) -> Rows:
    """Any layout without pooling: one long row."""
    return Rows(channels, lanes, lanes, 1, 1, 1, 1, _segment(channels, steps, itemsize))


def image_rows(batch: int, height: int, width: int, channels: int, side: int, steps: int, itemsize: int) -> Rows:
    """Images ``[batch, height, width, channels]`` pooled by windows of ``side``; what no window covers is left out."""
    used = width // side * side * channels
    run = min(max(used, side * channels), _segment(side * channels, steps, itemsize))
    return Rows(channels, width * channels, used, height, batch * (height // side), height // side, side, run)


def _segment(unit: int, steps: int, itemsize: int) -> int:
    lanes = min(_SEGMENT_BYTES, _HISTORY_BYTES // steps) // itemsize
    return unit * max(1, lanes // unit)


@jit
def channel_sums(y: Array, channels: int, run: int) -> Array:
    """Sums and sums of squares of ``y`` ``[positions * channels]`` in float64: ``[2, channels]``."""
    block = 16 * run  # of a work item; ``run`` lanes are summed side by side
    items = (len(y) + block - 1) // block
    parts = np.zeros((items, 2, channels))
    for item in prange(items):
        first, second = np.zeros(run), np.zeros(run)
        end = min(len(y), (item + 1) * block)
        for start in range(item * block, end, run):
            lanes = y[start : min(end, start + run)]
            for i in range(len(lanes)):
                first[i] += lanes[i]
            for i in range(len(lanes)):
                second[i] += np.float64(lanes[i]) * np.float64(lanes[i])
        for position in range(run // channels):
            for c in range(channels):
                parts[item, 0, c] += first[position * channels + c]
                parts[item, 1, c] += second[position * channels + c]
    total = np.zeros((2, channels))
    for item in range(items):
        total += parts[item]
    return total


@jit
def scan(
    y: Array,
    scale: Array,
    shift: Array,
    alive: Array,
    decay: float,
    linear: bool,
    loss: float,
    theta: float,
    to_zero: bool,
    rows: tuple[int, ...],
    out: Array,
) -> None:
    """Pooled spikes ``out`` ``[T, pooled lanes]`` of currents ``scale * y + shift``; ``y`` ``[T or 1, lanes]``."""
    channels, row, used, height, groups, above, side, run = rows
    steps, moves = len(out), 1 if len(y) > 1 else 0
    segments = (used + run - 1) // run
    zero, area = y.dtype.type(0), y.dtype.type(side * side)
    a, b, gate = np.empty(run, y.dtype), np.empty(run, y.dtype), np.empty(run, y.dtype)
    for position in range(run // channels):
        for c in range(channels):
            i = position * channels + c
            a[i], b[i], gate[i] = scale[c], shift[c], alive[c]
    for item in prange(groups * segments):
        group, segment = item // segments, item % segments
        n = min(run, used - segment * run)
        pooled = group * (used // side) + segment * (run // side)
        u, fired = np.empty(run, y.dtype), np.empty(run, y.dtype)
        for r in range(side):
            start = ((group // above) * height + (group % above) * side + r) * row + segment * run
            u[:] = zero
            for t in range(steps):
                current = y[t * moves, start : start + n]
                o = out[t, pooled : pooled + n // side]
                target = o if side == 1 else fired[:n]
                if linear:
                    for i in range(n):
                        u[i] = u[i] - np.copysign(min(abs(u[i]), loss), u[i])
                if to_zero:
                    for i in range(n):
                        v = u[i] * decay + (current[i] * a[i] + b[i])
                        s = v >= theta
                        target[i] = gate[i] if s else zero
                        u[i] = zero if s else v
                else:
                    for i in range(n):
                        v = u[i] * decay + (current[i] * a[i] + b[i])
                        s = v >= theta
                        target[i] = gate[i] if s else zero
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


@jit
def scan_gradient(
    grad_out: Array,
    y: Array,
    scale: Array,
    shift: Array,
    alive: Array,
    decay: float,
    linear: bool,
    loss: float,
    theta: float,
    to_zero: bool,
    kind: int,
    alpha: float,
    rows: tuple[int, ...],
    grad_current: Array,
    sums: Array,
    amounts: Array,
) -> None:
    """Gradient of :func:`scan` for its current, ``[T or 1, lanes]`` (of a constant current, its sum over time).

    ``sums`` ``[items, 2, channels]`` takes the sums of the gradient and of gradient times ``y`` over the lanes of each
    channel, ``amounts`` ``[items]`` the gradient of the decay or the linear loss. Either is left as it is if it is
    empty.
    """
    channels, row, used, height, groups, above, side, run = rows
    steps, moves = len(grad_out), 1 if len(y) > 1 else 0
    segments = (used + run - 1) // run
    number = y.dtype.type
    zero, one, area = number(0), number(1), number(side * side)
    keep, drop = (zero, zero) if to_zero else (one, theta)  # what a spike leaves of the membrane
    slope, width = number(math.pi / 2 * alpha), number(alpha)
    a, b, gate = np.empty(run, y.dtype), np.empty(run, y.dtype), np.empty(run, y.dtype)
    for position in range(run // channels):
        for c in range(channels):
            i = position * channels + c
            a[i], b[i], gate[i] = scale[c], shift[c], alive[c] / area
    for item in prange(groups * segments):
        group, segment = item // segments, item % segments
        n = min(run, used - segment * run)
        pooled = group * (used // side) + segment * (run // side)
        history = np.empty((steps, run), y.dtype)
        u, gv = np.empty(run, y.dtype), np.empty(run, y.dtype)
        total, moment, amount = np.zeros(run, y.dtype), np.zeros(run, y.dtype), np.zeros(run, y.dtype)
        for r in range(side):
            start = ((group // above) * height + (group % above) * side + r) * row + segment * run
            u[:] = zero
            for t in range(steps):
                current, v = y[t * moves, start : start + n], history[t]
                if linear:
                    for i in range(n):
                        u[i] = u[i] - np.copysign(min(abs(u[i]), loss), u[i])
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
            u[:] = zero  # from here on the gradient of the membrane behind the reset
            for t in range(steps - 1, -1, -1):
                v, current = history[t], y[t * moves, start : start + n]
                go = grad_out[t, pooled : pooled + n // side]
                if side == 1:
                    for i in range(n):
                        gv[i] = go[i] * gate[i]
                else:
                    for position in range(n // channels):
                        window = go[position // side * channels : (position // side + 1) * channels]
                        spread = gv[position * channels : (position + 1) * channels]
                        for c in range(channels):
                            spread[c] = window[c] * gate[c]
                if kind == ATAN:
                    for i in range(n):
                        x = slope * (v[i] - theta)
                        gv[i] *= (width / 2) / (one + x * x)
                elif kind == SIGMOID:
                    for i in range(n):
                        p = one / (one + np.exp(-width * (v[i] - theta)))
                        gv[i] *= width * p * (one - p)
                else:
                    for i in range(n):
                        gv[i] *= width * max(zero, one - width * abs(v[i] - theta))
                if to_zero:
                    for i in range(n):
                        gv[i] += zero if v[i] >= theta else u[i]
                else:
                    for i in range(n):
                        gv[i] += u[i]
                if moves == 0:
                    g = grad_current[0, start : start + n]
                    for i in range(n):
                        g[i] += gv[i]
                else:
                    g = grad_current[t, start : start + n]
                    for i in range(n):
                        g[i] = gv[i]
                if len(sums) > 0:
                    for i in range(n):
                        total[i] += gv[i]
                        moment[i] += gv[i] * current[i]
                if t == 0:
                    continue
                before = history[t - 1]
                if linear:
                    for i in range(n):
                        kept = before[i] if before[i] < theta else before[i] * keep - drop
                        u[i] = gv[i] if abs(kept) > loss else zero
                        amount[i] -= u[i] if kept > zero else -u[i]
                else:
                    for i in range(n):
                        kept = before[i] if before[i] < theta else before[i] * keep - drop
                        u[i] = gv[i] * decay
                        amount[i] += gv[i] * kept
        if len(sums) > 0:
            for position in range(n // channels):
                for c in range(channels):
                    sums[item, 0, c] += total[position * channels + c]
                    sums[item, 1, c] += moment[position * channels + c]
        if len(amounts) > 0:
            summed = 0.0
            for i in range(n):
                summed += amount[i]
            amounts[item] = summed


@jit
def norm_gradient(grad: Array, y: Array, by_grad: Array, by_y: Array, constant: Array, run: int) -> None:
    """In place ``grad = by_grad * grad + by_y * y + constant``, channel by channel, over ``[lanes]``."""
    channels = len(by_grad)
    a, b, d = np.empty(run, y.dtype), np.empty(run, y.dtype), np.empty(run, y.dtype)
    for position in range(run // channels):
        for c in range(channels):
            i = position * channels + c
            a[i], b[i], d[i] = by_grad[c], by_y[c], constant[c]
    for item in prange((len(y) + run - 1) // run):
        g, x = grad[item * run : (item + 1) * run], y[item * run : (item + 1) * run]
        for i in range(len(x)):
            g[i] = a[i] * g[i] + b[i] * x[i] + d[i]
