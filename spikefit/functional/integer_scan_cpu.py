"""The neurons of a chip as a numba kernel: integers held by float64, several of which a processor handles at once.

The caller has proved that every value stays below 2**53 in magnitude, so that nothing here rounds but the leak, which
the chip rounds too. :func:`spikefit.deploy.dynamics.run_neurons` is the same in plain torch and int64.
"""

import math
from typing import Any

import numpy as np
from numba import prange

from spikefit.functional.jit import jit, parallel

_SEGMENT = 1024  # lanes of one step: several arrays of this size stay in the first-level cache

Array = np.ndarray[Any, Any]
Rows = tuple[int, int, int, int]  # channels, lanes of a row, height of the map, side of the windows
NONE, DECAY_FLOOR, DECAY_TRUNCATE, LINEAR = range(4)  # leaks
Rule = tuple[int, float, bool, bool, float, float]  # leak, 2**decay_bits, reset to 0, wraps, least and greatest state


@jit
def _charge(v: Array, u: Array, current: Array, b: Array, leak: Array, kept: Array, rule: Rule) -> int:
    """``v``, the leaked ``u`` and the current; how many leave the range. ``1 / 2**decay_bits`` makes exact products."""
    kind, one, _, _, low, high = rule
    share, outside = 1 / one, 0
    if kind == DECAY_FLOOR:
        for i in range(len(v)):
            w = np.floor(u[i] * kept[i] * share) + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    elif kind == DECAY_TRUNCATE:
        for i in range(len(v)):
            w = np.trunc(u[i] * kept[i] * share) + (current[i] + b[i])
            v[i] = w
            outside += (w < low) | (w > high)
    elif kind == LINEAR:
        for i in range(len(v)):
            w = u[i] - np.copysign(min(abs(u[i]), leak[i]), u[i]) + (current[i] + b[i])
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
    _, _, _, wraps, low, high = rule
    if wraps:
        width = high - low + 1
        for i in range(len(v)):
            v[i] = v[i] - width * np.floor((v[i] - low) / width)
    else:
        for i in range(len(v)):
            v[i] = min(max(v[i], low), high)


@jit
def _fire(v: Array, u: Array, theta: Array, to_zero: bool, spikes: Array, counts: Array) -> None:
    for i in range(len(v)):
        spikes[i] = np.float32(1) if v[i] >= theta[i] else np.float32(0)
    for i in range(len(v)):
        counts[i] += spikes[i]
    if to_zero:
        for i in range(len(v)):
            w = v[i]
            u[i] = 0.0 if w >= theta[i] else w
    else:
        for i in range(len(v)):
            w = v[i]
            u[i] = w - theta[i] if w >= theta[i] else w


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
    """A strip of ``side`` rows, in every sample."""
    channels, row, height, side = rows
    lanes = len(counts)
    width = row // channels // side  # in windows; what none covers fires, but is sent nowhere
    image = (height // side) * width * channels if side > 1 else lanes
    moves = 1 if len(y) > 1 else 0
    full = row if side > 1 else min(row, lanes - item * row)
    b, theta, leak, kept = constants[0, :full], constants[1, :full], constants[2, :full], constants[3, :full]
    v, fired = np.empty(full), np.empty(full, np.float32)
    outside = 0
    for sample in range(y.shape[1] // lanes):
        for r in range(min(side, height - item * side) if side > 1 else 1):
            lane = (item * side + r) * row
            first, u, c = sample * lanes + lane, np.zeros(full), counts[lane : lane + full]
            for t in range(len(out)):
                beyond = _charge(v, u, y[t * moves, first : first + full], b, leak, kept, rule)
                if beyond:
                    _bound(v, rule)
                    outside += beyond
                if side == 1:
                    _fire(v, u, theta, rule[2], out[t, first : first + full], c)
                    continue
                _fire(v, u, theta, rule[2], fired, c)
                if item < height // side:
                    start = sample * image + item * width * channels
                    target = out[t, start : start + width * channels]
                    if r == 0:
                        target[:] = np.float32(0)
                    _gather(fired, target, width, side, channels)
    return outside


@parallel
def _all(y: Array, constants: Array, rule: Rule, rows: Rows, out: Array, counts: Array, outside: Array) -> None:
    for item in prange(len(outside)):
        outside[item] = _scan(np.int64(item), y, constants, rule, rows, out, counts)


def integer_scan(
    y: Array, constants: Array, rule: Rule, steps: int, shape: tuple[int, ...], side: int = 1
) -> tuple[Array, Array, int]:
    """Spikes of neurons that are driven by integer currents from rest, summed over windows.

    Args:
        y: float32 or float64 ``[T, B * lanes]``, or ``[1, B * lanes]`` for a current that is the same in every step.
        constants: float64 ``[3, C]``: bias, threshold and leak.
        rule: the leak's kind, ``2**decay_bits``, whether a spike resets to zero, whether the membrane wraps, its range.
        steps: T.
        shape: of one sample, ``(H, W, C)`` or ``(C,)``.
        side: of the windows; 1 for none.

    Returns:
        float32 spikes ``[T, B * lanes]``, or the sums of windows ``[T, B * (H // side) * (W // side) * C]``; how often
        each neuron fired in all samples, float32 ``[lanes]``; and how many membranes left the range.
    """
    lanes, channels = math.prod(shape), shape[-1]
    if side == 1:  # rows of any place: as many as stay in the first-level cache
        row = min(lanes, channels * max(1, _SEGMENT // channels))
        rows, items, sent = (channels, row, 1, 1), -(-lanes // row), lanes
    else:
        height, width, _ = shape
        row = width * channels
        rows, items = (channels, row, height, side), -(-height // side)
        sent = (height // side) * (width // side) * channels
    tiled = np.tile(np.concatenate([constants, rule[1] - constants[2:]]), (1, row // channels))
    counts = np.zeros(lanes, dtype=np.float32)
    out = np.empty((steps, y.shape[1] // lanes * sent), dtype=np.float32)
    outside = np.zeros(items, dtype=np.int64)
    _all(y, tiled, rule, rows, out, counts, outside)
    return out, counts, int(outside.sum())
